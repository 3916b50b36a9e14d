"""Once a minute: what each running workload has used since the minute before is kept.

The hour that is going on is held in memory and written as a whole each minute, so that it need not be read for that.
Of several replicas one does it; who takes over reads first what the other has written.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from muelle.engines.protocol import Condition
from muelle.kit.loops import Lease, Loop
from muelle.workloads.core import Core
from muelle.workloads.metrics import store
from muelle.workloads.metrics.meter import Meter
from muelle.workloads.metrics.packed import Hour
from muelle.workloads.metrics.rates import Rates

MINUTE = 60
HOUR = 3600
KEPT_DAYS = 30


class Recorder:
    def __init__(self, core: Core, lease: Lease) -> None:
        self._core = core
        self._meter = Meter(core.engine)
        self._hour = -1
        self._hours: dict[str, Hour] = {}
        self._minute = -1
        """The last one that was kept, counted from 1970 on."""
        self.loop = Loop("workloads.usage", self._record, float(MINUTE), core.clock, lease=lease)

    async def _record(self) -> bool:
        now = self._core.clock.now()
        minute = int(now.timestamp()) // MINUTE
        self.loop.wake_at(datetime.fromtimestamp((minute + 1) * MINUTE, now.tzinfo) + timedelta(milliseconds=1))
        if minute == self._minute:
            return False
        measured = await self._measure()
        if minute != self._minute + 1 or self._hour != minute // MINUTE:
            await self._turn_to(minute // MINUTE)
        for id, rates in measured.items():
            self._hours.setdefault(id, Hour()).put(minute % MINUTE, rates)
        packed = {id: self._hours[id].packed() for id in measured}
        async with self._core.database.transaction() as tx:
            await store.keep(tx, self._hour, packed)
        self._minute = minute
        return False

    async def _measure(self) -> dict[str, Rates]:
        """By workload."""
        async with self._core.database.reading() as reader:
            serving = await store.serving(reader)
        seen = await self._core.engine.observe() if serving else ()
        running = [one for one in seen if one.condition is Condition.RUNNING and one.name in serving]
        told = await self._meter.read(running)
        self._meter.forget_all_but(frozenset(one.name for one in running))
        return {serving[name]: rates for name, rates in told.items()}

    async def _turn_to(self, hour: int) -> None:
        """An hour has begun, or somebody else may have kept minutes of this one."""
        async with self._core.database.transaction() as tx:
            await store.clean(tx, hour - KEPT_DAYS * 24)
            self._hours = {id: Hour(data) for id, data in (await store.of_hour(tx, hour)).items()}
        self._hour = hour
