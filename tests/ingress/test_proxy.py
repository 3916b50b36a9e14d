"""What the proxy passes on, in both directions, and what it keeps to itself."""

from __future__ import annotations

import asyncio
import resource
import socket
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import websockets
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve

from tests.ingress.harbour import HOST, SHORT, Harbour, harbour
from tests.ingress.program import Call, Program
from tests.waiting import eventually

MIB = 2**20
LARGE = 100 * MIB
MEMORY_MIB = 40
"""Much less than a large body, much more than the buffers on its way."""


async def test_a_request_gets_to_the_workload_and_its_answer_back(port: Harbour) -> None:
    async with Program() as shop:
        port.lead(shop)
        line = await port.line()
        for number in range(3):
            reply = await line.get(f"/{number}?a=b")
            assert (reply.status, reply.body) == (200, f"hello /{number}?a=b".encode())
        assert shop.connections == 1, "the connection to the workload is kept"
        assert port.proxy.counters.requests == 3
        assert port.proxy.counters.answers[2] == 3
        assert port.proxy.in_flight(shop.address) == 0
        assert port.proxy.under_way() == {}


async def test_what_concerns_one_connection_goes_no_further(port: Harbour) -> None:
    async def talkative(call: Call) -> None:
        more = "Connection: keep-alive, X-Mine\r\nKeep-Alive: timeout=5\r\nX-Mine: 1\r\nX-Yours: 2\r\nTrailer: X\r\n"
        await call.answer(b"ok", more=more)

    async with Program(talkative) as shop:
        port.lead(shop)
        line = await port.line()
        named = "Connection: keep-alive, x-secret\nX-Secret: 1\nX-Open: 2\nKeep-Alive: 5\nTE: trailers\nProxy: evil\n"
        reply = await line.get(more=f"{named}Proxy-Authorization: Basic eA==\nAuthorization: Bearer t\nCookie: a=b\n")
        assert reply.headers == {"content-length": "2", "x-yours": "2"}
        (call,) = shop.calls
        names = [name.lower() for name, _ in call.headers]
        assert sorted(names) == sorted(
            [
                *("host", "x-open", "authorization", "cookie"),
                *("x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-request-id"),
            ]
        )


async def test_what_a_client_says_of_where_it_comes_from_is_not_believed(port: Harbour) -> None:
    async with Program() as shop:
        port.lead(shop)
        line = await port.line()
        lies = "X-Forwarded-For: 1.2.3.4\nx-forwarded-proto: https\nX_Forwarded_For: 1.2.3.4\nForwarded: for=1.2.3.4\n"
        await line.get(more=f"{lies}X-Real-IP: 1.2.3.4\nX-Request-Id: mine\nX-Forwarded-Host: a\nX-Forwarded-Port: 1\n")
        (call,) = shop.calls
        told = {name.lower(): value for name, value in call.headers if "x" in name.lower() or "f" in name.lower()}
        assert len(told.pop("x-request-id")) >= 24
        assert told == {"x-forwarded-for": "127.0.0.1", "x-forwarded-proto": "http", "x-forwarded-host": HOST}


async def test_a_trusted_proxy_is_believed() -> None:
    async with harbour(trusted_proxies=["127.0.0.0/8"]) as port, Program() as shop:
        port.lead(shop)
        line = await port.line()
        said = "X-Forwarded-For: 1.2.3.4\nX-Forwarded-For: 5.6.7.8\nX-Forwarded-Proto: https\nX-Request-Id: mine-1234\n"
        await line.get(more=f"{said}X-Forwarded-Host: shop.example\nX_Forwarded_For: 6.6.6.6\n")
        (call,) = shop.calls
        assert call.all("x-forwarded-for") == ["1.2.3.4, 5.6.7.8, 127.0.0.1"]
        assert call.all("x_forwarded_for") == []
        assert call.one("x-forwarded-proto") == "https"
        assert call.one("x-forwarded-host") == "shop.example"
        assert call.one("x-request-id") == "mine-1234"


