"""The steward: sees to it that a workload becomes what is wished of it.

Looks, plans, acts, and looks again, until there is nothing to do; then says when to come back though nothing happened.
What it knows beside the database and the engine (how probes went, what is just being ended, what the engine refused) it
can forget at any moment: it is found out again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Container
from dataclasses import replace
from datetime import datetime

import structlog

from muelle.engines.protocol import (
    CannotDo,
    Condition,
    ImageMissing,
    InstanceRefused,
    Mount,
    NoSuchInstance,
    Order,
    Sighting,
)
from muelle.events import ReleaseJudged
from muelle.workloads import plan as planning
from muelle.workloads import queue, store
from muelle.workloads.core import Core
from muelle.workloads.model import (
    DeploymentState,
    Phase,
    Release,
    Verdict,
    Why,
    Wish,
    Workload,
    WorkloadId,
    release_of,
    turn_for,
    volume_name,
)
from muelle.workloads.plan import (
    UNKNOWN,
    Action,
    Create,
    End,
    Forget,
    Health,
    Judge,
    Plan,
    Policy,
    Probe,
    Seen,
    Start,
    Switch,
)
from muelle.workloads.probe import probe
from muelle.workloads.scribe import Scribe

STOP_SECONDS = 10.0
MOST_ROUNDS = 100
"""Actions in a row without a pause: more would be a plan that goes in circles."""
STABLE_SECONDS = 60.0
"""One that has run so long may crash once more and be started again at once."""

_log = structlog.get_logger("muelle.workloads")


class Steward:
    def __init__(self, core: Core, scribe: Scribe, policy: Policy, ended: Callable[[str], None]) -> None:
        """`ended` is told a workload when something that was begun for it is over."""
        self._core = core
        self._engine = core.engine
        self._scribe = scribe
        self._policy = policy
        self._ended = ended
        self._health: dict[str, Health] = {}
        self._counted: dict[str, datetime] = {}
        self._refused: dict[str, Sighting] = {}
        self._ending: dict[str, asyncio.Task[None]] = {}

    async def close(self) -> None:
        for task in self._ending.values():
            task.cancel()
        await asyncio.gather(*self._ending.values(), return_exceptions=True)

    async def look_after(self, id: str) -> float | None:
        """Does what is to be done now; returns in how many seconds to come back, if that is known."""
        for _ in range(MOST_ROUNDS):
            workload = await self._read(id)
            if workload is None:
                self._forget(id)
                return None
            sightings = planning.names(await self._engine.observe(id))
            self._scribe.attend(id, sightings.values())
            now_planned = self.plan(workload, sightings, *await self._background(workload))
            workload = await self._show(workload, now_planned, sightings)
            actions = [action for action in now_planned.actions if not self._under_way(action)]
            if not actions:
                return now_planned.again_seconds
            for action in actions:
                await self._do(action, workload)
        _log.error("a plan goes in circles", workload=id)
        return self._policy.watch_seconds

    def plan(
        self,
        workload: Workload,
        sightings: dict[str, Sighting],
        wished: Release | None,
        deployment: Why | None,
        known: Container[int] | None = None,
    ) -> Plan:
        """What would be done for it now."""
        for name, refused in self._refused.items():
            if refused.workload == workload.id:
                sightings.setdefault(name, refused)
        self._count_ends(sightings)
        seen = Seen(self._core.clock.now(), wished, sightings, self._health, deployment, frozenset(self._ending), known)
        return planning.plan(workload, seen, self._policy)

    async def _background(self, workload: Workload) -> tuple[Release | None, Why | None, Container[int]]:
        """The wished release; where there is none yet, how its deployment is doing; and the numbers of all."""
        async with self._core.database.reading() as reader:
            known = (await store.known_releases(reader, workload.id)).get(workload.id, ())
            if wished := await store.release_by_number(reader, self._core.box, workload.id, workload.release):
                return wished, None, known
            latest = await queue.latest(reader, workload.id)
        if latest is None:
            return None, None, known
        over = latest.state in (DeploymentState.FAILED, DeploymentState.CANCELLED)
        return None, latest.why if over else Why("", "It is being built."), known

    async def _read(self, id: str) -> Workload | None:
        async with self._core.database.reading() as reader:
            return await store.workload_by_id(reader, id)

    def _under_way(self, action: Action) -> bool:
        return isinstance(action, End) and action.name in self._ending

    async def _show(self, workload: Workload, planned: Plan, sightings: dict[str, Sighting]) -> Workload:
        """Writes down how it is doing and where it is reached, when that has changed, and tells everybody."""
        serving = sightings.get(workload.serving)
        runs = serving is not None and serving.condition is Condition.RUNNING and serving.address is not None
        address = f"{serving.address.host}:{serving.address.port}" if runs and serving and serving.address else ""
        if (planned.phase, planned.why, address) == (workload.phase, workload.why, workload.address):
            return workload
        async with self._core.database.transaction() as tx:
            if crashed := planned.phase is Phase.FAILING and workload.phase is not Phase.FAILING:
                await self._core.note(tx, workload, "crashed", release=workload.release, why=planned.why)
            await store.change_workload(
                tx,
                workload.id,
                phase=planned.phase,
                why_code=planned.why.code,
                why_words=planned.why.words,
                address=address,
            )
            shown = await store.workload_by_id(tx, workload.id)
            if shown is not None:
                await self._core.tell(tx, shown)
        _log.info("workload", workload=workload.id, phase=planned.phase, why=planned.why.words, crashed=crashed)
        return shown or workload

    async def _do(self, action: Action, workload: Workload) -> None:
        match action:
            case Create(release):
                await self._create(workload, release)
            case Start(name):
                await self._start(name)
            case Probe(name, address, port, started_at):
                self._note_probe(name, started_at, await probe(address, port))
            case Judge(release=number, verdict=verdict, why=why):
                await self._judge(workload, number, verdict, why)
            case Switch(name):
                await self._switch(workload, name)
            case End():
                self._end(workload.id, action)
            case Forget():
                await self._remove(workload)

    async def _create(self, workload: Workload, release: Release) -> None:
        order = order_for(workload, release)
        try:
            await self._engine.create(order)
        except (CannotDo, InstanceRefused, ImageMissing) as refusal:
            self._refuse(workload.id, order.name, refusal.message)

    async def _start(self, name: str) -> None:
        if self._refused.pop(name, None):
            return  # it was never made: the next look finds it missing, and makes it
        try:
            await self._engine.start(name)
        except NoSuchInstance:
            return  # somebody was faster; the next look says what is there

    def _refuse(self, workload: str, name: str, reason: str) -> None:
        now = self._core.clock.now()
        self._refused[name] = Sighting(name, workload, Condition.EXITED, ended_at=now, reason=reason)

    def _note_probe(self, name: str, started_at: datetime | None, trouble: Why) -> None:
        known = self._health.get(name, UNKNOWN)
        now = self._core.clock.now()
        since = known.answers_since if known.started_at == started_at else None
        self._health[name] = replace(
            known,
            started_at=started_at,
            looked_at=now,
            trouble=trouble,
            answers_since=None if trouble.code else since or now,
        )

    def _count_ends(self, sightings: dict[str, Sighting]) -> None:
        """How often each has ended by itself without having run well for long in between."""
        for name, sighting in sightings.items():
            at = sighting.ended_at
            if sighting.condition is not Condition.EXITED or at is None or self._counted.get(name) == at:
                continue
            known = self._health.get(name, UNKNOWN)
            lived = (at - sighting.started_at).total_seconds() if sighting.started_at else 0.0
            self._health[name] = Health(ends=1 if lived > STABLE_SECONDS else known.ends + 1)
            self._counted[name] = at

    async def _judge(self, workload: Workload, number: int, verdict: Verdict, why: Why) -> None:
        good = verdict is Verdict.GOOD
        async with self._core.database.transaction() as tx:
            now = await store.lock_workload(tx, workload.id)
            if now is None or not await store.judge(tx, workload.id, number, verdict, why):
                return
            await self._core.note(tx, workload, "proved good" if good else "failed", release=number, why=why)
            if good and now.release == number:
                await self._core.change(tx, now, good=number)
            elif now.release == number and (back := fallback(now, number)):
                await self._core.change(tx, now, release=back, turn=turn_for(now, back))
            await self._core.outbox.emit(
                tx,
                ReleaseJudged(
                    workload_id=workload.id,
                    owner_id=workload.owner_id,
                    release=number,
                    verdict="good" if good else "bad",
                    code=why.code,
                    why=why.words,
                ),
            )

    async def _switch(self, workload: Workload, name: str) -> None:
        async with self._core.database.transaction() as tx:
            now = await store.lock_workload(tx, workload.id)
            if now is None or (name and (now.wish is not Wish.RUNNING or now.target != name)):
                return
            values = {"serving": name, "switched_at": self._core.clock.now()}
            await self._core.change(tx, now, **values, **({} if name else {"address": ""}))
            if name and release_of(name) != release_of(now.serving):
                await self._core.note(tx, now, "switched", release=release_of(name))

    def _end(self, workload: WorkloadId, action: End) -> None:
        """In the background: a program may take its time, and others are to be looked after."""
        name = action.name
        if self._refused.pop(name, None):
            return

        async def end() -> None:
            try:
                if action.runs:
                    await self._engine.stop(name, STOP_SECONDS)
                if action.keeps:
                    return
                await self._scribe.hear_out(name)
                await self._engine.remove(name)
            except Exception as problem:
                _log.warning("not ended", instance=name, error=f"{type(problem).__name__}: {problem}")
                await self._core.clock.sleep(1.0)
            finally:
                self._ending.pop(name, None)
                self._health.pop(name, None)
                self._counted.pop(name, None)
                self._ended(workload)

        self._ending[name] = asyncio.create_task(end(), name=f"end {name}")

    async def _remove(self, workload: Workload) -> None:
        """The last step: its volumes, if they shall go, and then all that is known of it."""
        if not workload.keep_volumes:
            async with self._core.database.reading() as reader:
                known = await store.list_releases(reader, self._core.box, workload.id)
            for volume in sorted({volume.name for release in known for volume in release.spec.volumes}):
                await self._engine.remove_volume(volume_name(workload.id, volume))
        async with self._core.database.reading() as reader:
            timelines = await queue.ids_of(reader, workload.id)
        await self._scribe.forget([workload.id, *timelines])  # while the row says that it is to be done
        async with self._core.database.transaction() as tx:
            await self._core.tell(tx, replace(workload, version=workload.version + 1), gone=True)
            await store.remove_workload(tx, workload.id)

    def _forget(self, id: str) -> None:
        for known in (self._health, self._counted, self._refused):
            for name in [name for name in known if name.startswith(f"muelle-{id}-")]:
                known.pop(name, None)


def fallback(workload: Workload, bad: int) -> int:
    """What is wished again: the release that has the traffic, even if it is on trial itself, else the last good one."""
    serving = release_of(workload.serving)
    return serving if serving and serving != bad else workload.good


def order_for(workload: Workload, release: Release) -> Order:
    spec = release.spec
    return Order(
        name=workload.target,
        workload=workload.id,
        owner=workload.owner_id,
        image=release.image,
        command=spec.command,
        environment=spec.environment,
        port=spec.port,
        limits=spec.limits,
        mounts=tuple(Mount(volume_name(workload.id, volume.name), volume.path) for volume in spec.volumes),
        aliases=(workload.name,),
    )
