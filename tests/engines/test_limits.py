"""What every engine promises of limits, and of what it measures."""

from __future__ import annotations

import asyncio

import pytest

from muelle.engines.protocol import Capability, Condition, InstanceNotRunning, Limits, NoSuchInstance
from tests.engines.programs import BUSY, FORKER, JOB, LATE_CRASH, MEMORY_HOG, MOST_PROCESSES
from tests.engines.yard import Yard
from tests.waiting import eventually

pytestmark = pytest.mark.asyncio(loop_scope="session")

MIB = 2**20


async def test_a_program_that_takes_more_memory_than_it_may_is_ended_for_it(yard: Yard) -> None:
    yard.need(Capability.MEMORY_LIMIT)
    sighting = await yard.run_to_end(MEMORY_HOG, limits=Limits(memory_bytes=64 * MIB))
    assert sighting.out_of_memory
    assert sighting.exit_code not in (0, None)


async def test_a_program_that_ran_out_of_memory_may_run_again(yard: Yard) -> None:
    yard.need(Capability.MEMORY_LIMIT)
    name = await yard.run(MEMORY_HOG, limits=Limits(memory_bytes=64 * MIB))
    await yard.seen(name, Condition.EXITED)
    await yard.engine.start(name)
    assert (await yard.seen(name, Condition.EXITED)).out_of_memory


async def test_the_neighbours_of_one_that_ran_out_of_memory_are_unharmed(yard: Yard) -> None:
    yard.need(Capability.MEMORY_LIMIT)
    neighbour = await yard.shared_web()
    before = await yard.sight(neighbour)
    await yard.run_to_end(MEMORY_HOG, limits=Limits(memory_bytes=64 * MIB))
    assert await yard.sight(neighbour) == before
    assert (await yard.get(neighbour)).status_code == 200


async def test_a_crash_is_not_taken_for_a_lack_of_memory(yard: Yard) -> None:
    name = await yard.shared_ended(LATE_CRASH)
    assert not (await yard.seen(name, Condition.EXITED)).out_of_memory


async def test_a_program_starts_no_more_processes_than_it_may(yard: Yard) -> None:
    yard.need(Capability.PIDS_LIMIT)
    name = await yard.run(FORKER, limits=Limits(pids=20))
    await yard.seen(name, Condition.EXITED)
    started = int((await yard.texts(name))[0].split()[1])
    assert 0 < started < 20


async def test_a_program_starts_the_processes_that_it_may(yard: Yard) -> None:
    yard.need(Capability.PIDS_LIMIT)
    name = await yard.run(FORKER, limits=Limits(pids=MOST_PROCESSES * 2))
    await yard.seen(name, Condition.EXITED)
    assert await yard.texts(name) == [f"started {MOST_PROCESSES} processes"]


async def test_a_program_uses_no_more_of_a_processor_than_it_may(yard: Yard) -> None:
    """Roughly: a fifth is allowed, and less than half is asked for, since windows of measuring are short."""
    yard.need(Capability.CPU_LIMIT)
    name = await yard.run(BUSY, limits=Limits(cpu_millis=200))
    await yard.printed(name, "busy")
    first = await yard.engine.usage(name)
    await asyncio.sleep(1)
    second = await yard.engine.usage(name)
    used = (second.cpu_micros - first.cpu_micros) / 1e6
    assert used / (second.at - first.at).total_seconds() < 0.5


async def test_what_a_busy_program_uses_grows(yard: Yard) -> None:
    name = await yard.run(BUSY)
    first = (await yard.engine.usage(name)).cpu_micros

    async def has_grown() -> bool:
        return (await yard.engine.usage(name)).cpu_micros > first + 100_000

    await eventually(has_grown, yard.patience)


async def test_each_measurement_is_of_a_later_moment(yard: Yard) -> None:
    name = await yard.shared_web()
    first, second = await yard.engine.usage(name), await yard.engine.usage(name)
    assert second.at > first.at
    assert second.cpu_micros >= first.cpu_micros


async def test_a_program_holds_some_memory_and_no_more_than_it_may(yard: Yard) -> None:
    name = await yard.shared_web()
    held = (await yard.engine.usage(name)).memory_bytes
    assert MIB < held <= Limits().memory_bytes


async def test_nothing_is_measured_of_one_that_has_ended(yard: Yard) -> None:
    name = await yard.shared_ended(JOB)
    with pytest.raises(InstanceNotRunning):
        await yard.engine.usage(name)


async def test_nothing_is_measured_of_one_that_was_never_started(yard: Yard) -> None:
    name = await yard.create(JOB)
    with pytest.raises(InstanceNotRunning):
        await yard.engine.usage(name)


async def test_nothing_is_measured_of_an_unknown_name(yard: Yard) -> None:
    with pytest.raises(NoSuchInstance):
        await yard.engine.usage("muelle-nothing-1-1")
