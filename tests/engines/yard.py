"""Where a case plays: it makes instances and looks at them, and all of them are gone when the case is over."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

import httpx
import pytest

from muelle.engines.protocol import Address, Capability, Condition, Engine, Line, Mount, Order, Session, Sighting
from tests.engines.harness import Harness
from tests.engines.programs import VOLUME_PATH, WEB, Known
from tests.waiting import eventually

PORT = 8000
OWNER = "ana"
OTHER_OWNER = "ben"
QUICK_STOP_SECONDS = 0.5
GRACE_SECONDS = 8.0
"""Longer than any well-behaved program here takes, on a busy machine too."""


Shared = dict[str, str]
"""The names of the instances that a driver's cases share."""


class Yard:
    def __init__(self, harness: Harness, shared: Shared) -> None:
        self.harness = harness
        self.engine: Engine = harness.engine
        self.patience = harness.driver.patience_seconds
        self._shared = shared
        self._made: list[str] = []
        self._volumes: list[str] = []

    def need(self, capability: Capability) -> None:
        """This case is about that: the only reason to leave one out."""
        if capability not in self.engine.capabilities:
            pytest.skip(f"{self.engine.name} does not declare {capability.name}")

    async def shared(self, key: str, program: Known = WEB, **changes: Any) -> str:
        """An instance that the cases share which only look at it; it was started once."""
        name = self._shared.get(key, "")
        if not name or await self.sight(name) is None:
            order = await self.order(program, **changes)
            await self.engine.create(order)
            await self.engine.start(order.name)
            self._shared[key] = name = order.name
        return name

    async def shared_web(self) -> str:
        """A web program that answers already."""
        name = await self.shared("web", WEB, port=PORT, environment={"OF_BOTH": "order"})
        await self.get(name)
        return name

    async def shared_ended(self, program: Known) -> str:
        """One that has run to its end."""
        name = await self.shared(program.name, program)
        await self.seen(name, Condition.EXITED)
        return name

    async def order(self, program: Known = WEB, **changes: Any) -> Order:
        workload = changes.pop("workload", "") or f"w{secrets.token_hex(5)}"
        told: dict[str, Any] = {
            "name": f"muelle-{workload}-1-1",
            "workload": workload,
            "owner": OWNER,
            "image": changes.pop("image", "") or await self.harness.image(program),
        }
        return Order(**{**told, **changes})

    async def create(self, program: Known = WEB, **changes: Any) -> str:
        """Made and not started."""
        order = await self.order(program, **changes)
        await self.create_as(order)
        return order.name

    async def create_as(self, order: Order) -> None:
        self._made.append(order.name)
        self._volumes += [mount.volume for mount in order.mounts]
        await self.engine.create(order)

    async def run(self, program: Known = WEB, **changes: Any) -> str:
        name = await self.create(program, **changes)
        await self.engine.start(name)
        return name

    async def run_to_end(self, program: Known, **changes: Any) -> Sighting:
        return await self.seen(await self.run(program, **changes), Condition.EXITED)

    async def web(self, **changes: Any) -> str:
        """A web program that answers already."""
        name = await self.run(WEB, **{"port": PORT, **changes})
        await self.get(name)
        return name

    async def stop_quickly(self, name: str) -> None:
        await self.engine.stop(name, QUICK_STOP_SECONDS)

    async def sight(self, name: str, engine: Engine | None = None) -> Sighting | None:
        found = [sighting for sighting in await (engine or self.engine).observe() if sighting.name == name]
        assert len(found) <= 1
        return found[0] if found else None

    async def seen(self, name: str, condition: Condition) -> Sighting:
        async def there() -> Sighting | None:
            sighting = await self.sight(name)
            if sighting is not None and sighting.condition is condition:
                return sighting
            await asyncio.sleep(self.harness.driver.pause_seconds)
            return None

        found: Sighting = await eventually(there, self.patience)
        return found

    async def address(self, name: str) -> Address:
        sighting = await self.sight(name)
        assert sighting is not None
        assert sighting.address is not None
        return sighting.address

    async def get(self, name: str, path: str = "/") -> httpx.Response:
        """What it answers, as soon as it does."""

        async def answer() -> httpx.Response:
            address = await self.address(name)
            try:
                return await client.get(f"http://{address.host}:{address.port}{path}")
            except httpx.HTTPError:
                await asyncio.sleep(self.harness.driver.pause_seconds)
                raise

        async with httpx.AsyncClient(trust_env=False, timeout=5.0) as client:
            return await eventually(answer, self.patience)

    async def environment(self, name: str) -> dict[str, str]:
        told: dict[str, str] = (await self.get(name)).json()["environment"]
        return told

    async def lines(self, name: str, since: datetime | None = None) -> list[Line]:
        """All that it printed; it has ended, or soon will."""
        async with asyncio.timeout(self.patience):
            return [line async for line in self.engine.logs(name, since)]

    async def texts(self, name: str) -> list[str]:
        return [line.text for line in await self.lines(name)]

    async def printed(self, name: str, text: str) -> Line:
        """Waits until it has printed that line."""
        async with asyncio.timeout(self.patience):
            async for line in self.engine.logs(name):
                if line.text == text:
                    return line
        raise AssertionError(f"it ended, and did not print {text!r}")

    def volume(self, owner: str = OWNER) -> Mount:
        return Mount(f"muelle-{owner}-{secrets.token_hex(4)}", VOLUME_PATH)

    def also_remove_volume(self, name: str) -> None:
        self._volumes.append(name)

    async def output(self, session: Session, until: bytes = b"") -> bytes:
        """What a session says: up to that, or to its end."""
        said = b""
        async with asyncio.timeout(self.patience):
            while data := await session.read():
                said += data
                if until and until in said:
                    break
        return said

    async def clear(self) -> None:
        for name in dict.fromkeys(self._made):
            await self.engine.remove(name)
        for volume in dict.fromkeys(self._volumes):
            await self.engine.remove_volume(volume)


@asynccontextmanager
async def open_yard(harness: Harness, shared: Shared) -> AsyncIterator[Yard]:
    yard = Yard(harness, shared)
    try:
        yield yard
    finally:
        async with asyncio.timeout(60):
            await yard.clear()
