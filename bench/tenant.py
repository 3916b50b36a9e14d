"""Somebody who runs workloads on a real `muelle up`, over HTTP as anybody would; and the installation that they use."""

from __future__ import annotations

import asyncio
import secrets
import shutil
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import httpx

from bench import docker
from bench.ground import Ground
from bench.muelle import Muelle, client_from, sign_up
from bench.program import ProgramFailed
from muelle.engines.docker import DockerEngine
from muelle.engines.local import LocalEngine
from muelle.engines.protocol import Engine
from muelle.kit.clock import SystemClock
from muelle.kit.vault import Vault, master_key
from tests.servers.private import free_port

LOOKS_EVERY_SECONDS = 0.05
PATIENCE_SECONDS = 90.0
VISIT_SECONDS = 5.0
LASTING_MINUTES = "1440"
"""A bench may go on for longer than a token is good by default."""
Thing = TypeVar("Thing")


class Cloud(Muelle):
    """A `muelle up` with an engine, and a port at which workloads are reached."""

    def __init__(self, ground: Ground, engine: str, home: str = "home") -> None:
        self.engine = engine
        self.apps_port = free_port()
        self._secret = secrets.token_hex(32)
        host = {"DOCKER_HOST": docker.address()} if engine == "docker" else {}
        super().__init__(
            ground,
            home,
            engine=engine,
            apps_port=str(self.apps_port),
            secret_key=self._secret,
            access_token_minutes=LASTING_MINUTES,
        )
        self._environment.update(host)

    @property
    def installation(self) -> str:
        """What its things in Docker are labelled with: it follows from the secret, as in `app.py`."""
        return Vault(master_key(self._secret, Path())).mac("installation", b"v1")[:12]


@contextmanager
def cloud_on(ground: Ground, engine: str) -> Iterator[Cloud]:
    """With Docker or this machine's processes as its engine. All that it made there is gone afterwards, however it
    ended: neither ends with the program."""
    cloud = Cloud(ground, engine)
    try:
        with cloud:
            yield cloud
    finally:
        ground.logs.mkdir(parents=True, exist_ok=True)
        shutil.copy(cloud.log, ground.logs / f"{ground.folder.name}-muelle.log")
        asyncio.run(_sweep(engine_of(cloud)))


def engine_of(cloud: Cloud) -> Engine:
    """Another hand on the same engine: things are known by the installation's label."""
    if cloud.engine == "docker":
        return DockerEngine(docker.address(), cloud.installation, SystemClock())
    return LocalEngine(cloud.home / "local", cloud.installation, SystemClock())


async def _sweep(engine: Engine) -> None:
    try:
        for sighting in await engine.observe():
            await engine.remove(sighting.name)
        for volume in await engine.volumes():
            await engine.remove_volume(volume.name)
        for image in await engine.images():
            await engine.remove_image(image.id)
        await engine.tidy()
    finally:
        await engine.close()


class Tenant:
    def __init__(self, client: httpx.AsyncClient, cloud: Cloud, name: str) -> None:
        self.client = client
        self.cloud = cloud
        self.name = name

    def host(self, workload: str) -> str:
        return f"{workload}.{self.name}.localhost"

    async def get(self, path: str) -> Any:
        return _well(await self.client.get(path))

    async def post(self, path: str, body: Mapping[str, Any] | None = None) -> Any:
        return _well(await self.client.post(path, json=body or {}))

    async def upload(self, archive: bytes) -> str:
        answer = await self.client.post("/uploads", content=archive)
        return str(_well(answer)["id"])

    async def make(self, name: str, **what: Any) -> str:
        """The id of a new workload; it is on its way."""
        made = await self.post("/workloads", {"name": name, **what})
        return str(made["workload"]["id"])

    async def workload(self, id: str) -> dict[str, Any]:
        return dict(await self.get(f"/workloads/{id}"))

    async def becomes(self, id: str, phase: str, **what: Any) -> dict[str, Any]:
        """Waits until the workload is shown so."""
        wanted = {"phase": phase, **what}

        async def is_so() -> dict[str, Any] | None:
            shown = await self.workload(id)
            if shown["phase"] == "failed" and phase != "failed":
                raise ProgramFailed(f"a workload failed: {shown['why']}")
            return shown if wanted.items() <= shown.items() else None

        return await until(is_so, f"a workload to be {wanted}")

    async def delete(self, id: str) -> None:
        _well(await self.client.delete(f"/workloads/{id}"))

        async def is_gone() -> bool:
            return (await self.client.get(f"/workloads/{id}")).status_code == 404

        await until(is_gone, "a workload to be gone")


@asynccontextmanager
async def tenant(cloud: Cloud, name: str = "ana", place: int = 1) -> AsyncIterator[Tenant]:
    async with client_from(cloud, place) as client:
        tokens = await sign_up(client, name)
        client.headers["Authorization"] = f"Bearer {tokens['access_token']}"
        yield Tenant(client, cloud, name)


async def until(
    look: Callable[[], Awaitable[Thing | None]],
    what: str,
    seconds: float = PATIENCE_SECONDS,
    pause: float = LOOKS_EVERY_SECONDS,
) -> Thing:
    """What `look` finds as soon as that is something."""
    began = time.monotonic()
    while not (found := await look()):
        if time.monotonic() - began > seconds:
            raise ProgramFailed(f"waited {seconds:g} s for {what}")
        await asyncio.sleep(pause)
    return found


async def visit(port: int, host: str = "localhost", address: str = "127.0.0.1") -> tuple[int, bytes]:
    """The status and body of `GET /`; 0 where nobody answers. A connection of its own, as cheap as it can be."""
    try:
        async with asyncio.timeout(VISIT_SECONDS):
            reader, writer = await asyncio.open_connection(address, port)
            try:
                writer.write(f"GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
                head, _, body = (await reader.read(-1)).partition(b"\r\n\r\n")
            finally:
                writer.close()
            return int(head[9:12]), body
    except (OSError, TimeoutError, ValueError):
        return 0, b""


def _well(answer: httpx.Response) -> Any:
    if answer.status_code >= 300:
        path = answer.request.url.path
        raise ProgramFailed(f"{answer.request.method} {path} was answered with {answer.status_code}: {answer.text}")
    return answer.json() if answer.content else {}
