"""Where the driver's own tests play: an engine, the daemon asked directly, and a clean place afterwards."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

from muelle.engines.docker import DockerEngine
from muelle.engines.docker.names import INSTALLATION, Names
from muelle.engines.protocol import BuildOrder, Condition, Image, Order, Sighting
from muelle.engines.recipe import OwnDockerfile, Recipe
from muelle.kit.clock import SystemClock
from tests.waiting import eventually

IMAGE = "python:3.12-slim"
PATIENCE_SECONDS = 30.0
LIVES_SECONDS = 120


class Quay:
    def __init__(self, address: str, installation: str, folder: Path, client: httpx.AsyncClient) -> None:
        self.address = address
        self.installation = installation
        self.names = Names(installation)
        self.folder = folder
        self._client = client
        self._engines: list[DockerEngine] = []
        self._networks: list[str] = []
        self.engine = self.connect()

    def connect(self, address: str = "", **settings: Any) -> DockerEngine:
        engine = DockerEngine(address or self.address, self.installation, SystemClock(), **settings)
        self._engines.append(engine)
        return engine

    async def ask(self, method: str, path: str, body: Any = None, **params: Any) -> Any:
        """The daemon's own answer."""
        given = {key: value if isinstance(value, str) else json.dumps(value) for key, value in params.items()}
        response = await self._client.request(method, path, json=body, params=given)
        response.raise_for_status()
        return response.json() if response.content else None

    async def inspect(self, name: str) -> Any:
        return await self.ask("GET", f"/containers/{self.names.container(name)}/json")

    async def image(self, reference: str = IMAGE) -> str:
        return (await self.engine.resolve(reference, None, lambda line: None)).id

    async def create(self, script: str = "", **changes: Any) -> str:
        """An instance that runs that Python, and is bounded in itself."""
        name = changes.setdefault("name", f"i{secrets.token_hex(4)}")
        told = {
            "workload": "work",
            "owner": "ana",
            "image": await self.image(),
            "command": ("python3", "-uc", f"import signal, time\nsignal.alarm({LIVES_SECONDS})\n{script}"),
        }
        engine = changes.pop("engine", self.engine)
        await engine.create(Order(**{**told, **changes}))
        return str(name)

    async def run(self, script: str = "", **changes: Any) -> str:
        name = await self.create(script, **changes)
        await changes.get("engine", self.engine).start(name)
        return name

    async def sight(self, name: str) -> Sighting | None:
        return next((one for one in await self.engine.observe() if one.name == name), None)

    async def ended(self, name: str) -> list[str]:
        """What it printed."""

        async def look() -> bool:
            seen = await self.sight(name)
            return seen is not None and seen.condition is Condition.EXITED

        await eventually(look, PATIENCE_SECONDS, pause=0.05)
        return [line.text async for line in self.engine.logs(name)]

    async def printed(self, script: str = "", **changes: Any) -> list[str]:
        return await self.ended(await self.run(script, **changes))

    def order(
        self, recipe: Recipe | OwnDockerfile, source: Mapping[str, str] | None = None, **changes: Any
    ) -> BuildOrder:
        name = f"b{secrets.token_hex(4)}"
        folder = self.folder / name
        folder.mkdir()
        for path, text in (source or {}).items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text)
        return BuildOrder(name, "work", "ana", folder, recipe, **changes)

    async def build(self, order: BuildOrder, said: list[str] | None = None) -> Image:
        lines: list[str] = [] if said is None else said
        try:
            return await self.engine.build(order, lines.append)
        except Exception as problem:
            problem.add_note("\n".join(lines[-20:]))
            raise

    async def own(self, dockerfile: str, source: Mapping[str, str] | None = None, **changes: Any) -> Image:
        return await self.build(self.order(OwnDockerfile(), {**(source or {}), "Dockerfile": dockerfile}, **changes))

    async def get(self, name: str, path: str = "/") -> httpx.Response:
        async def answer() -> httpx.Response:
            seen = await self.sight(name)
            assert seen is not None
            assert seen.address is not None, seen
            return await client.get(f"http://{seen.address.host}:{seen.address.port}{path}")

        async with httpx.AsyncClient(trust_env=False, timeout=5.0) as client:
            return await eventually(answer, PATIENCE_SECONDS, pause=0.05)

    async def strange_network(self, subnet: str) -> str:
        """Somebody else's."""
        name = f"strange-{secrets.token_hex(4)}"
        self._networks.append(name)
        ipam = {"Config": [{"Subnet": subnet}]}
        await self.ask("POST", "/networks/create", {"Name": name, "Driver": "bridge", "IPAM": ipam})
        return name

    async def networks(self) -> list[Any]:
        listed: list[Any] = await self.ask("GET", "/networks", filters=self._ours())
        return listed

    def _ours(self, **more: list[str]) -> dict[str, list[str]]:
        return {"label": [f"{INSTALLATION}={self.installation}"], **more}

    async def clear(self) -> None:
        """By label and by the daemon alone: also what a broken driver has left."""
        for one in await self.ask("GET", "/containers/json", all="1", filters=self._ours()):
            await self._drop(f"/containers/{one['Id']}", force="1", v="1")
        for volume in (await self.ask("GET", "/volumes", filters=self._ours()))["Volumes"] or []:
            await self._drop(f"/volumes/{volume['Name']}")
        for name in [*self._networks, *(network["Id"] for network in await self.networks())]:
            await self._drop(f"/networks/{name}")
        while images := await self.ask("GET", "/images/json", filters=self._ours()):
            dropped = [await self._drop(f"/images/{image['Id']}", force="1") for image in images]
            if not any(dropped):
                break
        await self.engine.tidy()  # takes its rules away
        for engine in self._engines:
            await engine.close()

    async def _drop(self, path: str, **params: str) -> bool:
        return (await self._client.request("DELETE", path, params=params)).is_success


@asynccontextmanager
async def open_quay(address: str, installation: str, folder: Path) -> AsyncIterator[Quay]:
    transport = httpx.AsyncHTTPTransport(uds=address.removeprefix("unix://"))
    async with httpx.AsyncClient(transport=transport, base_url="http://docker", timeout=60.0) as client:
        quay = Quay(address, installation, folder, client)
        try:
            yield quay
        finally:
            await asyncio.shield(quay.clear())
