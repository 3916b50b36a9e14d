"""A workshop: local engines in a home of the test's own, in each manner that this machine allows."""

from __future__ import annotations

import os
import secrets
import signal
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from muelle.engines.local import LocalEngine, cgroups, processes
from muelle.engines.local.sandbox import find_bubblewrap, write_users
from muelle.engines.protocol import BuildOrder, Condition, Image, Order, Say, Sighting
from muelle.engines.recipe import Recipe, Step, Tool
from muelle.kit.clock import SystemClock
from tests.waiting import eventually

HOG = "x=12345678; i=0; while [ $i -lt 25 ]; do x=$x$x; i=$((i+1)); done; sleep 9"
"""Takes a quarter of a gigabyte and then waits."""
MANNERS = ("plain", "grouped", "sandboxed")


class Workshop:
    def __init__(self, folder: Path, manner: str) -> None:
        self.folder = folder
        self.manner = manner
        self._engines: list[LocalEngine] = []
        self.engine = self.connect()

    @property
    def home(self) -> Path:
        return self.folder / "home" / "test"

    def connect(self) -> LocalEngine:
        engine = LocalEngine(
            self.folder / "home",
            "test",
            SystemClock(),
            sandboxed=self.manner == "sandboxed",
            grouped=self.manner != "plain",
        )
        self._engines.append(engine)
        return engine

    async def built(self, script: str = "", say: Say = lambda _: None, **changes: Any) -> Image:
        """An image whose program is a shell script, unless its recipe says otherwise."""
        told: dict[str, Any] = {"command": ("sh", "app.sh"), "files": {"app.sh": script}, "tool": Tool.NOTHING}
        source: Path | None = changes.pop("source", None)
        owner = changes.pop("owner", "ana")
        order = BuildOrder(f"b-{secrets.token_hex(4)}", "w", owner, source or self.source(), Recipe("script", **told))
        return await self.engine.build(replace(order, recipe=Recipe("script", **{**told, **changes})), say)

    def source(self, **texts: str) -> Path:
        folder = self.folder / f"source-{secrets.token_hex(4)}"
        folder.mkdir()
        for name, text in texts.items():
            (folder / name).write_text(text)
        return folder

    async def created(self, script: str, **changes: Any) -> str:
        image = changes.pop("image", None) or (await self.built(script)).id
        order = Order(f"muelle-{secrets.token_hex(4)}-1-1", "w", "ana", image, **changes)
        await self.engine.create(order)
        return order.name

    async def started(self, script: str, **changes: Any) -> str:
        name = await self.created(script, **changes)
        await self.engine.start(name)
        return name

    async def sighting(self, name: str, engine: LocalEngine | None = None) -> Sighting:
        return next(one for one in await (engine or self.engine).observe() if one.name == name)

    async def ended(self, name: str, engine: LocalEngine | None = None) -> Sighting:
        async def seen() -> Sighting | None:
            sighting = await self.sighting(name, engine)
            return sighting if sighting.condition is Condition.EXITED else None

        found: Sighting = await eventually(seen)
        return found

    async def texts(self, name: str) -> list[str]:
        """What an ended one has written."""
        return [line.text async for line in self.engine.logs(name)]

    async def printed(self, name: str, text: str, engine: LocalEngine | None = None) -> None:
        async for line in (engine or self.engine).logs(name):
            if line.text == text:
                return
        raise AssertionError(f"it ended, and did not print {text!r}")

    def left(self, marker: str) -> list[int]:
        """Processes that have that word in their command line."""
        return [
            int(name)
            for name in os.listdir("/proc")
            if name.isdigit() and marker in words_of(name) and processes.started(int(name)) is not None
        ]

    def keeper(self) -> int:
        """The keeper's pid; 0: there is none."""
        found = [pid for pid in self.left("engines.local.keeper") if str(self.home) in words_of(str(pid))]
        return found[0] if found else 0

    def kill_keeper(self) -> None:
        os.kill(self.keeper(), signal.SIGKILL)

    async def clear(self) -> None:
        last = self.connect()
        for sighting in await last.observe():
            await last.remove(sighting.name)
        for engine in self._engines:
            await engine.close()
        await eventually(lambda: not self.keeper())


def words_of(pid: str) -> str:
    with suppress(OSError):
        return Path("/proc", pid, "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    return ""


@pytest.fixture(params=["plain"])
async def workshop(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Workshop]:
    """As plain processes; in other manners where a test asks for them, with `in_each_manner`."""
    manner: str = request.param
    if hindrance := lacking(manner, tmp_path):
        pytest.skip(hindrance)
    shop = Workshop(tmp_path, manner)
    try:
        yield shop
    finally:
        await shop.clear()


def lacking(manner: str, folder: Path) -> str:
    if manner == "grouped" and cgroups.find(f"muelle-test-{secrets.token_hex(4)}") is None:
        return "no control groups may be made here"
    if manner == "sandboxed":
        write_users(folder / "users")
        if find_bubblewrap(folder / "users") is None:
            return "no bubblewrap, or it is not permitted"
    return ""


def in_each_manner(test: Any) -> Any:
    return pytest.mark.parametrize("workshop", MANNERS, indirect=True)(test)


__all__ = ["Step", "Workshop", "in_each_manner", "workshop"]
