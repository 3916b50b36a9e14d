"""Commands in a container: ended on closing, with all that they started, however far we are from the daemon."""

from __future__ import annotations

import asyncio

import pytest

from muelle.engines.docker import DockerEngine
from muelle.engines.protocol import Session
from tests.engines.docker.quay import Quay
from tests.engines.docker.relay import Relay
from tests.waiting import eventually

SLEEPS = "sleep 97 & sleep 98"


@pytest.fixture(params=["here", "elsewhere"])
async def engine(request: pytest.FixtureRequest, quay: Quay, relay: Relay) -> DockerEngine:
    """With the daemon on this machine, and where nothing is known of its processes."""
    return quay.engine if request.param == "here" else quay.connect(await relay.open_port())


async def output(session: Session) -> bytes:
    said = b""
    async with asyncio.timeout(20):
        while piece := await session.read():
            said += piece
    return said


@pytest.mark.parametrize("terminal", [False, True])
async def test_closing_ends_the_command_and_its_children(quay: Quay, engine: DockerEngine, terminal: bool) -> None:
    name = await quay.run("time.sleep(60)")
    session = await engine.execute(name, ["sh", "-c", f"{SLEEPS}; true"], terminal=terminal)
    await eventually(lambda: sleeping(quay, name, 2))
    await session.close()
    await eventually(lambda: sleeping(quay, name, 0))
    await session.close()
    assert await session.read() == b""
    assert await session.exit_code() == 137


async def sleeping(quay: Quay, name: str, number: int) -> bool:
    processes = (await quay.ask("GET", f"/containers/{quay.names.container(name)}/top"))["Processes"]
    return (
        sum(" ".join(process).count("sleep 9") and "sh -c" not in " ".join(process) for process in processes) == number
    )


async def test_a_command_reads_writes_and_ends(quay: Quay, engine: DockerEngine) -> None:
    name = await quay.run("time.sleep(60)")
    session = await engine.execute(name, ["sh", "-c", "read word; echo got $word; echo oops >&2; exit 7"])
    await session.write(b"this\n")
    assert sorted((await output(session)).split(b"\n")) == [b"", b"got this", b"oops"]
    assert await session.exit_code() == 7
    await session.write(b"too late\n")
    await session.close()


async def test_a_terminal_has_a_size(quay: Quay, engine: DockerEngine) -> None:
    name = await quay.run("time.sleep(60)")
    session = await engine.execute(name, ["sh", "-c", "read go; stty size"], terminal=True)
    await session.resize(33, 77)
    await session.write(b"go\n")
    assert b"33 77" in await output(session)
    await session.close()
