"""What every engine promises to show, to whom, and how soon it tells of a change."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable

import pytest
import pytest_asyncio

from muelle.engines.protocol import Condition
from tests.engines.harness import Harness
from tests.engines.programs import JOB, LATE_CRASH, TICKER
from tests.engines.yard import Shared, Yard, open_yard
from tests.waiting import eventually

pytestmark = pytest.mark.asyncio(loop_scope="session")

TELLS_WITHIN_SECONDS = 2.0


async def test_the_instances_of_a_workload_are_shown_alone(yard: Yard) -> None:
    order = await yard.order(JOB)
    await yard.create_as(order)
    await yard.create(JOB)
    assert [sighting.name for sighting in await yard.engine.observe(order.workload)] == [order.name]


async def test_all_instances_of_a_workload_are_shown(yard: Yard) -> None:
    workload = (await yard.order(JOB)).workload
    names = {await yard.create(JOB, workload=workload, name=f"muelle-{workload}-{number}-1") for number in (1, 2)}
    assert {sighting.name for sighting in await yard.engine.observe(workload)} == names


async def test_a_workload_that_is_a_beginning_of_another_is_not_taken_for_it(yard: Yard) -> None:
    order = await yard.order(JOB)
    await yard.create_as(order)
    longer = await yard.create(JOB, workload=f"{order.workload}-1")
    assert [sighting.name for sighting in await yard.engine.observe(order.workload)] == [order.name]
    assert [sighting.name for sighting in await yard.engine.observe(f"{order.workload}-1")] == [longer]


async def test_all_workloads_are_shown_when_none_is_named(yard: Yard) -> None:
    names = {await yard.create(JOB), await yard.run(JOB)}
    assert names <= {sighting.name for sighting in await yard.engine.observe()}


async def test_nothing_is_shown_of_an_unknown_workload(yard: Yard) -> None:
    assert list(await yard.engine.observe("nothing")) == []


async def test_another_installation_sees_nothing_of_ours(yard: Yard) -> None:
    name = await yard.run(TICKER)
    other = yard.harness.connect(f"{yard.harness.installation}-other")
    assert list(await other.observe()) == []
    assert await yard.sight(name) is not None


async def test_another_installation_does_not_touch_ours(yard: Yard) -> None:
    name = await yard.run(TICKER)
    other = yard.harness.connect(f"{yard.harness.installation}-other")
    await other.stop(name, 0.1)
    await other.remove(name)
    await other.tidy()
    await yard.seen(name, Condition.RUNNING)


async def test_two_engines_of_an_installation_see_the_same(yard: Yard) -> None:
    name = await yard.run(TICKER)
    other = yard.harness.connect()
    await yard.seen(name, Condition.RUNNING)
    assert await yard.sight(name, other) == await yard.sight(name)


async def test_an_engine_stops_what_another_of_the_installation_started(yard: Yard) -> None:
    name = await yard.run(TICKER)
    await yard.harness.connect().stop(name, 0.5)
    await yard.seen(name, Condition.EXITED)


async def test_one_created_by_an_engine_is_started_by_another(yard: Yard) -> None:
    name = await yard.create(TICKER)
    await yard.harness.connect().start(name)
    await yard.seen(name, Condition.RUNNING)


async def test_what_one_engine_started_goes_on_when_that_engine_is_closed(yard: Yard) -> None:
    other = yard.harness.connect()
    order = await yard.order(TICKER)
    await yard.create_as(order)
    await other.start(order.name)
    before = await yard.seen(order.name, Condition.RUNNING)
    await other.close()
    assert await yard.sight(order.name) == before
    await yard.printed(order.name, "tick 3")


async def test_an_end_that_happened_while_no_engine_was_looking_is_seen_with_its_code(yard: Yard) -> None:
    other = yard.harness.connect()
    order = await yard.order(LATE_CRASH)
    await yard.create_as(order)
    await other.start(order.name)
    await other.close()
    assert (await yard.seen(order.name, Condition.EXITED)).exit_code == 4


class Ears:
    """One watcher for all cases of a driver, that is known to hear."""

    def __init__(self, yard: Yard) -> None:
        self._yard = yard
        self._heard: Counter[str] = Counter()

    async def listen(self, watch: AsyncIterator[str]) -> None:
        async for workload in watch:
            self._heard[workload] += 1

    async def hear(self) -> bool:
        """A watcher may need a moment until it hears; something that has to be heard tells that it does."""
        name = await self._yard.create(JOB)
        await self._yard.engine.remove(name)
        await asyncio.sleep(0.02)
        return bool(self._heard)

    async def are_told(self, workload: str, act: Awaitable[object]) -> None:
        await self._quiet()
        before = self._heard[workload]
        await act
        await eventually(lambda: self._heard[workload] > before, TELLS_WITHIN_SECONDS)

    async def _quiet(self) -> None:
        """Lets what is still on its way arrive, so that it is not taken for what follows."""
        before = -1
        while before != self._heard.total():
            before = self._heard.total()
            await asyncio.sleep(0.1)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def ears(conforming: tuple[Harness, Shared]) -> AsyncIterator[Ears]:
    async with open_yard(*conforming) as yard:
        ears = Ears(yard)
        listening = asyncio.create_task(ears.listen(yard.engine.watch()))
        try:
            await eventually(ears.hear, yard.patience)
            yield ears
        finally:
            listening.cancel()


async def test_a_watcher_is_told_of_a_start(yard: Yard, ears: Ears) -> None:
    order = await yard.order(TICKER)
    await yard.create_as(order)
    await ears.are_told(order.workload, yard.engine.start(order.name))


async def test_a_watcher_is_told_of_an_end(yard: Yard, ears: Ears) -> None:
    order = await yard.order(TICKER)
    await yard.create_as(order)
    await yard.engine.start(order.name)
    await ears.are_told(order.workload, yard.stop_quickly(order.name))


async def test_a_watcher_is_told_of_an_end_that_nobody_asked_for(yard: Yard, ears: Ears) -> None:
    order = await yard.order(LATE_CRASH)
    await yard.create_as(order)
    await yard.engine.start(order.name)
    await ears.are_told(order.workload, yard.seen(order.name, Condition.EXITED))


async def test_a_watcher_is_told_of_a_removal(yard: Yard, ears: Ears) -> None:
    order = await yard.order(JOB)
    await yard.create_as(order)
    await ears.are_told(order.workload, yard.engine.remove(order.name))


async def test_a_watcher_is_told_of_what_another_engine_did(yard: Yard, ears: Ears) -> None:
    order = await yard.order(JOB)
    await yard.create_as(order)
    await ears.are_told(order.workload, yard.harness.connect().start(order.name))


async def test_a_watch_ends_when_its_engine_is_closed(yard: Yard) -> None:
    other = yard.harness.connect()
    listening = asyncio.create_task(all_of(other.watch()))
    await asyncio.sleep(0)
    await other.close()
    done, _ = await asyncio.wait([listening], timeout=yard.patience)
    assert done


async def all_of(watch: AsyncIterator[str]) -> list[str]:
    return [workload async for workload in watch]