@pytest.mark.parametrize("host", ["SHOP.Ana.LocalHost", f"{HOST}:7080", f"{HOST}.", f"{HOST}.:80"])
async def test_a_name_is_found_however_it_is_written(port: Harbour, host: str) -> None:
    async with Program() as shop:
        port.lead(shop)
        reply = await (await port.line()).get(host=host)
        assert reply.status == 200
        assert shop.calls[0].one("host") == host, "the workload hears it as it was written"


async def test_an_absolute_address_is_taken_for_its_path(port: Harbour) -> None:
    async with Program() as shop:
        port.lead(shop)
        line = await port.line()
        assert (await line.get(f"http://{HOST}/a?b")).body == b"hello /a?b"
        assert (await line.get(f"http://{HOST}?b")).body == b"hello /?b"
        assert (await line.get(f"http://other.{HOST}/a")).status == 400


async def test_head_and_answers_without_a_body_leave_the_connection_usable(port: Harbour) -> None:
    async def handle(call: Call) -> None:
        if call.method == "HEAD":
            await call.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        elif call.target == "/304":
            await call.send(b"HTTP/1.1 304 Not Modified\r\nContent-Length: 1000\r\n\r\n")
        elif call.target == "/204":
            await call.send(b"HTTP/1.1 204 No Content\r\n\r\n")
        else:
            await call.answer(b"ok")

    async with Program(handle) as shop:
        port.lead(shop)
        line = await port.line()
        assert (await line.get(method="HEAD")).headers["content-length"] == "1000"
        assert (await line.get("/304")).status == 304
        assert (await line.get("/204")).status == 204
        assert (await line.get("/")).body == b"ok"
        assert shop.connections == 1


async def test_chunks_are_passed_on_without_extensions_and_trailers(port: Harbour) -> None:
    async def echo(call: Call) -> None:
        body = await call.body()
        await call.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n")
        await call.send(b"%x;name=value\r\n%b\r\n0\r\nX-Sum: 1\r\n\r\n" % (len(body), body))

    async with Program(echo) as shop:
        port.lead(shop)
        line = await port.line()
        head = f"POST / HTTP/1.1\nHost: {HOST}\nTransfer-Encoding: chunked\n\n"
        reply = await line.ask(f"{head}5;ext=1\nhello\n006\n world\n0\nX-Trailer: 1\n\n")
        assert reply.body == b"hello world"
        assert "trailer" not in reply.headers
        assert (await line.ask(f"{head}2\nok\n0\n\n")).body == b"ok"
        assert shop.connections == 1


async def test_a_message_that_comes_byte_by_byte_is_the_same(port: Harbour) -> None:
    async def echo(call: Call) -> None:
        body = await call.body()
        whole = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
        for place in range(len(whole)):
            await call.send(whole[place : place + 1])
            await asyncio.sleep(0)

    async with Program(echo) as shop:
        port.lead(shop)
        line = await port.line()
        head = f"\nPOST / HTTP/1.1\nHost: {HOST}\nTransfer-Encoding: chunked\n\n"
        for place in range(2):
            for letter in (head + "a\n0123456789\n1\nx\n0\nA: b\n\n").replace("\n", "\r\n"):
                await line.send(letter.encode())
                await asyncio.sleep(0)
            assert (await line.reply()).body == b"0123456789x", place


async def test_an_old_client_gets_an_answer_that_it_can_read(port: Harbour) -> None:
    async def chunks(call: Call) -> None:
        await call.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n")

    async with Program(chunks) as shop, Program() as plain:
        port.lead(shop)
        line = await port.line()
        reply = await line.ask(f"GET / HTTP/1.0\nHost: {HOST}\nConnection: keep-alive\n\n")
        assert "transfer-encoding" not in reply.headers
        assert (reply.headers["connection"], reply.body) == ("close", b"hello world")
        port.lead(plain)
        line = await port.line()
        for _ in range(2):
            reply = await line.ask(f"GET / HTTP/1.0\nHost: {HOST}\nConnection: keep-alive\n\n")
            assert reply.headers["connection"] == "keep-alive"
        await line.ask(f"GET / HTTP/1.0\nHost: {HOST}\n\n")
        assert await line.is_closed()


