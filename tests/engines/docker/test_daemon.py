"""A daemon that hangs, goes away and comes back, and readers that do not keep up."""

from __future__ import annotations

import asyncio
import time

import pytest

from muelle.engines.protocol import Condition, EngineUnavailable
from tests.engines.docker.quay import Quay
from tests.engines.docker.relay import Relay

WAITS_SECONDS = 0.5


async def test_a_daemon_that_hangs_delays_nobody_for_ever(quay: Quay, relay: Relay) -> None:
    engine = quay.connect(relay.address, answer_seconds=WAITS_SECONDS)
    assert await engine.observe() == []
    relay.answers = False
    calls = (engine.check(), engine.observe(), engine.start("x"), engine.usage("x"), engine.tidy(), engine.disk())
    begun = time.monotonic()
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {EngineUnavailable}
    assert time.monotonic() - begun < 10
    relay.answers = True
    assert await engine.observe() == []


async def test_a_daemon_that_was_away_is_asked_again(quay: Quay, relay: Relay) -> None:
    engine = quay.connect(relay.address)
    name = await quay.run("time.sleep(60)", engine=engine)
    await relay.close()
    with pytest.raises(EngineUnavailable):
        await engine.observe()
    with pytest.raises(EngineUnavailable):
        await engine.check()
    await relay.open()
    (seen,) = await engine.observe()
    assert (seen.name, seen.condition) == (name, Condition.RUNNING)
    await engine.stop(name, 0)


async def test_watching_ends_with_the_daemon(quay: Quay, relay: Relay) -> None:
    engine = quay.connect(relay.address)
    changes = aiter(engine.watch())
    await quay.create(workload="first", engine=engine)
    async with asyncio.timeout(20):
        assert await anext(changes) == "first"
        await relay.close()
        assert [change async for change in changes] == []


async def test_a_log_that_is_cut_off_does_not_look_ended(quay: Quay, relay: Relay) -> None:
    engine = quay.connect(relay.address)
    name = await quay.run("print('begun'); time.sleep(60)", engine=engine)
    lines = aiter(engine.logs(name))
    async with asyncio.timeout(20):
        assert (await anext(lines)).text == "begun"
        await relay.close()
        with pytest.raises(EngineUnavailable):
            await anext(lines)


async def test_readers_of_logs_do_not_keep_others_from_being_answered(quay: Quay) -> None:
    name = await quay.run("print('begun'); time.sleep(60)")
    readers = [aiter(quay.engine.logs(name)) for _ in range(120)]
    async with asyncio.timeout(30):
        await asyncio.gather(*(anext(reader) for reader in readers))
        assert len(await quay.engine.observe()) == 1
    for reader in readers:
        await reader.aclose()  # type: ignore[attr-defined]


async def test_a_reader_that_does_not_keep_up_holds_back_the_daemon(quay: Quay, relay: Relay) -> None:
    engine = quay.connect(relay.address)
    name = await quay.run("for _ in range(9000): print('x' * 1000)")  # within what a log may keep
    await quay.ended(name)
    lines = aiter(engine.logs(name))
    await anext(lines)
    before = -1
    while before != relay.told_bytes:  # until no more comes
        before = relay.told_bytes
        await asyncio.sleep(0.2)
    assert relay.told_bytes < 4 * 2**20
    assert len([line async for line in lines]) == 8999


async def test_an_engine_that_is_not_there_is_unavailable(quay: Quay) -> None:
    engine = quay.connect("unix:///nowhere/docker.sock")
    with pytest.raises(EngineUnavailable):
        await engine.check()


async def test_a_daemon_that_hangs_while_it_tells_is_found_out(
    quay: Quay, relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("muelle.engines.docker.daemon.IDLE_SECONDS", WAITS_SECONDS)
    name = await quay.run("print('begun'); time.sleep(60)")
    engine = quay.connect(relay.address, answer_seconds=WAITS_SECONDS)
    lines, changes = aiter(engine.logs(name)), aiter(engine.watch())
    async with asyncio.timeout(20):
        assert (await anext(lines)).text == "begun"
        next_change = asyncio.ensure_future(anext(changes, "over"))
        await asyncio.sleep(2 * WAITS_SECONDS)  # a while in which nothing is told, and the daemon is there
        relay.answers = False
        with pytest.raises(EngineUnavailable):
            await anext(lines)
        assert await next_change in {"work", "over"}
