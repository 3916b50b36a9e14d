"""Lives of the workloads room on one home and in one pretended world: each can be killed at any step that it takes.

A step is a call that changes something at the engine, or a commit of the room's, each with a moment before and one
after. Whoever is killed there takes no further step: what still runs of it is cancelled, its database refuses it, and
nothing is told or put in order; the engine's world goes on.
"""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from muelle.engines.fake import FakeEngine, FakeWorld, Moment
from muelle.engines.protocol import Condition
from muelle.kit.bus import Inbox, Outbox
from muelle.kit.bus.memory import MemoryBus
from muelle.kit.clock import Clock, SystemClock
from muelle.kit.db import Transaction, open_database
from muelle.kit.db.migrations import migrate
from muelle.kit.http import Caller
from muelle.kit.http.access import Role
from muelle.kit.http.idempotency import Answers
from muelle.kit.ids import new_id
from muelle.kit.loops import Loop
from muelle.kit.room import Furniture, Room
from muelle.kit.vault import Vault, master_key
from muelle.workloads import queue, store
from muelle.workloads import room as workloads_room
from muelle.workloads.deploying import Change
from muelle.workloads.model import Deployment, Kind, Quota, Release, Spec, Verdict, VolumeAt, Workload
from muelle.workloads.plan import Policy
from muelle.workloads.queue import deployments
from muelle.workloads.sources.model import FileSource, ImageSource, Source
from muelle.workloads.verbs import Verbs
from tests.world import SECRET_KEY

PACE = Policy(settle_seconds=0.04, drain_seconds=0.03, probe_seconds=0.01, watch_seconds=0.02)
INSTALLATION = "test"
ANA = Caller("a" * 24, "ana@example.com", "Ana", Role.CLIENT, False)
PLENTY = Quota(10_000, 10**9, 2**60)
KEEPS_A_LEASE = "Builder._keep"
"""Once a second, so not at the same step each time: no boundary to be counted."""

Boundary = tuple[str, int]
"""What is done, and for which time."""


class Life:
    """One run of the program, from its start until it is killed or stops."""

    def __init__(self, home: Path, world: FakeWorld, clock: Clock | None = None) -> None:
        clock = clock or SystemClock()
        self.world = world
        self.engine = FakeEngine(clock, INSTALLATION, world)
        self.bus = MemoryBus(workloads_room.SUBSCRIPTIONS)
        self.room = make_room(home, clock, self.bus, self.engine)
        assert isinstance(self.room.verbs, Verbs)
        self.verbs = self.room.verbs
        self.core = self.verbs.core
        self.steps: list[Boundary] = []
        """Those that were taken since it was armed."""
        self.ends_at: Boundary | None = None
        self.ended = asyncio.Event()
        self._counts: Counter[str] = Counter()
        self._armed = False
        self._before: set[asyncio.Task[object]] = set()
        self._transaction = self.core.database.transaction
        self.core.database.transaction = self._counted  # type: ignore[method-assign]
        world.on_step = lambda call, moment: self._step(f"{call}, {moment}")

    async def start(self) -> Life:
        """As `app.Application.start` does; the front and the other rooms are left out, for there are many lives."""
        self._before = set(asyncio.all_tasks())
        await migrate(self.core.database, workloads_room.MIGRATIONS)
        await self.room.open()
        for taker in self.room.furniture.inbox.takers():
            self.bus.attach(taker)
        await self.bus.start()
        for loop in self._loops:
            loop.start()
        return self

    async def stop(self) -> None:
        await self.bus.stop()
        await asyncio.gather(*(loop.stop() for loop in self._loops))
        await self.room.close()
        await self.core.database.close()

    @property
    def _loops(self) -> list[Loop]:
        return [*self.room.furniture.loops, *self.room.loops]

    def arm(self, ends_at: Boundary | None = None) -> None:
        """Counts from now on, and ends there."""
        self.steps, self._armed, self.ends_at = [], True, ends_at
        self._counts.clear()

    def disarm(self) -> list[Boundary]:
        self._armed = False
        return self.steps

    async def kill(self) -> None:
        """What the kernel does: nothing of it runs any more, and what it had open is closed."""
        self.ended.set()
        mine = set(asyncio.all_tasks()) - self._before - {asyncio.current_task()}
        for task in mine:
            task.cancel()
        if mine:
            await asyncio.wait(mine, timeout=5)
        await self.verbs.logs.close()
        await self.core.database.close()

    async def _step(self, what: str) -> None:
        if self.ended.is_set():
            raise asyncio.CancelledError
        if not self._armed:
            return
        self._counts[what] += 1
        here = what, self._counts[what]
        self.steps.append(here)
        if here == self.ends_at:
            self.ended.set()
            raise asyncio.CancelledError

    def _counted(self) -> AbstractAsyncContextManager[Transaction]:
        frame = sys._getframe(1)
        ours = str(frame.f_globals["__name__"]).startswith("muelle.workloads.")
        what = frame.f_code.co_qualname if ours else ""
        return self._commit(what if what != KEEPS_A_LEASE else "")

    @asynccontextmanager
    async def _commit(self, what: str) -> AsyncIterator[Transaction]:
        if self.ended.is_set():
            raise asyncio.CancelledError
        async with self._transaction() as tx:
            yield tx
            if self.ended.is_set():
                raise asyncio.CancelledError
            if what:
                await self._step(f"{what}, {Moment.BEFORE}")
        if what:
            await self._step(f"{what}, {Moment.AFTER}")