async def test_an_answer_that_ends_with_its_connection_is_whole(port: Harbour) -> None:
    async def old(call: Call) -> bool:
        await call.send(b"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nall of it")
        return False

    async with Program(old) as shop:
        port.lead(shop)
        reply = await (await port.line()).get()
        assert (reply.body, reply.headers["connection"]) == (b"all of it", "close")


async def test_an_answer_that_breaks_off_is_not_taken_for_whole(port: Harbour) -> None:
    async def liar(call: Call) -> bool:
        framed = {"/length": b"Content-Length: 100", "/chunks": b"Transfer-Encoding: chunked"}[call.target]
        await call.send(b"HTTP/1.1 200 OK\r\n%b\r\n\r\n5\r\nhello\r\n" % framed)
        return False

    async with Program(liar) as shop:
        port.lead(shop)
        for target in ("/length", "/chunks"):
            with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
                await (await port.line()).get(target)
        assert port.proxy.counters.broken_off == 2


async def test_requests_sent_ahead_are_answered_in_their_order(port: Harbour) -> None:
    async def slow_first(call: Call) -> None:
        body = await call.body()
        if call.target == "/0":
            await asyncio.sleep(0.02)
        await call.answer(call.target.encode() + body)

    async with Program(slow_first) as shop:
        port.lead(shop)
        line = await port.line()
        asked = [f"POST /{n} HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 2\r\n\r\nab" for n in range(50)]
        nobody = "GET / HTTP/1.1\r\nHost: nobody.localhost\r\n\r\n"
        await line.send("".join([*asked, nobody, asked[0]]).encode())
        for number in range(50):
            assert (await line.reply()).body == f"/{number}ab".encode()
        assert (await line.reply()).status == 404
        assert (await line.reply()).body == b"/0ab"


async def test_thousands_of_requests_sent_ahead_for_nobody_are_no_recursion(port: Harbour) -> None:
    line = await port.line()
    sending = asyncio.create_task(line.send(b"GET / HTTP/1.1\r\nHost: nobody\r\n\r\n" * 5000))
    for _ in range(5000):
        assert (await line.reply()).status == 404
    await sending


async def test_a_client_that_waits_for_a_sign_gets_it(port: Harbour) -> None:
    async def expecting(call: Call) -> None:
        if call.target == "/no":
            await call.answer(b"no", "403 Forbidden")
            return
        assert call.one("expect") == "100-continue"
        await call.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        await call.answer(await call.body())

    async with Program(expecting) as shop:
        port.lead(shop)
        line = await port.line()
        head = f"POST {{}} HTTP/1.1\nHost: {HOST}\nContent-Length: 5\nExpect: 100-continue\n\n"
        assert (await line.ask(head.format("/yes"))).status == 100
        await line.send(b"hello")
        assert (await line.reply()).body == b"hello"
        reply = await line.ask(head.format("/no"))
        assert (reply.status, reply.headers["connection"]) == (403, "close")
        reply = await (await port.line()).get(more="Expect: miracles\n")
        assert reply.status == 417


