"""Live: measures what somebody watches, every four seconds, once for all who watch the same; and nothing else."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from datetime import datetime, timedelta

from pydantic import BaseModel

from muelle.engines.protocol import Condition, Sighting
from muelle.kit.http.broadcast import Broadcast
from muelle.kit.http.streams import Batch, Event
from muelle.kit.loops import Loop
from muelle.workloads.core import Core
from muelle.workloads.metrics import store
from muelle.workloads.metrics.meter import Meter
from muelle.workloads.metrics.rates import Measured

LIVE = timedelta(seconds=4)
FIRST = timedelta(seconds=1)
"""A first reading tells nothing yet: the second comes sooner."""
IDLE_SECONDS = 3600.0
FEW = 8
"""Up to so many workloads are looked at one by one; for more, one look at all there is costs less."""
KEPT_EVENTS, KEPT_BYTES = 16, 8 * 1024


class Watching:
    def __init__(self, core: Core, run: str, show: Callable[[Measured], BaseModel]) -> None:
        self._core = core
        self._show = show
        self._meter = Meter(core.engine)
        self._broadcast = Broadcast(run, kept_events=KEPT_EVENTS, kept_bytes=KEPT_BYTES)
        self._watchers: Counter[str] = Counter()
        self._due: dict[str, datetime] = {}
        self.loop = Loop("workloads.usage.live", self._look, IDLE_SECONDS, core.clock, longest_pause=LIVE.seconds)

    async def follow(self, id: str, last: str | None) -> AsyncGenerator[Batch, None]:
        self._watchers[id] += 1
        if id not in self._due:
            self._due[id] = self._core.clock.now()
            self.loop.wake()
        try:
            async with aclosing(self._broadcast.subscribe(id, last)) as batches:
                async for batch in batches:
                    yield batch
        finally:
            self._watchers[id] -= 1
            if not self._watchers[id]:
                del self._watchers[id], self._due[id]

    async def _look(self) -> bool:
        """At those whose time has come."""
        now = self._core.clock.now()
        due = [id for id, moment in self._due.items() if moment <= now]
        for id in due:
            self._due[id] = now + LIVE
        try:
            await self._tell(due, now)
        finally:
            if self._due:
                self.loop.wake_at(min(self._due.values()))
        return False

    async def _tell(self, due: Sequence[str], now: datetime) -> None:
        if not due:
            return
        async with self._core.database.reading() as reader:
            serving = await store.serving(reader, self._watchers)
        running = [one for one in await self._seen(due) if serving.get(one.name) in due and _runs(one)]
        told = await self._meter.read(running)
        self._meter.forget_all_but(frozenset(serving))
        for one in running:
            id = serving[one.name]
            if one.name in told:
                uptime = now - (one.started_at or now)
                measured = Measured(now, told[one.name], max(0, round(uptime.total_seconds())))
                self._broadcast.publish(id, Event("metrics", self._show(measured)))
            elif id in self._due:
                self._due[id] = now + FIRST

    async def _seen(self, due: Sequence[str]) -> list[Sighting]:
        if len(due) > FEW:
            return list(await self._core.engine.observe())
        return [sighting for id in due for sighting in await self._core.engine.observe(id)]


def _runs(sighting: Sighting) -> bool:
    return sighting.condition is Condition.RUNNING
