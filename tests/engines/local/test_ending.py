"""Ending a program ends everything that it has started, wherever that has gone."""

from __future__ import annotations

import asyncio
import secrets
import sys

from muelle.engines.local import kept
from muelle.engines.protocol import Condition, Limits
from tests.engines.local.conftest import HOG, Workshop, in_each_manner
from tests.waiting import eventually


def escaping(marker: str) -> str:
    """Starts something that leaves its session and loses its parent, as daemons do; the marker tells it."""
    return f"(setsid sh -c 'trap \"\" TERM HUP; while :; do sleep 0.05; done # {marker}' &)\n"


@in_each_manner
async def test_what_has_got_away_ends_with_a_stop(workshop: Workshop) -> None:
    marker = secrets.token_hex(8)
    name = await workshop.started(escaping(marker) + "echo ready; while :; do sleep 0.05; done")
    await workshop.printed(name, "ready")
    await eventually(lambda: workshop.left(marker))
    await workshop.engine.stop(name)
    assert (await workshop.sighting(name)).exit_code == 143
    await eventually(lambda: not workshop.left(marker), 2)


@in_each_manner
async def test_what_has_got_away_ends_with_the_program(workshop: Workshop) -> None:
    marker = secrets.token_hex(8)
    name = await workshop.started(escaping(marker) + "exit 4")
    assert (await workshop.ended(name)).exit_code == 4
    await eventually(lambda: not workshop.left(marker), 2)


@in_each_manner
async def test_one_that_is_deaf_is_killed_with_all_below_it(workshop: Workshop) -> None:
    marker = secrets.token_hex(8)
    deaf = f"trap '' TERM\n{escaping(marker)} echo ready; sh -c 'while :; do sleep 0.05; done # {marker}'"
    name = await workshop.started(deaf)
    await workshop.printed(name, "ready")
    await workshop.engine.stop(name, 0.3)
    assert (await workshop.sighting(name)).exit_code == 137
    await eventually(lambda: not workshop.left(marker), 2)


@in_each_manner
async def test_an_instance_of_an_earlier_keeper_ends_as_wholly(workshop: Workshop) -> None:
    marker = secrets.token_hex(8)
    name = await workshop.started(escaping(marker) + "echo ready; while :; do sleep 0.05; done")
    await workshop.printed(name, "ready")
    await eventually(lambda: workshop.left(marker))
    workshop.kill_keeper()
    await eventually(lambda: not workshop.keeper())
    await workshop.engine.remove(name)
    assert await workshop.engine.observe() == []
    await eventually(lambda: not workshop.left(marker), 2)


@in_each_manner
async def test_a_command_ends_with_its_session_and_the_instance_goes_on(workshop: Workshop) -> None:
    marker = secrets.token_hex(8)
    name = await workshop.started("while :; do sleep 0.05; done")
    session = await workshop.engine.execute(name, ["sh", "-c", f"while :; do sleep 0.05; done # {marker}"])
    await eventually(lambda: workshop.left(marker))
    await session.close()
    await eventually(lambda: not workshop.left(marker), 2)
    assert (await workshop.sighting(name)).condition is Condition.RUNNING


async def test_a_neighbour_is_not_ended_with_it(workshop: Workshop) -> None:
    one, other = [await workshop.started("while :; do sleep 0.05; done") for _ in range(2)]
    await workshop.engine.remove(one)
    assert (await workshop.sighting(other)).condition is Condition.RUNNING


@in_each_manner
async def test_one_past_its_memory_is_ended_and_said_to_be(workshop: Workshop) -> None:
    name = await workshop.started(HOG, limits=Limits(memory_bytes=64 * 2**20))
    sighting = await workshop.ended(name)
    assert sighting.out_of_memory
    assert sighting.exit_code == 137


async def test_a_command_that_is_not_there_is_an_end_with_a_reason(workshop: Workshop) -> None:
    name = await workshop.started("", command=("no-such-program",))
    sighting = await workshop.sighting(name)
    assert (sighting.condition, sighting.exit_code) == (Condition.EXITED, 127)
    assert "no-such-program" in sighting.reason


async def test_one_that_floods_its_output_is_bounded_on_disk(workshop: Workshop) -> None:
    name = await workshop.started("yes 0123456789012345678901234567890123456789 | head -c 20000000; echo; echo end")
    await workshop.ended(name)
    folder = workshop.home / "instances" / name
    assert sum(path.stat().st_size for path in folder.glob("journal*")) < 2.1 * 4 * 2**20
    assert (await workshop.texts(name))[-1] == "end"


async def test_a_half_started_one_is_nothing(workshop: Workshop) -> None:
    """The child waits for what is written down; when its keeper dies before, it never becomes the program."""
    program = kept.Program((sys.executable, "-c", "open('ran', 'w')"), {}, str(workshop.folder))
    launched = await asyncio.to_thread(kept.launch, program, (0, 1, 2), kept.Kernel())
    launched.give_up()
    await eventually(lambda: kept.processes.started(launched.pid) is None)
    assert not (workshop.folder / "ran").exists()


@in_each_manner
async def test_who_reads_from_a_session_that_is_closed_is_told_that_it_is_over(workshop: Workshop) -> None:
    name = await workshop.started("while :; do sleep 0.05; done")
    for terminal in (False, True):
        session = await workshop.engine.execute(name, ["sleep", "64"], terminal=terminal)
        reading = asyncio.create_task(session.read())
        await asyncio.sleep(0)
        await session.close()
        assert await asyncio.wait_for(reading, 5) == b""
        assert await session.exit_code() == 137
