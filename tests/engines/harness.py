"""What the conformance suite needs to know of a driver, and the yard in which its cases are played.

A new driver joins by a `Harness` in `HARNESSES`, where its package exists; the cases are the same for all. Each run has
installation names of its own, and takes away all that it made, also where a case failed.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import secrets
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from muelle.engines.fake import FakeEngine, FakeWorld
from muelle.engines.protocol import BuildOrder, Engine, Image
from muelle.engines.recipe import OwnDockerfile, Recipe
from muelle.kit.clock import SystemClock
from tests.engines.programs import Known

CLEARS_WITHIN_SECONDS = 90.0

Make = Callable[[str, Path, str], Engine]
"""An engine of that installation; with a folder for this run, and the server's address where it needs one."""


@dataclass(frozen=True)
class Driver:
    name: str
    make: Make
    needs: str = ""
    """A server, by its name in `tests/servers`."""
    patience_seconds: float = 20.0
    """How long a case waits for what has to come, before it fails."""
    pause_seconds: float = 0.03
    """Between two looks: an engine that is asked without end has no time to do what is waited for."""
    known_reference: str = ""
    """An image that it has or gets without asking anybody, where it has images by reference."""
    missing_reference: str = "127.0.0.1:1/muelle/none:1"
    """One that it finds out in no time that it cannot have: nobody listens there."""


def drivers() -> list[Driver]:
    """Those whose package is here."""
    world = FakeWorld(real_sockets=True)
    known = [
        Driver(
            "fake",
            lambda installation, folder, address: FakeEngine(SystemClock(), installation, world),
            patience_seconds=5.0,
            pause_seconds=0.0,
            known_reference="fake/web",
            missing_reference="missing/none:1",
        ),
        Driver("docker", docker_engine, needs="docker", known_reference="busybox"),
        Driver("local", local_engine),
    ]
    return [driver for driver in known if importlib.util.find_spec(f"muelle.engines.{driver.name}")]


def docker_engine(installation: str, folder: Path, address: str) -> Engine:
    engine: Engine = importlib.import_module("muelle.engines.docker").DockerEngine(address, installation, SystemClock())
    return engine


def local_engine(installation: str, folder: Path, address: str) -> Engine:
    engine: Engine = importlib.import_module("muelle.engines.local").LocalEngine(folder, installation, SystemClock())
    return engine


def parameters() -> list[Any]:
    return [
        pytest.param(driver, id=driver.name, marks=pytest.mark.needs(driver.needs) if driver.needs else ())
        for driver in drivers()
    ]


class Harness:
    """A driver in this run: its engines, and its images, each built once."""

    def __init__(self, driver: Driver, address: str) -> None:
        self.driver = driver
        self.installation = f"test-{secrets.token_hex(4)}"
        self.folder = Path(tempfile.mkdtemp(prefix=f"muelle-{driver.name}-"))
        self._address = address
        self._engines: list[tuple[str, Engine]] = []
        self._images: dict[str, Image] = {}
        self.engine = self.connect()

    def connect(self, installation: str = "") -> Engine:
        """One more engine object: of this run's installation, or of another."""
        installation = installation or self.installation
        engine = self.driver.make(installation, self.folder / "home", self._address)
        self._engines.append((installation, engine))
        return engine

    async def image(self, program: Known) -> str:
        return (await self.built_once(program.name, program.recipe())).id

    async def built_once(self, key: str, recipe: Recipe, **changes: Any) -> Image:
        if key not in self._images:
            self._images[key] = await self.build(recipe, **changes)
        return self._images[key]

    async def build(self, recipe: Recipe | OwnDockerfile, engine: Engine | None = None, **changes: Any) -> Image:
        order = self.build_order(recipe, **changes)
        said: list[str] = []
        try:
            return await (engine or self.engine).build(order, said.append)
        except Exception as problem:
            problem.add_note("\n".join(said[-20:]))
            raise

    def build_order(
        self, recipe: Recipe | OwnDockerfile, source: Mapping[str, str] | None = None, **changes: Any
    ) -> BuildOrder:
        """With a folder of its own, in which that source lies."""
        name = f"build-{secrets.token_hex(6)}"
        folder = self.folder / "sources" / name
        folder.mkdir(parents=True)
        for path, text in (source or {}).items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text)
        return replace(BuildOrder(name, "workload", "ana", folder, recipe), **changes)

    async def close(self) -> None:
        """Takes everything away, in each installation of this run, and says what could not be."""
        problems: list[str] = []
        for installation in dict.fromkeys(name for name, _ in self._engines):
            engine = self.driver.make(installation, self.folder / "home", self._address)
            self._engines.append((installation, engine))
            try:
                async with asyncio.timeout(CLEARS_WITHIN_SECONDS):
                    problems += await cleared(engine)
            except Exception as problem:
                problems.append(f"{installation}: {problem!r}")
        for _, engine in self._engines:
            with suppress(Exception):
                async with asyncio.timeout(5):
                    await engine.close()
        shutil.rmtree(self.folder, ignore_errors=True)
        if problems:
            raise AssertionError("left behind: " + "; ".join(problems))


async def cleared(engine: Engine) -> Sequence[str]:
    """Removes all that an installation has; what is still there is told."""
    for sighting in await engine.observe():
        await engine.remove(sighting.name)
    for volume in await engine.volumes():
        await engine.remove_volume(volume.name)
    for image in await engine.images():
        await engine.remove_image(image.id)
    await engine.tidy()
    left: list[Any] = [*await engine.observe(), *await engine.volumes(), *await engine.images()]
    return [str(one) for one in left]