async def test_early_hints_come_before_the_answer(port: Harbour) -> None:
    async def hints(call: Call) -> None:
        await call.send(b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n" * 2)
        await call.answer(b"page")

    async with Program(hints) as shop:
        port.lead(shop)
        line = await port.line()
        first = await line.get()
        assert (first.status, first.headers) == (103, {"link": "</a.css>"})
        assert (await line.reply()).status == 103
        assert (await line.reply()).body == b"page"
        await line.send(f"GET / HTTP/1.0\r\nHost: {HOST}\r\n\r\n".encode())
        assert (await line.reply()).body == b"page", "an old client knows no hints"


async def test_an_answer_before_the_end_of_the_request_is_seen(port: Harbour) -> None:
    async def hasty(call: Call) -> bool:
        await call.answer(b"too large", "413 Content Too Large")
        return False

    async with Program(hasty) as shop:
        port.lead(shop)
        line = await port.line()
        await line.send(f"POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 500000\r\n\r\n".encode() + b"x" * 100_000)
        reply = await line.reply()
        assert (reply.status, reply.body, reply.headers["connection"]) == (413, b"too large", "close")


async def test_both_directions_flow_at_the_same_time(port: Harbour) -> None:
    async def echo(call: Call) -> None:
        await call.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while size := int(await call.reader.readuntil(b"\r\n"), 16):
            data = await call.reader.readexactly(size + 2)
            await call.send(b"%x\r\n%b" % (size, data))
        await call.send(b"0\r\n\r\n")

    async with Program(echo) as shop:
        port.lead(shop)
        line = await port.line()
        await line.send(f"POST / HTTP/1.1\r\nHost: {HOST}\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
        await line.send(b"4\r\nping\r\n")
        assert (await line.head()).status == 200
        for _ in range(3):
            assert await line.exactly(9) == b"4\r\nping\r\n"
            await line.send(b"4\r\nping\r\n")


async def test_events_are_passed_on_at_once(port: Harbour) -> None:
    more = asyncio.Event()

    async def events(call: Call) -> None:
        await call.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        for number in range(3):
            event = b"data: %d\n\n" % number
            await call.send(b"%x\r\n%b\r\n" % (len(event), event))
            await more.wait()
            more.clear()

    async with Program(events) as shop:
        port.lead(shop)
        line = await port.line()
        await line.send(f"GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
        assert (await line.head()).status == 200
        for number in range(3):
            assert await line.until(b"\n\n\r\n") == b"9\r\ndata: %d\n\n\r\n" % number
            more.set()
        line.close()


async def test_a_workload_hears_that_its_client_has_gone(port: Harbour) -> None:
    gone = asyncio.Event()

    async def endless(call: Call) -> None:
        await call.send(b"HTTP/1.1 200 OK\r\n\r\n")
        await call.reader.read()
        gone.set()

    async with Program(endless) as shop:
        port.lead(shop)
        line = await port.line()
        await line.send(f"GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
        await line.head()
        assert port.proxy.in_flight(shop.address) == 1
        assert port.proxy.under_way() == {"shop": 1}
        line.close()
        async with asyncio.timeout(10):
            await gone.wait()
        await eventually(lambda: port.proxy.in_flight(shop.address) == 0)
        assert port.proxy.counters.abandoned == 1


async def test_a_websocket_is_spliced_both_ways(port: Harbour) -> None:
    async def echo(socket: ServerConnection) -> None:
        async for message in socket:
            await socket.send(message)

    async with serve(echo, "127.0.0.1", 0, max_size=2**24) as server:
        port.lead(f"127.0.0.1:{server.sockets[0].getsockname()[1]}")
        address = f"ws://{HOST}:{port.number}/chat"
        async with connect(address, host="127.0.0.1", port=port.number, max_size=2**24, proxy=None) as socket:
            for message in ("hello", b"\0" * 5_000_000, "again"):
                await socket.send(message)
                assert await socket.recv() == message
            assert port.proxy.under_way() == {"shop": 1}
        await eventually(lambda: port.proxy.under_way() == {})
        assert port.proxy.counters.tunnels == 1
        with pytest.raises(websockets.InvalidStatus):
            await connect("ws://nobody.localhost/", host="127.0.0.1", port=port.number, proxy=None)


async def test_any_upgrade_is_a_tunnel_whose_ends_close_one_by_one(port: Harbour) -> None:
    async def shout(call: Call) -> bool:
        assert (call.one("upgrade"), call.one("connection").lower()) == ("shouting", "upgrade")
        await call.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: shouting\r\n\r\nHI")
        heard = await call.reader.read()
        await call.send(heard.upper())
        return False

    async with Program(shout) as shop:
        port.lead(shop)
        line = await port.line()
        await line.send(
            f"GET / HTTP/1.1\r\nHost: {HOST}\r\nConnection: upgrade\r\nUpgrade: shouting\r\n\r\nsoon".encode()
        )
        assert (await line.head()).headers == {"connection": "Upgrade", "upgrade": "shouting"}
        assert await line.exactly(2) == b"HI"
        await line.send(b" and late")
        line.writer.write_eof()
        assert await line.rest() == b"SOON AND LATE"
        await eventually(lambda: port.proxy.in_flight(shop.address) == 0)


async def test_an_upgrade_that_the_workload_does_not_want_is_a_request(port: Harbour) -> None:
    async with Program() as shop:
        port.lead(shop)
        line = await port.line()
        more = "Connection: Upgrade, HTTP2-Settings\nUpgrade: h2c\nHTTP2-Settings: AAMAAABkAAQAAP__\n"
        assert (await line.get(more=more)).status == 200
        assert not shop.calls[0].all("upgrade"), "what we could not see into is not offered"
        assert not shop.calls[0].all("http2-settings")
        assert (await line.get(more="Connection: Upgrade\nUpgrade: websocket\n")).status == 200
        assert (await line.get()).status == 200


async def test_a_client_that_vanished_is_noticed_by_the_system(port: Harbour) -> None:
    await port.line()
    (client,) = await eventually(lambda: list(port.proxy._clients))
    assert client.transport.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1


async def test_nobody_is_switched_who_did_not_ask(port: Harbour) -> None:
    async def switch(call: Call) -> None:
        await call.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")

    async with Program(switch) as shop:
        port.lead(shop)
        assert (await (await port.line()).get()).status == 502


async def test_a_large_body_goes_up_without_being_held(port: Harbour) -> None:
    async def count(call: Call) -> None:
        length = int(call.one("content-length"))
        while length:
            length -= len(await call.reader.read(min(length, MIB)))
        await call.answer(b"all of it")

    async with Program(count) as shop:
        port.lead(shop)
        line = await port.line()
        before = most = _memory_mib()
        await line.send(f"POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {LARGE}\r\n\r\n".encode())
        piece = b"x" * MIB
        for _ in range(LARGE // MIB):
            await line.send(piece)
            most = max(most, _memory_mib())
        assert (await line.reply()).body == b"all of it"
        assert most - before < MEMORY_MIB


async def test_a_large_answer_comes_down_no_faster_than_it_is_read(port: Harbour) -> None:
    sent = 0

    async def flood(call: Call) -> None:
        nonlocal sent
        await call.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % LARGE)
        piece = b"x" * MIB
        for _ in range(LARGE // MIB):
            await call.send(piece)
            sent += MIB

    async with Program(flood) as shop:
        port.lead(shop)
        line = await port.line()
        before = _memory_mib()
        await line.send(f"GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
        assert (await line.head()).headers["content-length"] == str(LARGE)
        await _comes_to_rest(lambda: sent)
        assert sent < LARGE / 2, "nobody has read any of it"
        left, most = LARGE, _memory_mib()
        while left:
            left -= len(await line.reader.read(min(left, MIB)))
            most = max(most, _memory_mib())
        assert most - before < MEMORY_MIB
        await eventually(lambda: port.proxy.in_flight(shop.address) == 0)


def _memory_mib() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / MIB


async def _comes_to_rest(count: Callable[[], int]) -> None:
    """Until a number has not changed for a while."""
    last, since = -1, time.monotonic()
    while time.monotonic() - since < 0.2:
        now = count()
        if now != last:
            last, since = now, time.monotonic()
        await asyncio.sleep(0.01)


async def test_a_client_that_takes_nothing_is_cut_off() -> None:
    async def flood(call: Call) -> None:
        await call.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % LARGE)
        await call.send(b"x" * LARGE)

    async with harbour(replace(SHORT, stalled_seconds=0.1)) as port, Program(flood) as shop:
        port.lead(shop)
        line = await port.line()
        line.writer.transport.pause_reading()
        await line.send(f"GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
        await eventually(lambda: port.proxy.counters.requests == 1 and port.proxy.in_flight(shop.address) == 0)
        await eventually(lambda: port.proxy.counters.connections == 0)