def make_room(home: Path, clock: Clock, bus: MemoryBus, engine: FakeEngine) -> Room:
    name, process, vault = workloads_room.NAME, new_id(), Vault(master_key(SECRET_KEY, home / "secret.key"))
    database = open_database(name, folder=home)
    furniture = Furniture(
        process=process,
        database=database,
        outbox=Outbox(name, database, bus, clock, process),
        inbox=Inbox(name, database, clock, []),
        answers=Answers(name, database, clock, vault, process),
    )
    rules = workloads_room.Rules(home=home, apps_domain="localhost", apps_port=7080, policy=PACE)
    return workloads_room.build(furniture, clock=clock, vault=vault, engine=engine, rules=rules)


@dataclass(frozen=True)
class State:
    """How a workload is doing, without what is never twice the same."""

    wish: str
    phase: str
    release: int
    serving: str
    """Release and turn of the instance that has the traffic."""
    verdicts: str
    """Of its releases, oldest first: `+` good, `-` bad, `?` unproven."""
    deployments: str
    """Their states, oldest first."""
    runs: tuple[str, ...]
    """The same of each instance that there is; `!` before one that does not run."""
    name: str = "shop"
    volumes: int = 0


GONE = State("", "", 0, "", "", "", (), "")


class Tenant:
    """Somebody with one workload, in whichever life that is."""

    def __init__(self, life: Life, name: str = "shop") -> None:
        self.life = life
        self.name = name
        self.id = ""

    async def make(self, source: str | Source = "fake/web", *, volume: bool = False, template: str = "") -> None:
        async with self.life.core.database.transaction() as tx:
            await store.ensure_owner(tx, ANA.account_id, ANA.email)
            await store.set_quota(tx, ANA.account_id, PLENTY)
        await self.ask_to_make(source, volume=volume, template=template)

    async def ask_to_make(self, source: str | Source = "fake/web", *, volume: bool = False, template: str = "") -> None:
        spec = Spec(volumes=(VolumeAt("data", "/data"),) if volume else (), patience_seconds=2)
        made, _ = await self.life.verbs.deploying.make(
            ANA,
            name=self.name,
            kind=Kind.CONTAINER,
            description="",
            source=source_of(source),
            template=template,
            spec=spec,
        )
        self.id = made.id

    async def deploy(self, source: str | Source = "fake/web", template: str = "") -> None:
        deploying = self.life.verbs.deploying
        await deploying.deploy(ANA, self.id, source=source_of(source), template=template, change=Change())

    async def change(self) -> None:
        await self.life.verbs.deploying.change(ANA, self.id, Change(set_environment={"A": "1"}))

    async def cancel(self) -> None:
        (latest, *_) = await self.deployments()
        await self.life.verbs.deploying.cancel(ANA, latest.id)

    async def start(self) -> None:
        await self.life.verbs.wishes.start(ANA, self.id)

    async def stop(self) -> None:
        await self.life.verbs.wishes.stop(ANA, self.id)

    async def restart(self) -> None:
        await self.life.verbs.wishes.restart(ANA, self.id)

    async def rollback(self, number: int = 0) -> None:
        await self.life.verbs.wishes.rollback(ANA, self.id, number)

    async def rename(self, name: str) -> None:
        await self.life.verbs.wishes.rename(ANA, self.id, name)

    async def remove(self, *, keep_volumes: bool = False) -> None:
        await self.life.verbs.wishes.remove(ANA, self.id, keep_volumes=keep_volumes)

    async def workload(self) -> Workload | None:
        """Its row, found by its name where the answer to its making was never heard."""
        async with self.life.core.database.reading() as reader:
            if not self.id and (found := await store.workload_by_name(reader, ANA.account_id, self.name)):
                self.id = found.id
            return await store.workload_by_id(reader, self.id)

    async def releases(self) -> list[Release]:
        async with self.life.core.database.reading() as reader:
            return await store.list_releases(reader, self.life.core.box, self.id)

    async def deployments(self) -> list[Deployment]:
        async with self.life.core.database.reading() as reader:
            these = deployments.c.workload_id == self.id
            rows = await reader.all(deployments.select().where(these).order_by(deployments.c.id.desc()))
            return [found for row in rows if (found := await queue.by_id(reader, row.id))]

    async def instances(self) -> list[str]:
        estate = self.life.world.estate(INSTALLATION)
        return sorted(name for name, one in estate.instances.items() if one.order.workload == self.id)

    async def state(self) -> State:
        found = await self.workload()
        sightings = self.life.world.look(INSTALLATION, self.id) if self.id else []
        runs = tuple(sorted("!" * (s.condition is not Condition.RUNNING) + turn_of(s.name) for s in sightings))
        volumes = [name for name in self.life.world.estate(INSTALLATION).volumes if self.id and self.id in name]
        marks = {Verdict.GOOD: "+", Verdict.BAD: "-", Verdict.UNPROVEN: "?"}
        if found is None:
            return State("", "", 0, "", "", "", runs, "", len(volumes))
        return State(
            wish=found.wish,
            phase=found.phase,
            release=found.release,
            serving=turn_of(found.serving),
            verdicts="".join(marks[release.verdict] for release in reversed(await self.releases())),
            deployments=" ".join(deployment.state for deployment in reversed(await self.deployments())),
            runs=runs,
            name=found.name.replace(self.name, "shop"),
            volumes=len(volumes),
        )


def turn_of(instance: str) -> str:
    return "-".join(instance.split("-")[-2:])


def source_of(source: str | Source) -> Source:
    return ImageSource(source) if isinstance(source, str) else source


APP = FileSource("app.py", "def microservicio(request):\n    return {}\n")
