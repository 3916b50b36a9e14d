"""The reconciler: lets the steward look after each workload when something about it may have changed.

Woken for one by its owner's wish, by the engine's events and by the steward's own clock; and every so often it looks at
all of them at once, in one question to the engine, so that nothing depends on any of the three. Workloads are looked
after side by side: one whose program takes ten seconds to stop holds up nobody. Of several replicas one does it.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from contextlib import suppress
from datetime import datetime

import structlog

from muelle.engines.protocol import Condition, EngineUnavailable, Sighting
from muelle.kit.loops import Lease, Loop, pause_before_retry
from muelle.workloads import plan as planning
from muelle.workloads import store
from muelle.workloads.core import Core
from muelle.workloads.model import NO_REASON, Phase
from muelle.workloads.plan import Policy
from muelle.workloads.scribe import Scribe
from muelle.workloads.steward import Steward

PERIOD_SECONDS = 10.0
LEADS_SECONDS = 25.0
"""After its last look at all, a process takes it that another one does it now."""
AT_ONCE = 16
"""Workloads that are worked on at the same moment."""
STRANGER_SECONDS = 60.0
"""How long something that bears our label, and that no row wants, is only reported."""
WATCH_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 10.0
LONGEST_ABSENCE_SECONDS = 3.0
"""Until it is asked again of an engine that was away whether it is back: what ended meanwhile waits for it."""

_log = structlog.get_logger("muelle.workloads")


class Reconciler:
    def __init__(self, core: Core, scribe: Scribe, policy: Policy, lease: Lease) -> None:
        self._core = core
        self._engine = core.engine
        self._steward = Steward(core, scribe, policy, self.wake)
        self._signals: dict[str, asyncio.Event] = {}
        self._tending: dict[str, asyncio.Task[None]] = {}
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._strangers: dict[str, datetime] = {}
        self._watching: asyncio.Task[None] | None = None
        self._led_at: datetime | None = None
        """When this process last looked at all: of several, it is the one that does, for a while after."""
        self.loop = Loop(
            "workloads.reconcile",
            self._look_at_all,
            PERIOD_SECONDS,
            core.clock,
            lease=lease,
            longest_pause=LONGEST_ABSENCE_SECONDS,
        )

    @property
    def strangers(self) -> dict[str, datetime]:
        """What bears our label and belongs to nobody, with the moment at which it was first seen."""
        return dict(self._strangers)

    def wake(self, workload: str) -> None:
        """Has it looked after as soon as possible; again, if that is just being done."""
        if not self._leads():
            return
        self._signals.setdefault(workload, asyncio.Event()).set()
        if workload not in self._tending:
            task = asyncio.create_task(self._tend(workload), name=f"tend {workload}")
            self._tending[workload] = task

    def _leads(self) -> bool:
        if self._led_at is None or not self._core.database.shared:
            return self._led_at is not None
        return (self._core.clock.now() - self._led_at).total_seconds() < LEADS_SECONDS

    async def close(self) -> None:
        self._led_at = None
        tasks = [*self._tending.values(), *([self._watching] if self._watching else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._steward.close()

    async def _tend(self, workload: str) -> None:
        signal, failures = self._signals[workload], 0
        try:
            while True:
                signal.clear()
                try:
                    async with self._turns:
                        again = await self._steward.look_after(workload)
                    failures = 0
                except Exception as problem:
                    failures += 1
                    again = pause_before_retry(failures, LONGEST_PAUSE_SECONDS)
                    known = isinstance(problem, EngineUnavailable)
                    if failures == 1 or not known:
                        error = f"{type(problem).__name__}: {problem}"
                        _log.warning("not looked after", workload=workload, error=error, exc_info=not known)
                if (again is None and not signal.is_set()) or not self._leads():
                    return
                await self._core.clock.wait(signal, again or 0.0)
        finally:
            self._tending.pop(workload, None)
            self._signals.pop(workload, None)

    async def _look_at_all(self) -> bool:
        """Wakes for those with whom something is to be done. One question to the engine, whatever their number."""
        self._led_at = self._core.clock.now()
        if self._watching is None or self._watching.done():
            self._watching = asyncio.create_task(self._watch(), name="watch the engine")
        by_workload: dict[str, list[Sighting]] = defaultdict(list)
        for sighting in await self._engine.observe():
            by_workload[sighting.workload].append(sighting)
        async with self._core.database.reading() as reader:
            known = await store.all_workloads(reader)
            wished = await store.wished_releases(reader)
            releases = await store.known_releases(reader)
        for workload in known:
            if workload.id in self._tending:
                continue
            sightings = planning.names(by_workload[workload.id])
            planned = self._steward.plan(
                workload, sightings, wished.get(workload.id), NO_REASON, releases.get(workload.id, ())
            )
            unseen = (planned.phase, planned.why) != (workload.phase, workload.why)
            built = workload.phase is Phase.BUILDING  # how that goes, this one question does not tell
            if planned.actions or planned.again_seconds is not None or unseen or built:
                self.wake(workload.id)
        ours = {str(workload.id): releases.get(workload.id, ()) for workload in known}
        seen = [sighting for sightings in by_workload.values() for sighting in sightings]
        await self._note_strangers([s for s in seen if planning.is_stranger(s.name, ours.get(s.workload, ()))])
        return False

    async def _watch(self) -> None:
        """Wakes for whom the engine says something has happened; while it does not answer, asks again."""
        while True:
            with suppress(EngineUnavailable):
                async for workload in self._engine.watch():
                    self.wake(workload)
            await self._core.clock.sleep(WATCH_PAUSE_SECONDS)
            self.loop.wake()  # whatever happened while nobody listened

    async def _note_strangers(self, seen: list[Sighting]) -> None:
        """Reports what nobody wants, and after a while stops it. It is removed only on an operator's word."""
        now = self._core.clock.now()
        self._strangers = {s.name: self._strangers.get(s.name, now) for s in seen}
        for sighting in seen:
            since = self._strangers[sighting.name]
            if since == now:
                _log.warning("a stranger bears our label", instance=sighting.name, workload=sighting.workload)
            elif sighting.condition is Condition.RUNNING and (now - since).total_seconds() > STRANGER_SECONDS:
                _log.warning("stranger stopped", instance=sighting.name)
                await self._engine.stop(sighting.name)
