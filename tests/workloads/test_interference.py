"""Others interfere: what runs is removed, ended, forgotten or replaced behind our back. It heals, or is reported."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from muelle.engines.fake import FakeWorld
from muelle.engines.protocol import Condition
from muelle.workloads.model import QuotaReached, ReleaseIsGone, instance_name
from muelle.workloads.reconciler import STRANGER_SECONDS, Reconciler
from tests.waiting import eventually
from tests.workloads.lives import INSTALLATION, Life, Tenant
from tests.workloads.test_crash import ONE, TWO, Lives, becomes, lives
from tests.world import LeapingClock


@pytest.fixture
def clock() -> LeapingClock:
    return LeapingClock()


@pytest.fixture
async def ana(tmp_path: Path, clock: LeapingClock) -> AsyncIterator[Tenant]:
    """With one release that serves."""
    life = await Life(tmp_path / "home", FakeWorld(real_sockets=True), clock).start()
    tenant = Tenant(life)
    try:
        await tenant.make()
        await becomes(tenant, ONE)
        yield tenant
    finally:
        tenant.life.world.heal()
        await tenant.life.stop()


async def sole_instance(ana: Tenant) -> str:
    (name,) = await ana.instances()
    return name


def started_at(ana: Tenant, name: str) -> object:
    return ana.life.world.estate(INSTALLATION).instances[name].started_at


def reconciler_of(ana: Tenant) -> Reconciler:
    looks = next(loop for loop in ana.life.room.loops if loop.name == "workloads.reconcile")
    return looks._work.__self__  # type: ignore[attr-defined, no-any-return]


@pytest.mark.parametrize("how", ["vanish", "exit"])
async def test_what_is_gone_or_has_ended_is_there_again(ana: Tenant, how: str) -> None:
    name = await sole_instance(ana)
    before = started_at(ana, name)
    getattr(ana.life.world, how)(name)

    async def is_another() -> bool:
        return started_at(ana, name) != before

    await eventually(is_another)
    await becomes(ana, ONE)


async def test_what_ends_while_nobody_watches_is_noticed(ana: Tenant) -> None:
    name = await sole_instance(ana)
    before = started_at(ana, name)
    ana.life.world.end_watches()
    ana.life.world.exit(name)
    await eventually(lambda: started_at(ana, name) != before)
    await becomes(ana, ONE)


@pytest.mark.parametrize("how", ["fail", "hang"])
async def test_what_ends_while_the_engine_is_away_is_healed_when_it_is_back(ana: Tenant, how: str) -> None:
    name = await sole_instance(ana)
    before, world = started_at(ana, name), ana.life.world
    getattr(world, how)()
    world.exit(name)
    reconciler_of(ana).loop.wake()
    await ana.restart()
    world.heal()
    await becomes(ana, replace(ONE, serving="1-2", runs=("1-2",)))
    assert before


async def test_however_long_the_engine_was_away_it_is_asked_again_within_seconds(ana: Tenant) -> None:
    """What healed ten seconds too late would be the loop's usual pause, which grows up to a minute."""
    assert reconciler_of(ana).loop._longest_pause <= 5


async def test_a_stranger_is_reported_then_stopped_and_never_removed(ana: Tenant, clock: LeapingClock) -> None:
    world, reconciler = ana.life.world, reconciler_of(ana)
    world.stranger("of-nobody")
    world.stranger("of-ours", workload=ana.id)
    strangers = {"of-nobody", "of-ours"}

    async def are_reported() -> bool:
        reconciler.loop.wake()
        return set(reconciler.strangers) == strangers

    await eventually(are_reported, pause=0.05)
    instances = world.estate(INSTALLATION).instances
    assert all(instances[name].runs for name in strangers)
    clock.leap(seconds=STRANGER_SECONDS + 1)

    async def are_stopped() -> bool:
        reconciler.loop.wake()
        return all(instances[name].condition is Condition.EXITED for name in strangers)

    await eventually(are_stopped, pause=0.05)
    assert strangers < set(world.names())
    await becomes(ana, replace(ONE, runs=("!of-ours", "1-1")))


