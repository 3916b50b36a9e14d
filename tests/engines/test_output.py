"""What every engine promises of what a program prints: nothing lost, nothing mixed up, nothing without bound."""

from __future__ import annotations

import asyncio
import tracemalloc

import pytest

from muelle.engines.protocol import LONGEST_LINE, Condition, Line, NoSuchInstance, Stream
from tests.engines.programs import COUNTER, JOB, LONG_LINE, MANY_LINES, ODD_LINES, TALKER, TICKER
from tests.engines.yard import Yard

pytestmark = pytest.mark.asyncio(loop_scope="session")

MOST_MEMORY_BYTES = 32 * 2**20
"""Of our own, for a log of any length that is read line by line; the fake keeps it in the same process."""


def of(stream: Stream, lines: list[Line]) -> list[str]:
    return [line.text for line in lines if line.stream is stream]


async def test_lines_are_told_in_the_order_in_which_they_were_printed(yard: Yard) -> None:
    name = await yard.shared_ended(TALKER)
    assert of(Stream.OUT, await yard.lines(name)) == [f"out {number}" for number in range(1, 6)]


async def test_the_two_streams_are_told_apart(yard: Yard) -> None:
    name = await yard.shared_ended(TALKER)
    assert of(Stream.ERR, await yard.lines(name)) == [f"err {number}" for number in range(1, 6)]


async def test_lines_bear_the_time_at_which_they_were_printed(yard: Yard) -> None:
    name = await yard.shared_ended(TALKER)
    sighting = await yard.seen(name, Condition.EXITED)
    lines = await yard.lines(name)
    for stream in Stream:  # of two lines in different streams nobody knows which came first
        of_stream = [line.at for line in lines if line.stream is stream]
        assert of_stream == sorted(of_stream)
    times = [line.at for line in lines]
    assert sighting.started_at is not None
    assert sighting.ended_at is not None
    assert all(abs((at - sighting.started_at).total_seconds()) < yard.patience for at in times)


async def test_the_output_of_one_that_has_ended_can_be_read_more_than_once(yard: Yard) -> None:
    name = await yard.shared_ended(JOB)
    assert await yard.texts(name) == await yard.texts(name) == ["done"]


async def test_reading_follows_until_the_end(yard: Yard) -> None:
    name = await yard.run(TICKER)
    following = asyncio.create_task(yard.lines(name))
    await yard.printed(name, "tick 3")
    assert not following.done()
    await yard.stop_quickly(name)
    assert [line.text for line in await following][:3] == ["tick 1", "tick 2", "tick 3"]


async def test_a_line_arrives_while_the_program_runs(yard: Yard) -> None:
    name = await yard.run(TICKER)
    line = await yard.printed(name, "tick 5")
    assert (await yard.seen(name, Condition.RUNNING)).ended_at is None
    assert line.stream is Stream.OUT


async def test_reading_ends_when_the_instance_is_removed(yard: Yard) -> None:
    name = await yard.run(TICKER)
    following = asyncio.create_task(yard.lines(name))
    await yard.printed(name, "tick 2")
    await yard.engine.remove(name)
    await following


async def test_two_readers_are_told_the_same(yard: Yard) -> None:
    name = await yard.run(TALKER)
    first, second = await asyncio.gather(yard.lines(name), yard.lines(name))
    assert sorted(first, key=str) == sorted(second, key=str)


async def test_a_reader_may_go_away_in_the_middle(yard: Yard) -> None:
    name = await yard.run(TICKER)
    await yard.printed(name, "tick 1")
    await yard.printed(name, "tick 4")
    await yard.seen(name, Condition.RUNNING)


async def test_a_reader_that_is_cancelled_disturbs_no_other(yard: Yard) -> None:
    name = await yard.run(TICKER)
    gone = asyncio.create_task(yard.lines(name))
    await yard.printed(name, "tick 1")
    gone.cancel()
    await yard.printed(name, "tick 4")


async def test_reading_from_a_moment_on_leaves_out_what_was_before(yard: Yard) -> None:
    name = await yard.run(TICKER)
    fifth = await yard.printed(name, "tick 5")
    await yard.stop_quickly(name)
    texts = [line.text for line in await yard.lines(name, since=fifth.at)]
    assert "tick 5" in texts
    assert "tick 1" not in texts


