"""No request fails because a name begins to lead elsewhere, whatever happens to what was there before."""

from __future__ import annotations

import asyncio
import socket
from contextlib import AsyncExitStack
from dataclasses import replace

import pytest

from muelle.events import Route
from tests.ingress.harbour import HOST, SHORT, Harbour, harbour
from tests.ingress.program import Call, Handler, Program
from tests.servers.private import free_port
from tests.waiting import eventually

POST = f"POST / HTTP/1.1\nHost: {HOST}\nContent-Length: 5\n\nhello"


def saying(word: bytes) -> Handler:
    async def handle(call: Call) -> None:
        await call.body()
        await call.answer(word)

    return handle


async def test_the_next_request_goes_where_the_name_leads_now(port: Harbour) -> None:
    async with Program(saying(b"old")) as old, Program(saying(b"new")) as new:
        line = await port.line()
        for _ in range(3):
            port.lead(old)
            assert (await line.get()).body == b"old"
            port.lead(new)
            assert (await line.get()).body == b"new"


async def test_what_is_under_way_ends_where_it_is(port: Harbour) -> None:
    may_go_on = asyncio.Event()

    async def slow(call: Call) -> None:
        await call.send(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nold ")
        await may_go_on.wait()
        await call.send(b"old ")

    async with Program(slow) as old, Program(saying(b"new")) as new:
        port.lead(old)
        line = await port.line()
        asking = asyncio.create_task(line.get())
        await eventually(lambda: port.proxy.in_flight(old.address) == 1)
        port.lead(new)
        assert (await (await port.line()).get()).body == b"new"
        assert port.proxy.in_flight(old.address) == 1, "it is not drained yet"
        may_go_on.set()
        assert (await asking).body == b"old old "
        await eventually(lambda: port.proxy.in_flight(old.address) == 0)


async def test_no_request_fails_through_many_switches(port: Harbour) -> None:
    """Each new one begins to listen only after the name leads to it; each old one ends as soon as it is drained."""
    failed: list[object] = []
    answered = 0
    over = False

    async def customer(number: int) -> None:
        nonlocal answered
        line = await port.line()
        while not over:
            reply = await (line.get() if number % 2 else line.ask(POST))
            answered += 1
            if reply.status != 200 or not reply.body.startswith(b"release"):
                failed.append(reply)

    async with AsyncExitStack() as stack:
        current = await stack.enter_async_context(Program(saying(b"release 0")))
        port.lead(current)
        customers = [asyncio.create_task(customer(number)) for number in range(6)]
        for release in range(1, 15):
            seen = answered
            following = Program(saying(b"release %d" % release), at=free_port())
            port.lead(f"127.0.0.1:{following.port}")
            await asyncio.sleep(0.01)
            await stack.enter_async_context(following)
            last = current
            await eventually(lambda last=last: port.proxy.in_flight(last.address) == 0)  # type: ignore[misc]
            current.close()
            current = following
            await eventually(lambda seen=seen: answered > seen + 10)  # type: ignore[misc]
        over = True
        await asyncio.gather(*customers)
    assert failed == []


async def test_a_kept_connection_that_was_closed_costs_nobody_anything(port: Harbour) -> None:
    async with Program() as shop:
        port.lead(shop)
        line = await port.line()
        for number in range(1, 6):
            assert (await line.get()).status == 200
            assert shop.connections == number
            shop.hang_up()


@pytest.mark.parametrize("method", ["GET", "PUT"])
async def test_a_request_lost_on_a_kept_connection_is_sent_again(port: Harbour, method: str) -> None:
    """The workload takes the second request of a connection, and closes it without a word."""

    async def once(call: Call) -> bool:
        body = await call.body()
        if call is not port_calls(shop, call)[0]:
            call.writer.transport.abort()
            return False
        await call.answer(b"got " + body)
        return True

    async with Program(once) as shop:
        port.lead(shop)
        line = await port.line()
        request = f"{method} / HTTP/1.1\nHost: {HOST}\nContent-Length: 5\n\nhello"
        for _ in range(2):
            reply = await line.ask(request)
            assert (reply.status, reply.body) == (200, b"got hello")
        assert shop.connections == 2
        assert port.proxy.counters.retried == 1


def port_calls(program: Program, call: Call) -> list[Call]:
    """The requests of the same connection."""
    return [each for each in program.calls if each.number == call.number]


async def test_a_request_that_may_have_had_an_effect_is_not_sent_again(port: Harbour) -> None:
    async def once(call: Call) -> bool:
        await call.body()
        if call is not port_calls(shop, call)[0]:
            return False
        await call.answer(b"done")
        return True

    async with Program(once) as shop:
        port.lead(shop)
        line = await port.line()
        assert (await line.ask(POST)).status == 200
        assert (await line.ask(POST)).status == 502
        assert len(shop.calls) == 2


async def test_a_request_that_must_not_be_sent_twice_takes_no_stale_connection(port: Harbour) -> None:
    async with Program() as shop:
        port.lead(shop)
        line = await port.line()
        assert (await line.get()).status == 200
        began = port.proxy.tick
        await eventually(lambda: port.proxy.tick > began + 3)
        assert (await line.ask(POST)).status == 200
        assert shop.connections == 2


async def test_a_request_lost_with_what_was_there_goes_to_what_is_there_now(port: Harbour) -> None:
    async def dies(call: Call) -> bool:
        port.lead(new)
        call.writer.transport.abort()
        return False

    async with Program(dies) as old, Program(saying(b"new")) as new:
        port.lead(old)
        assert (await (await port.line()).get()).body == b"new"
        assert (len(old.calls), len(new.calls)) == (1, 1)


async def test_a_workload_that_dies_of_a_request_gets_it_once(port: Harbour) -> None:
    async def dies(call: Call) -> bool:
        call.writer.transport.abort()
        return False

    async with Program(dies) as shop:
        port.lead(shop)
        assert (await (await port.line()).get()).status == 502
        assert len(shop.calls) == 1


async def test_a_large_body_is_not_kept_to_be_sent_again() -> None:
    async def once(call: Call) -> bool:
        if call is not port_calls(shop, call)[0]:
            await call.reader.readexactly(200_000)
            return False
        await call.answer(b"ok")
        return True

    async with harbour(replace(SHORT, replay_bytes=100_000)) as port, Program(once) as shop:
        port.lead(shop)
        line = await port.line()
        assert (await line.get()).status == 200
        await line.send(f"PUT / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 300000\r\n\r\n".encode() + b"x" * 300_000)
        assert (await line.reply()).status == 502


async def test_a_workload_that_is_not_there_yet_is_waited_for(port: Harbour) -> None:
    late = Program(saying(b"late"), at=free_port())
    port.lead(f"127.0.0.1:{late.port}")
    line = await port.line()
    asking = asyncio.create_task(line.ask(POST))
    await eventually(lambda: port.proxy.in_flight(late.address) == 1)
    await asyncio.sleep(0.05)
    assert not asking.done()
    async with late:
        assert (await asking).body == b"late"


async def test_a_workload_that_never_comes_is_called_unreachable() -> None:
    async with harbour(replace(SHORT, patience_seconds=0.1)) as port:
        port.lead(f"127.0.0.1:{free_port()}")
        reply = await (await port.line()).get(more="Accept: application/json\n")
        assert (reply.status, b"unreachable" in reply.body) == (502, True)
        port.lead("nonsense")
        assert (await (await port.line()).get()).status == 502


async def test_while_it_refuses_the_table_is_asked_again(port: Harbour) -> None:
    async with Program(saying(b"new")) as new:
        port.lead(f"127.0.0.1:{free_port()}")
        asking = asyncio.create_task((await port.line()).get())
        await eventually(lambda: port.proxy.under_way() == {"shop": 1})
        port.lead(new)
        assert (await asking).body == b"new"


async def test_a_connection_that_does_not_come_about_is_not_waited_for_when_there_is_another(port: Harbour) -> None:
    """The old address swallows what is sent to it, as that of a container does that is gone."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(0)
        fillers = [await _try_to_connect(silent.getsockname()) for _ in range(4)]
        async with Program(saying(b"new")) as new:
            port.lead(f"127.0.0.1:{silent.getsockname()[1]}")
            asking = asyncio.create_task((await port.line()).get())
            await eventually(lambda: port.proxy.under_way() == {"shop": 1})
            port.lead(new)
            began = asyncio.get_running_loop().time()
            assert (await asking).body == b"new"
            assert asyncio.get_running_loop().time() - began < SHORT.connect_seconds
        for filler in fillers:
            filler.close()


async def _try_to_connect(address: tuple[str, int]) -> socket.socket:
    """One more of those for whom there is no room in the queue."""
    filler = socket.socket()
    filler.setblocking(False)
    filler.connect_ex(address)
    return filler


async def test_a_request_waits_for_a_workload_that_starts(port: Harbour) -> None:
    async with Program(saying(b"up")) as shop:
        port.lead(route=Route.STARTING)
        asking = asyncio.create_task((await port.line()).ask(POST))
        await eventually(lambda: port.proxy._waiting.total() == 1)
        port.lead(shop)
        assert (await asking).body == b"up"


async def test_it_does_not_wait_for_ever_nor_in_any_number() -> None:
    async with harbour(replace(SHORT, starting_seconds=0.1, waiting=1)) as port:
        port.lead(route=Route.STARTING, why="It is being built.")
        asking = asyncio.create_task((await port.line()).get())
        await eventually(lambda: port.proxy._waiting.total() == 1)
        over = await (await port.line()).get()
        assert over.status == 503
        reply = await asking
        assert (reply.status, b"It is being built." in reply.body) == (503, True)


async def test_nothing_is_left_of_a_client_that_did_not_wait(port: Harbour) -> None:
    port.lead(route=Route.STARTING)
    line = await port.line()
    asking = asyncio.create_task(line.get())
    await eventually(lambda: port.proxy._waiting.total() == 1)
    line.close()
    await eventually(lambda: port.proxy._waiting.total() == 0)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)


async def test_a_kept_connection_never_leads_to_another_workload(port: Harbour) -> None:
    """Two of them at one address, one after the other, as a port that is given away again."""
    async with Program() as shop:
        port.lead(shop)
        line = await port.line()
        assert (await line.get()).status == 200
        port.lead(shop, host="bar.ana.localhost", workload="bar")
        assert (await line.get(host="bar.ana.localhost")).status == 200
        assert [call.number for call in shop.calls] == [1, 2]


async def test_connections_that_nobody_uses_are_closed_and_forgotten() -> None:
    async with harbour(replace(SHORT, idle_upstream_seconds=0.05)) as port, Program() as shop:
        port.lead(shop)
        assert (await (await port.line()).get()).status == 200
        await eventually(lambda: not port.proxy._pools)
        await eventually(lambda: not shop._writers)


async def test_stopping_lets_what_is_under_way_end() -> None:
    began, may_go_on = asyncio.Event(), asyncio.Event()

    async def slow(call: Call) -> None:
        began.set()
        await may_go_on.wait()
        await call.answer(b"whole")

    async with harbour() as port, Program(slow) as shop:
        port.lead(shop)
        line, idle = await port.line(), await port.line()
        asking = asyncio.create_task(line.get())
        await began.wait()
        stopping = asyncio.create_task(port.proxy.stop(grace_seconds=10))
        assert await idle.is_closed()
        with pytest.raises(OSError):
            await port.line()
        may_go_on.set()
        assert (await asking).body == b"whole"
        await stopping
        assert port.proxy.counters.connections == 0


async def test_a_port_that_is_taken_is_told(port: Harbour) -> None:
    from muelle.ingress.proxy import IngressPortTaken

    with pytest.raises(IngressPortTaken, match=str(port.number)):
        await port.proxy.start("127.0.0.1", port.number)