async def test_no_way_back_to_a_release_whose_image_is_gone(ana: Tenant) -> None:
    await ana.deploy("fake/port-81")
    await becomes(ana, TWO)
    first = (await ana.releases())[-1]
    ana.life.world.lose_image(first.image)
    with pytest.raises(ReleaseIsGone):
        await ana.rollback(1)
    await becomes(ana, TWO)


async def test_one_whose_image_is_gone_says_so_when_it_should_be_made_again(ana: Tenant) -> None:
    (release,) = await ana.releases()
    ana.life.world.lose_image(release.image)
    ana.life.world.vanish(await sole_instance(ana))

    async def says_why() -> bool:
        found = await ana.workload()
        assert found is not None
        return (found.phase, found.why.code) == ("failing", "not_started") and "is not to be had" in found.why.words

    await eventually(says_why)


async def test_a_database_from_a_backup_makes_strangers_of_what_came_later(tmp_path: Path) -> None:
    """What the backup knows runs again; what it does not know is reported, and its number is not given again."""
    home, world = tmp_path / "home", FakeWorld(real_sockets=True)
    async with lives(home, world) as alive:
        ana = Tenant(alive())
        await ana.make()
        await becomes(ana, ONE)
        copy(home / "workloads.db", tmp_path / "backup.db")
        await ana.deploy("fake/port-81")
        await becomes(ana, TWO)
        later = instance_name(ana.id, 2, 1)
        await put_back(alive, home, tmp_path / "backup.db")
        ana.life = alive()
        await becomes(ana, replace(ONE, runs=("1-1", "2-1")))
        reconciler = reconciler_of(ana)

        async def is_reported() -> bool:
            reconciler.loop.wake()
            return list(reconciler.strangers) == [later]

        await eventually(is_reported, pause=0.05)
        await ana.deploy("fake/port-82")
        await becomes(ana, replace(TWO, release=3, serving="3-1", runs=("2-1", "3-1")))
        await ana.stop()
        await becomes(ana, replace(TWO, wish="stopped", phase="stopped", release=3, serving="", runs=("2-1",)))
        await ana.remove()
        await eventually(lambda: not world.names())


async def put_back(alive: Lives, home: Path, backup: Path) -> None:
    await alive().kill()
    for file in home.glob("workloads.db*"):
        file.unlink()
    shutil.copy(backup, home / "workloads.db")
    await alive.anew()


def copy(database: Path, backup: Path) -> None:
    with sqlite3.connect(database) as source, sqlite3.connect(backup) as target:
        source.backup(target)
    source.close()
    target.close()


async def test_what_is_started_together_cannot_hold_more_than_is_allowed(ana: Tenant) -> None:
    """Each alone was within the quota when it was asked for; together they are not when they are built."""
    from muelle.workloads.model import Quota

    other = Tenant(ana.life, "other")
    await other.ask_to_make()
    await becomes(other, ONE)
    for tenant in (ana, other):
        await tenant.stop()
        await becomes(tenant, replace(ONE, wish="stopped", phase="stopped", serving="", runs=()))
    found = await ana.workload()
    assert found is not None
    quota = Quota(workloads=9, cpu_millis=found.limits.cpu_millis, memory_bytes=2**40)
    await ana.life.verbs.quotas.allow(found.owner_id, quota)
    ana.life.world.hang("resolve")
    await ana.deploy()
    await other.deploy()
    ana.life.world.heal()

    async def one_of_them_runs() -> bool:
        states = [await tenant.state() for tenant in (ana, other)]
        return sorted(state.deployments for state in states) == ["released failed", "released released"]

    await eventually(one_of_them_runs)
    stopped = ana if (await ana.state()).wish == "stopped" else other
    with pytest.raises(QuotaReached):
        await stopped.rollback(1)
