"""What every engine that can look inside promises of a command run in an instance."""

from __future__ import annotations

import asyncio

import pytest

from muelle.engines.protocol import Capability, InstanceNotRunning, NoSuchInstance
from tests.engines.programs import JOB, TICKER
from tests.engines.yard import Yard

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest.fixture(autouse=True)
def with_execute(yard: Yard) -> None:
    yard.need(Capability.EXEC)


async def test_a_commands_output_is_read(yard: Yard) -> None:
    session = await yard.engine.execute(await yard.shared_web(), ["echo", "hello  there"])
    assert await yard.output(session) == b"hello  there\n"
    assert await session.exit_code() == 0
    await session.close()


async def test_the_end_is_told_again_and_again(yard: Yard) -> None:
    session = await yard.engine.execute(await yard.shared_web(), ["echo", "hello"])
    await yard.output(session)
    assert [await session.read(), await session.read()] == [b"", b""]
    await session.close()


async def test_a_commands_exit_code_is_told(yard: Yard) -> None:
    session = await yard.engine.execute(await yard.shared_web(), ["sh", "-c", "exit 7"])
    assert await yard.output(session) == b""
    assert await session.exit_code() == 7
    assert await session.exit_code() == 7
    await session.close()


async def test_an_exit_code_comes_to_who_reads_nothing(yard: Yard) -> None:
    session = await yard.engine.execute(await yard.shared_web(), ["sh", "-c", "echo unread; exit 5"])
    async with asyncio.timeout(yard.patience):
        assert await session.exit_code() == 5
    await session.close()


async def test_both_streams_are_read(yard: Yard) -> None:
    session = await yard.engine.execute(await yard.shared_web(), ["sh", "-c", "echo to out; echo to err >&2"])
    said = await yard.output(session)
    assert b"to out\n" in said
    assert b"to err\n" in said
    await session.close()


async def test_a_command_that_is_not_there_says_so(yard: Yard) -> None:
    session = await yard.engine.execute(await yard.shared_web(), ["sh", "-c", "no-such-program"])
    assert b"not found" in await yard.output(session)
    assert await session.exit_code() == 127
    await session.close()


async def test_a_command_takes_input(yard: Yard) -> None:
    session = await yard.engine.execute(await yard.shared_web(), ["cat"])
    await session.write(b"first\n")
    assert await yard.output(session, until=b"first\n") == b"first\n"
    await session.write("señor \U0001f6a2\n".encode())
    assert "señor \U0001f6a2\n".encode() in await yard.output(session, until=b"\n")
    await session.close()


async def test_input_of_any_bytes_comes_back_as_it_was(yard: Yard) -> None:
    session = await yard.engine.execute(await yard.shared_web(), ["cat"])
    data = bytes(range(256)) * 64 + b"\nthe end\n"
    await session.write(data)
    assert await yard.output(session, until=b"the end\n") == data
    await session.close()


async def test_without_a_terminal_there_is_none(yard: Yard) -> None:
    session = await yard.engine.execute(await yard.shared_web(), ["tty"])
    assert b"not a tty" in await yard.output(session)
    assert await session.exit_code() == 1
    await session.close()


async def test_with_a_terminal_there_is_one(yard: Yard) -> None:
    session = await yard.engine.execute(await yard.shared_web(), ["tty"], terminal=True)
    assert b"/dev/" in await yard.output(session)
    assert await session.exit_code() == 0
    await session.close()


async def test_a_terminal_has_the_size_that_it_is_told(yard: Yard) -> None:
    session = await yard.engine.execute(await yard.shared_web(), ["sh"], terminal=True)
    await session.resize(40, 132)
    await session.write(b"stty size\n")
    await yard.output(session, until=b"40 132")
    await session.close()


async def test_a_shell_in_a_terminal_can_be_talked_to(yard: Yard) -> None:
    session = await yard.engine.execute(await yard.shared_web(), ["sh"], terminal=True)
    await session.write(b"echo $FROM_THE_IMAGE\n")
    await yard.output(session, until=b"yes\r\n")
    await session.write(b"exit 3\n")
    await yard.output(session)
    assert await session.exit_code() == 3
    await session.close()


async def test_an_interrupt_in_a_terminal_ends_a_command(yard: Yard) -> None:
    session = await yard.engine.execute(await yard.shared_web(), ["cat"], terminal=True)
    await session.write(b"here\n")
    await yard.output(session, until=b"here\r\nhere\r\n")
    await session.write(b"\x03")
    await yard.output(session)
    assert await session.exit_code() != 0
    await session.close()


async def test_a_command_sees_the_instances_environment(yard: Yard) -> None:
    session = await yard.engine.execute(await yard.shared_web(), ["printenv", "OF_BOTH"])
    assert await yard.output(session) == b"order\n"
    await session.close()


async def test_closing_ends_a_command_that_still_runs(yard: Yard) -> None:
    session = await yard.engine.execute(await yard.shared_web(), ["sh", "-c", "echo here; sleep 60"])
    await yard.output(session, until=b"here\n")
    await session.close()
    await yard.output(session)
    async with asyncio.timeout(yard.patience):
        assert await session.exit_code() != 0


async def test_closing_twice_is_no_error(yard: Yard) -> None:
    session = await yard.engine.execute(await yard.shared_web(), ["echo", "hello"])
    await session.close()
    await session.close()


async def test_a_command_ends_with_its_instance(yard: Yard) -> None:
    name = await yard.web()
    session = await yard.engine.execute(name, ["sh", "-c", "echo here; sleep 60"])
    await yard.output(session, until=b"here\n")
    await yard.engine.remove(name)
    await yard.output(session)
    await session.close()


async def test_the_instance_goes_on_when_a_command_ends(yard: Yard) -> None:
    name = await yard.shared_web()
    before = await yard.sight(name)
    session = await yard.engine.execute(name, ["sh", "-c", "exit 1"])
    await session.exit_code()
    await session.close()
    assert await yard.sight(name) == before


async def test_two_commands_run_at_the_same_time(yard: Yard) -> None:
    name = await yard.shared_web()
    sessions = [await yard.engine.execute(name, ["cat"]) for _ in range(2)]
    for number, session in enumerate(sessions):
        await session.write(f"{number}\n".encode())
    outputs = [await yard.output(session, until=b"\n") for session in sessions]
    assert outputs == [b"0\n", b"1\n"]
    for session in sessions:
        await session.close()


async def test_what_a_command_says_is_not_in_the_instances_output(yard: Yard) -> None:
    name = await yard.run(TICKER)
    session = await yard.engine.execute(name, ["echo", "only for me"])
    await yard.output(session)
    await session.close()
    await yard.printed(name, "tick 2")
    await yard.stop_quickly(name)
    assert "only for me" not in await yard.texts(name)


async def test_in_one_that_has_ended_nothing_runs(yard: Yard) -> None:
    name = await yard.shared_ended(JOB)
    with pytest.raises(InstanceNotRunning):
        await yard.engine.execute(name, ["echo", "hello"])


async def test_in_one_that_was_never_started_nothing_runs(yard: Yard) -> None:
    name = await yard.create(JOB)
    with pytest.raises(InstanceNotRunning):
        await yard.engine.execute(name, ["echo", "hello"])


async def test_in_an_unknown_one_nothing_runs(yard: Yard) -> None:
    with pytest.raises(NoSuchInstance):
        await yard.engine.execute("muelle-nothing-1-1", ["echo", "hello"])
