"""The program is killed at every boundary of every story, comes up again, and what was wished is so.

A story is one request and all that follows from it. It is told once to find its boundaries: before and after each call
that changes something at the engine, and before and after each commit. Then it is told once for each, and killed there.
Where the request had been committed, what it wished comes true; else everything is as it was before. Nothing is left
over, nothing is there twice, and the workload beside it is not touched.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from muelle.engines.fake import FakeWorld
from muelle.workloads import store
from tests.waiting import eventually
from tests.workloads.lives import APP, GONE, INSTALLATION, Boundary, Life, State, Tenant

CONVERGES_WITHIN_SECONDS = 15.0
"""On a loaded machine; a few tenths of a second on a free one."""

Act = Callable[[Tenant], Awaitable[None]]

ONE = State("running", "running", 1, "1-1", "+", "released", ("1-1",))
TWO = State("running", "running", 2, "2-1", "++", "released released", ("2-1",))
ONE_ON_DISK = replace(ONE, volumes=1)


@dataclass(frozen=True)
class Story:
    act: Act
    before: State
    """What it begins with, and what is so again if the request was lost."""
    after: State
    points: int
    """How many boundaries it has at least."""
    prepare: Act = Tenant.make
    lost: State | None = None
    """What is so in the end if the request was lost, where that is not how it was before."""
    alone: bool = False
    """Whether it cannot be prepared for all boundaries at once."""


async def with_two(tenant: Tenant) -> None:
    await tenant.make()
    await becomes(tenant, ONE)
    await tenant.deploy()


async def on_disk(tenant: Tenant) -> None:
    await tenant.make(volume=True)


async def being_built(tenant: Tenant) -> None:
    tenant.life.world.hang("build")
    await tenant.make(APP, template="function")


async def nothing(_tenant: Tenant) -> None: ...


BUILDING = State("running", "building", 0, "", "", "building", ())
BAD_AFTER_GOOD = replace(ONE, verdicts="+-", deployments="released released")

STORIES = {
    "create": Story(Tenant.ask_to_make, GONE, ONE, 12, prepare=nothing),
    "create bad": Story(
        lambda ana: ana.ask_to_make("fake/crash"),
        GONE,
        State("running", "failed", 1, "", "-", "released", ()),
        12,
        prepare=nothing,
    ),
    "deploy good": Story(Tenant.deploy, ONE, TWO, 14),
    "deploy bad": Story(lambda ana: ana.deploy("fake/crash"), ONE, BAD_AFTER_GOOD, 12),
    "deploy on a volume": Story(Tenant.deploy, ONE_ON_DISK, replace(TWO, volumes=1), 14, prepare=on_disk),
    "deploy bad on a volume": Story(
        lambda ana: ana.deploy("fake/crash"),
        ONE_ON_DISK,
        replace(BAD_AFTER_GOOD, serving="1-2", runs=("1-2",), volumes=1),
        16,
        prepare=on_disk,
    ),
    "rollback": Story(
        lambda ana: ana.rollback(1), TWO, replace(TWO, release=1, serving="1-2", runs=("1-2",)), 10, prepare=with_two
    ),
    "stop": Story(Tenant.stop, ONE, State("stopped", "stopped", 1, "", "+", "released", ()), 6),
    "restart": Story(Tenant.restart, ONE, replace(ONE, serving="1-2", runs=("1-2",)), 10),
    "rename": Story(lambda ana: ana.rename(f"{ana.name}-new"), ONE, replace(ONE, name="shop-new"), 2),
    "settings": Story(Tenant.change, ONE, replace(TWO, deployments="released"), 10),
    "delete with volume": Story(Tenant.remove, ONE_ON_DISK, GONE, 8, prepare=on_disk),
    "delete, keeping the volume": Story(
        lambda ana: ana.remove(keep_volumes=True), ONE_ON_DISK, replace(GONE, volumes=1), 6, prepare=on_disk
    ),
    "build": Story(lambda ana: ana.ask_to_make(APP, template="function"), GONE, ONE, 12, prepare=nothing),
    "cancel": Story(
        Tenant.cancel,
        BUILDING,
        State("running", "failed", 0, "", "", "cancelled", ()),
        4,
        prepare=being_built,
        lost=ONE,
        alone=True,
    ),
}


def test_there_are_enough_of_them() -> None:
    assert sum(story.points for story in STORIES.values()) >= 140


@pytest.mark.parametrize("name", STORIES, ids=[f"{name}-{story.points}" for name, story in STORIES.items()])
async def test_it_is_killed_at_every_boundary_and_converges(name: str, tmp_path: Path) -> None:
    story, world = STORIES[name], FakeWorld(real_sockets=True)
    async with lives(tmp_path / "home", world) as alive:
        bystander = Tenant(alive(), "bystander")
        await bystander.make()
        await becomes(bystander, ONE)
        beside = await bystander.instances()
        boundaries = await tell(story, await prepared(story, Tenant(alive(), "untold")))
        world.heal()
        assert len(boundaries) >= story.points, boundaries
        tenants = [Tenant(alive(), f"told-{number}") for number in range(len(boundaries))]
        if not story.alone:
            for tenant in tenants:
                await story.prepare(tenant)
            for tenant in tenants:
                await becomes(tenant, story.before)
        reached = 0
        for tenant, boundary in zip(tenants, boundaries, strict=True):
            tenant.life = alive()
            if story.alone:
                await prepared(story, tenant)
            steps = await tell(story, tenant, ends_at=boundary)
            if alive().ended.is_set():
                reached += 1
                await alive().kill()
                world.heal()
                tenant.life = await alive.anew()
            await check(story, tenant, steps, boundary)
            world.heal()
        assert reached >= story.points
        bystander.life = alive()
        assert (await bystander.instances(), await bystander.state()) == (beside, ONE)
        assert not await strangers(alive())


async def prepared(story: Story, tenant: Tenant) -> Tenant:
    await story.prepare(tenant)
    await becomes(tenant, story.before)
    return tenant


async def tell(story: Story, tenant: Tenant, ends_at: Boundary | None = None) -> list[Boundary]:
    """Tells the story, to its end or to its untimely one; returns the boundaries that it came to."""
    life = tenant.life
    life.arm(ends_at)
    telling = asyncio.create_task(story.act(tenant))  # type: ignore[arg-type]
    with suppress(asyncio.CancelledError):
        await telling

    async def over() -> bool:
        return life.ended.is_set() or await tenant.state() == story.after

    await eventually(over, CONVERGES_WITHIN_SECONDS, pause=0.02)
    return life.disarm()


async def check(story: Story, tenant: Tenant, steps: list[Boundary], boundary: Boundary) -> None:
    """Its request is the first commit: what was killed before that was never asked."""
    committed = any(what.endswith(", after") and is_request(what) for what, _ in steps)
    lost = story.lost or story.before
    try:
        await becomes(tenant, story.after if committed else lost)
    except AssertionError as wrong:
        raise AssertionError(f"killed at {boundary}, committed: {committed}: {wrong}") from None
    assert not tenant.life.engine.world.builds, boundary


def is_request(what: str) -> bool:
    return what.startswith(("Deploying.", "Wishes."))


async def becomes(tenant: Tenant, state: State) -> None:
    async def is_so() -> bool:
        found = await tenant.state()
        assert found == state, f"{found} is not {state}"
        return True

    await eventually(is_so, CONVERGES_WITHIN_SECONDS, pause=0.02)


async def strangers(life: Life) -> set[str]:
    """What there is at the engine, and belongs to no workload."""
    async with life.core.database.reading() as reader:
        known = {workload.id for workload in await store.all_workloads(reader)}
    return {s.name for s in life.world.look(INSTALLATION, "") if s.workload not in known}


class Lives:
    def __init__(self, home: Path, world: FakeWorld) -> None:
        self._home = home
        self._world = world
        self._life: Life | None = None

    def __call__(self) -> Life:
        assert self._life is not None
        return self._life

    async def anew(self) -> Life:
        self._life = await Life(self._home, self._world).start()
        return self._life


@asynccontextmanager
async def lives(home: Path, world: FakeWorld) -> AsyncIterator[Lives]:
    """The last one is stopped in good order."""
    alive = Lives(home, world)
    await alive.anew()
    try:
        yield alive
    finally:
        if not alive().ended.is_set():
            await alive().stop()