async def test_no_line_is_lost_between_two_readings(yard: Yard) -> None:
    """Each begins at the last moment that the one before was told; what is told twice is known by time and text."""
    name = await yard.run(TICKER)
    found: dict[tuple[object, str], None] = {}
    since = None
    for until in (4, 8, 12):
        async with asyncio.timeout(yard.patience):
            async for line in yard.engine.logs(name, since):
                found[line.at, line.text] = None
                since = line.at
                if line.text == f"tick {until}":
                    break
    assert [text for _, text in found][:12] == [f"tick {number}" for number in range(1, 13)]


async def test_reading_from_a_moment_after_the_last_line_tells_what_comes(yard: Yard) -> None:
    name = await yard.run(TICKER)
    third = await yard.printed(name, "tick 3")
    async with asyncio.timeout(yard.patience):
        async for line in yard.engine.logs(name, third.at):
            if line.text == "tick 10":
                break
            assert line.at >= third.at


async def test_a_long_line_becomes_several(yard: Yard) -> None:
    name = await yard.shared_ended(ODD_LINES)
    pieces = [text for text in await yard.texts(name) if text.startswith("a")]
    assert "".join(pieces) == "a" * LONG_LINE
    assert all(len(piece) <= LONGEST_LINE for piece in pieces)


async def test_bytes_that_are_no_text_are_shown_as_such_and_the_rest_stays(yard: Yard) -> None:
    name = await yard.shared_ended(ODD_LINES)
    assert "before \ufffd after" in await yard.texts(name)


async def test_letters_of_all_languages_arrive(yard: Yard) -> None:
    name = await yard.shared_ended(ODD_LINES)
    assert "¡olé! 🚢" in await yard.texts(name)


async def test_an_empty_line_is_a_line(yard: Yard) -> None:
    name = await yard.shared_ended(ODD_LINES)
    assert "" in await yard.texts(name)


async def test_a_last_line_without_its_end_is_told(yard: Yard) -> None:
    name = await yard.shared_ended(ODD_LINES)
    assert (await yard.texts(name))[-1] == "no end"


async def test_fifty_thousand_lines_arrive_in_order_and_in_little_memory(yard: Yard) -> None:
    name = await yard.shared_ended(COUNTER)
    number = 0
    tracemalloc.start()
    try:
        async with asyncio.timeout(60):
            async for line in yard.engine.logs(name):
                assert line.text == f"line {number}"
                number += 1
        assert tracemalloc.get_traced_memory()[1] < MOST_MEMORY_BYTES
    finally:
        tracemalloc.stop()
    assert number == MANY_LINES


async def test_a_reader_that_takes_its_time_loses_nothing(yard: Yard) -> None:
    name = await yard.run(COUNTER)
    number = 0
    async with asyncio.timeout(60):
        async for line in yard.engine.logs(name):
            assert line.text == f"line {number}"
            number += 1
            if number % 10_000 == 0:
                await asyncio.sleep(0.05)
    assert number == MANY_LINES


async def test_the_output_of_an_earlier_run_is_not_mixed_with_the_next(yard: Yard) -> None:
    """Whether the earlier is kept is the engine's choice; from the second start on, there is the second alone."""
    name = await yard.run(JOB)
    await yard.seen(name, Condition.EXITED)
    await yard.engine.start(name)
    sighting = await yard.seen(name, Condition.EXITED)
    times = [line.at for line in await yard.lines(name)]
    assert times == sorted(times)
    assert 1 <= len(times) <= 2
    assert sighting.started_at is not None


async def test_neighbours_output_is_kept_apart(yard: Yard) -> None:
    job, talker = await yard.shared_ended(JOB), await yard.shared_ended(TALKER)
    assert await yard.texts(job) == ["done"]
    assert len(await yard.texts(talker)) == 10


async def test_the_output_of_an_unknown_name_is_refused(yard: Yard) -> None:
    with pytest.raises(NoSuchInstance):
        await yard.texts("muelle-nothing-1-1")
