"""What every engine promises of an instance's life: made, started, ended, removed, each as often as you like."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

import pytest

from muelle.engines.protocol import Condition, ImageMissing, NoSuchInstance
from tests.engines.programs import CRASH, JOB, LATE_CRASH, SLOW_STOP, STUBBORN, TICKER, WEB
from tests.engines.yard import GRACE_SECONDS, PORT, Yard

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_an_engine_says_what_it_is(yard: Yard) -> None:
    assert (await yard.engine.check()).strip()


async def test_a_created_instance_is_seen_and_does_not_run(yard: Yard) -> None:
    sighting = await yard.sight(await yard.create())
    assert sighting is not None
    assert sighting.condition is Condition.CREATED


async def test_a_created_instance_has_no_times_no_exit_code_and_no_address(yard: Yard) -> None:
    sighting = await yard.sight(await yard.create(port=PORT))
    assert sighting is not None
    assert (sighting.started_at, sighting.ended_at, sighting.exit_code, sighting.address) == (None,) * 4


async def test_an_instance_is_seen_with_its_workload(yard: Yard) -> None:
    order = await yard.order()
    await yard.create_as(order)
    sighting = await yard.sight(order.name)
    assert sighting is not None
    assert sighting.workload == order.workload


async def test_what_is_created_already_is_left_as_it_is(yard: Yard) -> None:
    order = await yard.order(port=PORT, environment={"TURN": "first"})
    await yard.create_as(order)
    await yard.create_as(replace(order, environment={"TURN": "second"}))
    await yard.engine.start(order.name)
    assert (await yard.environment(order.name))["TURN"] == "first"


async def test_creating_one_that_runs_leaves_it_running(yard: Yard) -> None:
    order = await yard.order(TICKER)
    await yard.create_as(order)
    await yard.engine.start(order.name)
    before = await yard.seen(order.name, Condition.RUNNING)
    await yard.create_as(order)
    assert await yard.sight(order.name) == before


async def test_a_started_instance_runs(yard: Yard) -> None:
    sighting = await yard.seen(await yard.run(TICKER), Condition.RUNNING)
    assert sighting.started_at is not None
    assert sighting.exit_code is None


async def test_starting_twice_starts_once(yard: Yard) -> None:
    name = await yard.run(TICKER)
    before = await yard.seen(name, Condition.RUNNING)
    await yard.engine.start(name)
    assert await yard.sight(name) == before


async def test_a_stopped_instance_is_seen_as_ended(yard: Yard) -> None:
    name = await yard.run(TICKER)
    await yard.stop_quickly(name)
    sighting = await yard.sight(name)
    assert sighting is not None
    assert sighting.condition is Condition.EXITED


async def test_stopping_twice_is_no_error(yard: Yard) -> None:
    name = await yard.run(TICKER)
    await yard.stop_quickly(name)
    before = await yard.sight(name)
    await yard.stop_quickly(name)
    assert await yard.sight(name) == before


async def test_stopping_one_that_was_never_started_is_no_error(yard: Yard) -> None:
    name = await yard.create()
    await yard.engine.stop(name)
    sighting = await yard.sight(name)
    assert sighting is not None
    assert sighting.condition is not Condition.RUNNING


async def test_two_who_stop_the_same_both_come_back(yard: Yard) -> None:
    name = await yard.run(TICKER)
    await asyncio.gather(yard.stop_quickly(name), yard.stop_quickly(name))
    await yard.seen(name, Condition.EXITED)


async def test_a_removed_instance_is_gone(yard: Yard) -> None:
    name = await yard.run(JOB)
    await yard.engine.remove(name)
    assert await yard.sight(name) is None


async def test_removing_twice_is_no_error(yard: Yard) -> None:
    name = await yard.create()
    await yard.engine.remove(name)
    await yard.engine.remove(name)
    assert await yard.sight(name) is None


async def test_removing_one_that_runs_ends_it_at_once(yard: Yard) -> None:
    name = await yard.run(STUBBORN)
    await yard.printed(name, "deaf to you")
    begun = time.monotonic()
    await yard.engine.remove(name)
    assert await yard.sight(name) is None
    assert time.monotonic() - begun < GRACE_SECONDS


async def test_starting_an_unknown_name_says_so(yard: Yard) -> None:
    with pytest.raises(NoSuchInstance):
        await yard.engine.start("muelle-nothing-1-1")


async def test_stopping_an_unknown_name_is_no_error(yard: Yard) -> None:
    await yard.engine.stop("muelle-nothing-1-1")


async def test_removing_an_unknown_name_is_no_error(yard: Yard) -> None:
    await yard.engine.remove("muelle-nothing-1-1")


async def test_starting_a_removed_one_says_that_it_is_unknown(yard: Yard) -> None:
    name = await yard.create()
    await yard.engine.remove(name)
    with pytest.raises(NoSuchInstance):
        await yard.engine.start(name)


async def test_an_instance_of_an_image_that_is_not_here_is_refused_and_leaves_nothing(yard: Yard) -> None:
    order = await yard.order(image=f"sha256:{'0' * 64}")
    with pytest.raises(ImageMissing):
        await yard.create_as(order)
    assert await yard.sight(order.name) is None


async def test_a_removed_name_may_be_used_again(yard: Yard) -> None:
    order = await yard.order(JOB)
    for _ in range(2):
        await yard.create_as(order)
        await yard.engine.start(order.name)
        await yard.seen(order.name, Condition.EXITED)
        assert await yard.texts(order.name) == ["done"]
        await yard.engine.remove(order.name)


async def test_an_ended_instance_is_started_again(yard: Yard) -> None:
    name = await yard.run(LATE_CRASH)
    first = await yard.seen(name, Condition.EXITED)
    await yard.engine.start(name)
    again = await yard.seen(name, Condition.RUNNING)
    assert first.started_at is not None
    assert again.started_at is not None
    assert again.started_at > first.started_at
    assert (again.exit_code, again.ended_at) == (None, None)


async def test_a_stopped_instance_is_started_again(yard: Yard) -> None:
    name = await yard.web()
    await yard.stop_quickly(name)
    await yard.engine.start(name)
    assert (await yard.get(name, "/again")).json()["path"] == "/again"


async def test_a_program_that_is_done_has_the_exit_code_0(yard: Yard) -> None:
    sighting = await yard.seen(await yard.shared_ended(JOB), Condition.EXITED)
    assert sighting.exit_code == 0
    assert not sighting.out_of_memory


async def test_a_program_that_crashes_has_its_exit_code(yard: Yard) -> None:
    sighting = await yard.seen(await yard.shared_ended(CRASH), Condition.EXITED)
    assert sighting.exit_code == 3
    assert not sighting.out_of_memory


async def test_what_a_crash_said_can_be_read(yard: Yard) -> None:
    assert await yard.texts(await yard.shared_ended(CRASH)) == ["crashed"]


async def test_a_program_that_ends_after_a_while_runs_until_then(yard: Yard) -> None:
    name = await yard.run(LATE_CRASH)
    await yard.seen(name, Condition.RUNNING)
    assert (await yard.seen(name, Condition.EXITED)).exit_code == 4


async def test_an_instance_ends_after_it_was_started(yard: Yard) -> None:
    sighting = await yard.seen(await yard.shared_ended(LATE_CRASH), Condition.EXITED)
    assert sighting.started_at is not None
    assert sighting.ended_at is not None
    assert sighting.started_at.utcoffset() is not None
    assert 0.2 < (sighting.ended_at - sighting.started_at).total_seconds() < yard.patience


async def test_an_ended_instance_stays_as_it_ended(yard: Yard) -> None:
    name = await yard.shared_ended(JOB)
    assert await yard.sight(name) == await yard.seen(name, Condition.EXITED)


async def test_a_program_hears_that_it_shall_end(yard: Yard) -> None:
    name = await yard.web()
    await yard.engine.stop(name, GRACE_SECONDS)
    assert (await yard.seen(name, Condition.EXITED)).exit_code == 0
    assert (await yard.texts(name))[-1] == "ending"


async def test_a_program_that_hears_is_not_waited_for_longer_than_it_takes(yard: Yard) -> None:
    name = await yard.web()
    begun = time.monotonic()
    await yard.engine.stop(name, GRACE_SECONDS)
    assert time.monotonic() - begun < GRACE_SECONDS


async def test_a_program_that_does_not_hear_is_ended_after_the_time_it_has(yard: Yard) -> None:
    name = await yard.run(STUBBORN)
    await yard.printed(name, "deaf to you")
    begun = time.monotonic()
    await yard.engine.stop(name, 0.5)
    assert time.monotonic() - begun >= 0.45
    assert (await yard.seen(name, Condition.EXITED)).exit_code not in (0, None)


async def test_a_program_may_take_its_time_to_end(yard: Yard) -> None:
    name = await yard.run(SLOW_STOP)
    await yard.printed(name, "ready")
    await yard.engine.stop(name, GRACE_SECONDS)
    assert (await yard.texts(name))[-1] == "ended well"
    assert (await yard.seen(name, Condition.EXITED)).exit_code == 0


async def test_stop_comes_back_only_when_it_has_ended(yard: Yard) -> None:
    name = await yard.run(SLOW_STOP)
    await yard.printed(name, "ready")
    await yard.engine.stop(name, GRACE_SECONDS)
    sighting = await yard.sight(name)
    assert sighting is not None
    assert sighting.condition is Condition.EXITED


async def test_with_no_time_to_end_it_is_ended_at_once(yard: Yard) -> None:
    name = await yard.run(STUBBORN)
    await yard.printed(name, "deaf to you")
    begun = time.monotonic()
    await yard.engine.stop(name, 0)
    assert time.monotonic() - begun < GRACE_SECONDS
    await yard.seen(name, Condition.EXITED)


async def test_one_that_cannot_be_started_is_seen_as_ended_with_the_reason(yard: Yard) -> None:
    """In the engine's words; where it only noticed after the start, in the last that was printed."""
    name = await yard.create(JOB, command=("no-such-program", "--help"))
    await yard.engine.start(name)
    sighting = await yard.seen(name, Condition.EXITED)
    assert sighting.exit_code != 0
    assert "no-such-program" in sighting.reason or "no-such-program" in "".join(await yard.texts(name))


async def test_many_are_made_started_and_stopped_at_the_same_time(yard: Yard) -> None:
    image = await yard.harness.image(WEB)
    names = await asyncio.gather(*(yard.run(image=image, port=PORT) for _ in range(6)))
    answers = await asyncio.gather(*(yard.get(name) for name in names))
    assert [answer.status_code for answer in answers] == [200] * 6
    await asyncio.gather(*(yard.stop_quickly(name) for name in names))
    for name in names:
        await yard.seen(name, Condition.EXITED)


async def test_who_waited_for_a_stop_may_go_away(yard: Yard) -> None:
    """The instance ends, or still runs and can be stopped by the next who comes."""
    name = await yard.run(SLOW_STOP)
    await yard.printed(name, "ready")
    waiting = asyncio.create_task(yard.engine.stop(name, GRACE_SECONDS))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await yard.engine.stop(name, GRACE_SECONDS)
    await yard.seen(name, Condition.EXITED)
