"""Requests that want two programs to see different things, that are too much of something, or that never end."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import httptools
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from muelle.ingress.proxy import Proxy
from muelle.ingress.proxy.bodies import BadBody, Chunked
from muelle.ingress.proxy.grammar import REQUEST
from muelle.ingress.proxy.heads import BadHead, Framing, read_request
from muelle.ingress.proxy.limits import Limits
from muelle.ingress.table import Table
from muelle.kit.clock import MovableClock
from tests.ingress.harbour import HOST, SHORT, Harbour, Line, harbour
from tests.ingress.program import Call, Program
from tests.waiting import eventually

GET = f"GET / HTTP/1.1\r\nHost: {HOST}\r\n"
POST = f"POST / HTTP/1.1\r\nHost: {HOST}\r\n"

REFUSED = {
    "both framings": (POST + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "two lengths": (POST + "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello", 400),
    "two equal lengths": (POST + "Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello", 400),
    "a list of lengths": (POST + "Content-Length: 5, 5\r\n\r\nhello", 400),
    "a length with a sign": (POST + "Content-Length: +5\r\n\r\nhello", 400),
    "a negative length": (POST + "Content-Length: -5\r\n\r\nhello", 400),
    "a length in hexadecimal": (POST + "Content-Length: 0x5\r\n\r\nhello", 400),
    "no length at all": (POST + "Content-Length: \r\n\r\n", 400),
    "a length beyond all measure": (POST + f"Content-Length: {'9' * 30}\r\n\r\n", 400),
    "a coding twice": (POST + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 501),
    "another coding": (POST + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501),
    "a coding that looks like it": (POST + "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 501),
    "a coding with a tab in it": (POST + "Transfer-Encoding: \tchunked\x0b\r\n\r\n0\r\n\r\n", 400),
    "a space before the colon": (POST + "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n", 400),
    "a folded line": (GET + "X: 1\r\n folded\r\n\r\n", 400),
    "a folded coding": (POST + "Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n", 400),
    "a folded first line": (f"GET / HTTP/1.1\r\n X: 1\r\nHost: {HOST}\r\n\r\n", 400),
    "lone line feeds": (f"GET / HTTP/1.1\nHost: {HOST}\n\n", 400),
    "a lone line feed in a value": (GET + "X: 1\nTransfer-Encoding: chunked\r\n\r\n", 400),
    "a lone carriage return in a value": (GET + "X: 1\rTransfer-Encoding: chunked\r\n\r\n", 400),
    "a lone carriage return at the end": (GET + "X: 1\r\r\n\r\n", 400),
    "a null": (GET + "X: \0\r\n\r\n", 400),
    "a header without a colon": (GET + "nonsense\r\n\r\n", 400),
    "a header without a name": (GET + ": 1\r\n\r\n", 400),
    "a name with a space": (GET + "X Y: 1\r\n\r\n", 400),
    "a name with letters that are none": (GET + "Xé: 1\r\n\r\n", 400),
    "no host": ("GET / HTTP/1.1\r\nX: 1\r\n\r\n", 400),
    "no host, as in HTTP/1.0": ("GET / HTTP/1.0\r\n\r\n", 400),
    "two hosts": (GET + "Host: other.localhost\r\n\r\n", 400),
    "an empty host": ("GET / HTTP/1.1\r\nHost: \r\n\r\n", 400),
    "a host with a path": (f"GET / HTTP/1.1\r\nHost: {HOST}/x\r\n\r\n", 400),
    "a host with a user": (f"GET / HTTP/1.1\r\nHost: a@{HOST}\r\n\r\n", 400),
    "a host with a space": (f"GET / HTTP/1.1\r\nHost: {HOST} x\r\n\r\n", 400),
    "two hosts in one": (f"GET / HTTP/1.1\r\nHost: {HOST},other\r\n\r\n", 400),
    "a host with an odd port": (f"GET / HTTP/1.1\r\nHost: {HOST}:x\r\n\r\n", 400),
    "a host with escapes": ("GET / HTTP/1.1\r\nHost: %73hop.ana.localhost\r\n\r\n", 400),
    "a host in letters of another script": ("GET / HTTP/1.1\r\nHost: shóp.localhost\r\n\r\n", 400),
    "no path": (f"GET x HTTP/1.1\r\nHost: {HOST}\r\n\r\n", 400),
    "a fragment": (f"GET /#x HTTP/1.1\r\nHost: {HOST}\r\n\r\n", 400),
    "a space in the path": (f"GET /a b HTTP/1.1\r\nHost: {HOST}\r\n\r\n", 400),
    "two spaces": (f"GET  / HTTP/1.1\r\nHost: {HOST}\r\n\r\n", 400),
    "another host in the address": (f"GET http://other/ HTTP/1.1\r\nHost: {HOST}\r\n\r\n", 400),
    "a tunnel to elsewhere": (f"CONNECT {HOST}:80 HTTP/1.1\r\nHost: {HOST}:80\r\n\r\n", 400),
    "a method that is none": (f"G@T / HTTP/1.1\r\nHost: {HOST}\r\n\r\n", 400),
    "a method without end": (f"{'A' * 40} / HTTP/1.1\r\nHost: {HOST}\r\n\r\n", 400),
    "another protocol": (f"GET / HTTP/2.0\r\nHost: {HOST}\r\n\r\n", 400),
    "no protocol": ("GET /\r\n\r\n", 400),
    "the preface of HTTP/2": ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    "a greeting of TLS": ("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
    "chunks in HTTP/1.0": (f"POST / HTTP/1.0\r\nHost: {HOST}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "an address without end": (f"GET /{'a' * 20_000} HTTP/1.1\r\nHost: {HOST}\r\n\r\n", 414),
    "a header without end": (GET + f"X: {'a' * 40_000}\r\n\r\n", 431),
    "headers without end": (GET + "X: 1\r\n" * 101 + "\r\n", 431),
    "a head without end": (GET + "X: 1\r\n" * 10_000, 431),
}

BAD_CHUNKS = {
    "no size": "\r\nhello",
    "a size that is no number": "xyz\r\nhello\r\n0\r\n\r\n",
    "a negative size": "-5\r\nhello\r\n0\r\n\r\n",
    "a size with a prefix": "0x5\r\nhello\r\n0\r\n\r\n",
    "a size beyond all measure": "ffffffffffffffffff\r\nhello",
    "a size line without end": "5" + ";x=" + "a" * 2000,
    "a lone line feed after the size": "5\nhello\r\n0\r\n\r\n",
    "a lone line feed in an extension": "5;a\nb\r\nhello\r\n0\r\n\r\n",
    "more than its size": "3\r\nhello\r\n0\r\n\r\n",
    "a lone line feed after the data": "5\r\nhello\n0\r\n\r\n",
    "a trailer that is none": "0\r\nnonsense\r\n\r\n",
    "a folded trailer": "0\r\nA: b\r\n c\r\n\r\n",
    "a trailer without end": "0\r\n" + "A: b\r\n" * 5000,
}


@pytest.mark.parametrize("what", REFUSED)
async def test_it_is_refused_and_nothing_gets_through(port: Harbour, what: str) -> None:
    data, status = REFUSED[what]
    async with Program() as shop:
        port.lead(shop)
        line = await port.line()
        await line.send((data + "GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n").encode("latin-1"))
        reply = await line.reply()
        assert reply.status == status, reply
        assert reply.headers["connection"] == "close"
        line.writer.write_eof()
        assert await line.is_closed()
        assert shop.connections == 0


@pytest.mark.parametrize("what", BAD_CHUNKS)
async def test_bad_chunks_end_the_request(port: Harbour, what: str) -> None:
    async with Program() as shop:
        port.lead(shop)
        line = await port.line()
        await line.send((POST + "Transfer-Encoding: chunked\r\n\r\n" + BAD_CHUNKS[what]).encode())
        assert (await line.reply()).status == 400
        await line.send(b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n")
        assert await line.is_closed()
        await eventually(lambda: port.proxy.in_flight(shop.address) == 0)


ANSWERS_REFUSED = {
    "no HTTP": b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
    "lone line feeds": b"HTTP/1.1 200 OK\nContent-Length: 0\r\n\r\n",
    "a folded line": b"HTTP/1.1 200 OK\r\nX: 1\r\n 2\r\nContent-Length: 0\r\n\r\n",
    "a carriage return in a value": b"HTTP/1.1 200 OK\r\nX: 1\rSet-Cookie: a=b\r\nContent-Length: 0\r\n\r\n",
    "both framings": b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
    "another coding": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
    "a status that is none": b"HTTP/1.1 2000 OK\r\n\r\n",
    "a head without end": b"HTTP/1.1 200 OK\r\n" + b"X: 1\r\n" * 10_000,
    "hints without end": b"HTTP/1.1 103 Early Hints\r\n\r\n" * 50,
}


@pytest.mark.parametrize("what", ANSWERS_REFUSED)
async def test_an_answer_that_is_no_proper_one_is_not_passed_on(port: Harbour, what: str) -> None:
    async def odd(call: Call) -> None:
        await call.send(ANSWERS_REFUSED[what])

    async with Program(odd) as shop:
        port.lead(shop)
        line = await port.line()
        reply = await line.get(more="Accept: application/json\n")
        while reply.status == 103:
            reply = await line.reply()
        assert (reply.status, b"answer_not_understood" in reply.body) == (502, True)


async def test_what_a_workload_sends_unasked_is_given_to_nobody(port: Harbour) -> None:
    async def generous(call: Call) -> None:
        await call.answer(b"one")
        await call.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")

    async with Program(generous) as shop:
        port.lead(shop)
        line = await port.line()
        for number in range(1, 4):
            assert (await line.get()).body == b"one"
            await eventually(lambda: not any(pool.idle for pool in port.proxy._pools.values()))
            assert shop.connections == number


async def test_more_than_the_length_of_an_answer_is_not_the_next_one(port: Harbour) -> None:
    async def generous(call: Call) -> None:
        await call.send(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\noneHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx")

    async with Program(generous) as shop:
        port.lead(shop)
        line = await port.line()
        assert [(await line.get()).body for _ in range(3)] == [b"one"] * 3
        assert shop.connections == 3


async def test_a_slow_head_is_not_waited_for() -> None:
    async with harbour(replace(SHORT, head_seconds=0.1)) as port:
        line = await port.line()
        reading = asyncio.create_task(line.reply())
        for letter in GET + "X: " + "a" * 1000:
            if reading.done():
                break
            await line.send(letter.encode())
            await asyncio.sleep(0.005)
        assert (await reading).status == 408


async def test_a_client_that_says_nothing_is_let_go() -> None:
    limits = replace(SHORT, head_seconds=0.1, idle_seconds=0.1)
    async with harbour(limits) as port, Program() as shop:
        port.lead(shop)
        silent, once = await port.line(), await port.line()
        assert (await once.get()).status == 200
        assert await silent.is_closed()
        assert await once.is_closed()


async def test_a_body_that_never_comes_is_not_waited_for() -> None:
    async with harbour(replace(SHORT, body_seconds=0.1)) as port, Program() as shop:
        port.lead(shop)
        line = await port.line()
        await line.send((POST + "Content-Length: 5\r\n\r\nhel").encode())
        assert (await line.reply()).status == 408
        await eventually(lambda: port.proxy.in_flight(shop.address) == 0)


async def test_a_workload_that_never_answers_is_not_waited_for() -> None:
    async def silent(call: Call) -> None:
        await call.reader.read()

    async with harbour(replace(SHORT, answer_seconds=0.1)) as port, Program(silent) as shop:
        port.lead(shop)
        line = await port.line()
        assert (await line.get()).status == 504
        await eventually(lambda: port.proxy.in_flight(shop.address) == 0)
        assert (await line.get(host="nobody")).status == 404, "the client's connection is still good"


async def test_there_is_room_for_so_many_and_no_more() -> None:
    async with harbour(replace(SHORT, connections=16)) as port, Program() as shop:
        port.lead(shop)
        lines = [await port.line() for _ in range(16)]
        for line in lines:
            await line.send(GET.encode())
        await eventually(lambda: port.proxy.counters.connections == 16)
        over = await port.line()
        assert (await over.reply()).status == 503
        assert await over.is_closed()
        lines[0].close()
        await eventually(lambda: port.proxy.counters.connections == 15)
        assert (await (await port.line()).get()).status == 200
        assert port.proxy.counters.turned_away == 1


async def test_those_who_keep_a_connection_for_nothing_make_room() -> None:
    async with harbour(replace(SHORT, connections=16, crowded_seconds=0.1)) as port, Program() as shop:
        port.lead(shop)
        lines = [await port.line() for _ in range(15)]
        for line in lines:
            assert await line.is_closed()
        assert (await (await port.line()).get()).status == 200


async def test_one_workload_does_not_take_all_there_is() -> None:
    async def silent(call: Call) -> None:
        await call.reader.read()

    async with harbour(replace(SHORT, under_way=3)) as port, Program(silent) as greedy, Program() as shop:
        port.lead(greedy, host="greedy.localhost", workload="greedy")
        port.lead(shop)
        for _ in range(3):
            await (await port.line()).send(b"GET / HTTP/1.1\r\nHost: greedy.localhost\r\n\r\n")
        await eventually(lambda: port.proxy.in_flight(greedy.address) == 3)
        reply = await (await port.line()).get(host="greedy.localhost", more="Accept: application/json\n")
        assert (reply.status, reply.headers["retry-after"]) == (503, "3")
        assert b"too_busy" in reply.body
        assert (await (await port.line()).get()).status == 200


async def test_a_body_for_nobody_is_listened_to_for_a_moment_and_not_for_ever(port: Harbour) -> None:
    line = await port.line()
    await line.send(b"POST / HTTP/1.1\r\nHost: nobody\r\nContent-Length: 90000000\r\n\r\n" + b"x" * 300_000)
    reply = await line.reply()
    assert (reply.status, reply.headers["connection"]) == (404, "close")
    with pytest.raises(ConnectionError):
        await send_for_ever(line)
    await eventually(lambda: port.proxy.counters.connections == 0)


async def send_for_ever(line: Line) -> None:
    while True:
        await line.send(b"x" * 300_000)


HEADS = st.lists(
    st.sampled_from(
        [
            *(b"GET", b"POST", b" ", b"/", b"HTTP/1.1", b"HTTP/1.0", b"\r\n", b"\n", b"\r", b":", b"Host", b"a.b"),
            *(b"Content-Length", b"Transfer-Encoding", b"chunked", b"5", b",", b"\0", b"\x80", b"X", b"\t"),
        ]
    ),
    max_size=30,
).map(b"".join)


@settings(max_examples=500, deadline=None)
@given(st.one_of(HEADS, HEADS.map(lambda rest: b"GET / HTTP/1.1\r\nHost: a.b\r\n" + rest + b"\r\n\r\n")))
@example(b"GET / HTTP/1.1\r\nHost: a.b\r\n\r\n")
def test_what_is_accepted_another_parser_reads_the_same(head: bytes) -> None:
    end = head.find(b"\r\n\r\n") + 4
    try:
        request = read_request(head[:end], Limits(), trusted=False)
    except BadHead:
        return
    other = _Heard()
    parser = httptools.HttpRequestParser(other)
    parser.feed_data(head[:end])
    assert other.url == request.target
    assert parser.get_method() == request.method
    assert other.headers[b"host"] == request.authority
    assert (b"transfer-encoding" in other.headers) == (request.framing is Framing.CHUNKED)
    assert int(other.headers.get(b"content-length", b"0")) == request.length
    assert REQUEST.fullmatch(head[:end])


class _Heard:
    def __init__(self) -> None:
        self.url = b""
        self.headers: dict[bytes, bytes] = {}

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name.lower()] = value


PIECES = st.lists(st.binary(min_size=1, max_size=40), max_size=8)


@settings(deadline=None)
@given(PIECES, st.lists(st.integers(1, 30), min_size=1), st.booleans())
def test_chunks_are_read_the_same_however_they_are_cut(pieces: list[bytes], cuts: list[int], bare: bool) -> None:
    whole = b"".join(b"%x;e=1\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\nA: b\r\n\r\n"
    plain = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
    body, out, rest = Chunked(bare=bare), b"", whole + b"next"
    place = 0
    while rest:
        part, rest = rest[: cuts[place % len(cuts)]], rest[cuts[place % len(cuts)] :]
        place += 1
        piece, behind = body.take(part)
        out += piece
        if body.done:
            assert behind + rest == b"next"
            break
    assert out == (b"".join(pieces) if bare else plain)


@settings(deadline=None)
@given(st.binary(max_size=60), st.integers(1, 60))
def test_garbage_is_refused_or_waited_for_but_never_a_crash(data: bytes, cut: int) -> None:
    body = Chunked()
    try:
        for part in (data[:cut], data[cut:]):
            if not body.done:
                body.take(part)
    except BadBody:
        pass


async def test_time_outs_go_by_the_clock_and_stopping_does_not() -> None:
    clock = MovableClock()
    proxy = Proxy(Table(), clock)
    reader, writer = await asyncio.open_connection("127.0.0.1", await proxy.start("127.0.0.1", 0))
    await eventually(lambda: proxy.counters.connections == 1)
    await clock.advance(Limits().head_seconds + 2)
    async with asyncio.timeout(10):
        assert await reader.read() == b""
    writer.close()
    _, other = await asyncio.open_connection("127.0.0.1", proxy._server.sockets[0].getsockname()[1])  # type: ignore[union-attr]
    await eventually(lambda: proxy.counters.connections == 1)
    async with asyncio.timeout(10):
        await proxy.stop()
    other.close()
