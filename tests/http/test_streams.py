"""Server-sent events over real connections: at once, without a gap, and to a good end whoever gives up first."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import httpx
import pytest
from pydantic import BaseModel, Field

from muelle import serving
from muelle.kit.errors import Missing
from muelle.kit.http import Access, RoomRouter
from muelle.kit.http.broadcast import Broadcast
from muelle.kit.http.routes import put_up
from muelle.kit.http.streams import Batch, Event, EventStream, LastEventId, Patience, tells
from tests.http.listening import listening
from tests.waiting import eventually
from tests.world import PREFIX, World

STREAM = f"{PREFIX}/streams"
HURRIED = Patience(idle=0.2, stuck=0.3, recheck=0.05, last_words=0.2)


class ShownTick(BaseModel):
    """A clock ticked."""

    number: int = Field(examples=[7])


class GoneAway(Missing):
    """It has gone away."""


@dataclass
class Streams:
    """The routes of these tests, and what became of their sources."""

    broadcast: Broadcast = field(default_factory=lambda: Broadcast("run", kept_events=100))
    opened: int = 0
    closed: int = 0
    asked_from: list[str | None] = field(default_factory=list)
    produced: int = 0

    async def quiet(self) -> AsyncIterator[Event]:
        self.opened += 1
        try:
            await asyncio.Event().wait()
            yield Event("never")
        finally:
            self.closed += 1

    async def large(self) -> AsyncIterator[Event]:
        """As much as is taken, 16 KB at a time."""
        self.opened += 1
        try:
            while True:
                self.produced += 1
                yield Event("large", "x" * 16_000, str(self.produced))
        finally:
            self.closed += 1

    async def three(self, last: str | None) -> AsyncIterator[Event]:
        self.asked_from.append(last)
        for number in range(int(last or 0) + 1, 4):
            yield Event("tick", ShownTick(number=number), str(number))

    async def broken(self) -> AsyncIterator[Event]:
        yield Event("tick", ShownTick(number=1), "1")
        raise GoneAway

    async def buggy(self) -> AsyncIterator[Event]:
        yield Event("tick", {"secret": False})
        raise RuntimeError("the secret recipe is salt")

    async def told(self, last: str | None) -> AsyncIterator[Batch]:
        self.opened += 1
        try:
            async for batch in self.broadcast.subscribe("news", last):
                yield batch
        finally:
            self.closed += 1

    def router(self) -> RoomRouter:
        router = RoomRouter("identity", prefix="/streams", tags=["System"])
        anybody = Access.anybody()

        @router.get("/ticks", anybody, **tells(tick=ShownTick))
        async def follow_ticks(last: LastEventId) -> EventStream:
            """Tells of ticks."""
            return EventStream(self.three(last))

        @router.get("/quiet", anybody, response_class=EventStream)
        async def quiet() -> EventStream:
            return EventStream(self.quiet(), HURRIED)

        @router.get("/large", anybody, response_class=EventStream)
        async def large() -> EventStream:
            return EventStream(self.large(), HURRIED)

        @router.get("/broken", anybody, response_class=EventStream)
        async def broken() -> EventStream:
            return EventStream(self.broken())

        @router.get("/buggy", anybody, response_class=EventStream)
        async def buggy() -> EventStream:
            return EventStream(self.buggy())

        @router.get("/news", anybody, response_class=EventStream)
        async def news(last: LastEventId) -> EventStream:
            return EventStream(self.told(last))

        @router.get("/private", Access.account("identity:read"), response_class=EventStream)
        async def private() -> EventStream:
            return EventStream(self.quiet(), HURRIED)

        return router


@dataclass
class Served:
    world: World
    streams: Streams
    port: int
    stop: serving.Stop
    client: httpx.AsyncClient
    server: asyncio.Task[None]

    @asynccontextmanager
    async def open(self, path: str, **headers: str) -> AsyncIterator[Reader]:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self.client.stream("GET", f"{STREAM}/{path}", headers=named) as answer:
            yield Reader(answer)

    def unread(self, path: str) -> socket.socket:
        """A reader that asks, and then takes nothing; its buffers are small."""
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", self.port))
        connection.sendall(f"GET {STREAM}/{path} HTTP/1.1\r\nHost: muelle\r\n\r\n".encode())
        connection.setblocking(False)
        return connection


class Reader:
    """Takes a stream apart, as the standard tells."""

    def __init__(self, answer: httpx.Response) -> None:
        self.answer = answer
        self.comments = 0
        self.retry = 0
        self._lines = answer.aiter_lines()

    async def next(self) -> dict[str, Any]:
        """The next event; nothing at the end."""
        found: dict[str, Any] = {}
        async for line in self._lines:
            if not line and "data" in found:
                return {**found, "data": json.loads(found["data"])}
            name, _, value = line.partition(": ")
            if line.startswith(":"):
                self.comments += 1
            elif name == "retry":
                self.retry = int(value)
            elif line:
                found[name] = value
        return {}

    async def rest(self) -> list[dict[str, Any]]:
        found = []
        while event := await self.next():
            found.append(event)
        return found


@pytest.fixture
async def served(one: World) -> AsyncIterator[Served]:
    streams = Streams()
    put_up(one.identity.api, streams.router(), prefix=PREFIX)
    one.identity.api.openapi_schema = None
    listener = serving.bind("127.0.0.1", 0)
    port = listener.getsockname()[1]
    stop, ready = serving.Stop(), asyncio.Event()
    server = asyncio.create_task(serving.serve(one.identity.asgi, listener, (), stop, ready.set))
    await ready.wait()
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", limits=limits, timeout=20) as client:
        yield Served(one, streams, port, stop, client, server)
    stop.told.set()
    await asyncio.wait_for(server, 10)


def ticks(*numbers: int) -> list[dict[str, Any]]:
    return [{"id": str(number), "event": "tick", "data": {"number": number}} for number in numbers]


BYE = {"event": "bye", "data": {"reason": "end"}}


async def test_events_are_told_and_the_answer_says_that_nobody_shall_keep_it(served: Served) -> None:
    async with served.open("ticks") as reader:
        assert await reader.rest() == [*ticks(1, 2, 3), BYE]
        assert reader.retry == 2000
        headers = reader.answer.headers
    assert headers["content-type"].startswith("text/event-stream")
    assert headers["cache-control"] == "no-cache, no-transform"
    assert headers["x-accel-buffering"] == "no"
    assert headers["x-content-type-options"] == "nosniff"
    assert "content-length" not in headers
    assert headers["x-request-id"]


async def test_a_reader_resumes_after_the_event_it_saw(served: Served) -> None:
    async with served.open("ticks", Last_Event_ID="2") as reader:
        assert await reader.rest() == [*ticks(3), BYE]
    async with served.open("ticks?last_event_id=1") as reader:
        assert await reader.rest() == [*ticks(2, 3), BYE]
    async with served.open("ticks?last_event_id=1", Last_Event_ID="2") as reader:  # as a browser that comes back
        assert await reader.rest() == [*ticks(3), BYE]
    assert served.streams.asked_from == ["2", "1", "2"]
    for wrong in ("x" * 201, "ñ", "a%0ab"):
        assert (await served.client.get(f"{STREAM}/ticks?last_event_id={wrong}")).status_code == 422


async def test_each_event_arrives_at_once(served: Served) -> None:
    async with served.open("news") as reader:
        await eventually(lambda: served.streams.broadcast.subscribers("news"))
        for number in range(5):
            began = time.perf_counter()
            told = served.streams.broadcast.publish("news", Event("news", number))
            assert await reader.next() == {"id": told.id, "event": "news", "data": number}
            assert time.perf_counter() - began < 1


async def test_silence_is_broken(served: Served) -> None:
    async with served.open("quiet") as reader:
        waiting = asyncio.create_task(reader.next())
        await eventually(lambda: reader.comments >= 2)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)


async def test_a_reader_that_leaves_is_noticed_at_once(served: Served) -> None:
    streams = served.streams
    for number, path in enumerate(("quiet", "news", "large"), 1):
        connection = served.unread(path)
        await eventually(partial(_have, streams, number, number - 1))
        connection.close()
        await eventually(partial(_have, streams, number, number), 2)


def _have(streams: Streams, opened: int, closed: int) -> bool:
    return (streams.opened, streams.closed) == (opened, closed)


async def test_a_reader_who_takes_nothing_keeps_little_waiting_and_is_told(served: Served) -> None:
    connection = served.unread("large")
    await eventually(lambda: served.streams.closed == 1)
    assert served.streams.produced * 16_000 < 16 * 2**20  # what the kernel takes, and no more
    produced = served.streams.produced
    got = b""
    with suppress(ConnectionError):
        while piece := await asyncio.get_running_loop().sock_recv(connection, 2**20):
            got += piece
    assert served.streams.produced == produced
    assert got.startswith(b"HTTP/1.1 200")
    connection.close()


async def test_a_reader_who_wakes_up_in_time_is_told_where_to_go_on(served: Served) -> None:
    patient = Patience(stuck=0.3, last_words=20)
    router = RoomRouter("identity", prefix="/streams")

    @router.get("/slow", Access.anybody(), response_class=EventStream)
    async def slow() -> EventStream:
        return EventStream(served.streams.large(), patient)

    put_up(served.world.identity.api, router, prefix=PREFIX)
    connection = served.unread("slow")
    await eventually(lambda: served.streams.closed == 1)
    got = b""
    while not got.endswith(b"0\r\n\r\n"):
        got += await asyncio.get_running_loop().sock_recv(connection, 2**20)
    connection.close()
    assert b"event: overrun" in got
    last = json.loads(got.rpartition(b"data: ")[2].split(b"\n")[0])["last_event_id"]
    assert f"id: {last}\n".encode() in got
    assert f"id: {int(last) + 1}\n".encode() not in got


async def test_a_slow_reader_gets_everything(served: Served) -> None:
    """Slow is not stuck: it is the source that waits."""
    async with served.open("large") as reader:
        for number in range(1, 200):
            assert (await reader.next())["id"] == str(number)
            if number % 20 == 0:
                await asyncio.sleep(0.05)


async def test_what_goes_wrong_is_told_as_an_event_and_a_bug_is_logged(served: Served) -> None:
    async with served.open("broken") as reader:
        first, problem = await reader.rest()
    assert first == ticks(1)[0]
    assert (problem["event"], problem["data"]["code"], problem["data"]["status"]) == ("problem", "gone_away", 404)
    assert problem["data"]["request_id"] == reader.answer.headers["x-request-id"]
    with listening() as lines:
        async with served.open("buggy") as reader:
            _, problem = await reader.rest()
        assert problem["data"]["code"] == "unexpected"
        assert "salt" not in str(problem)
        assert len([line for line in lines.all() if line["level"] == "error"]) == 1


async def test_head_asks_for_the_headers_alone(served: Served) -> None:
    answer = await asyncio.wait_for(served.client.head(f"{STREAM}/quiet"), 5)
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert (answer.status_code, answer.content) == (200, b"")


async def test_the_edge_counts_a_stream_when_it_begins_and_logs_it_when_it_ends(served: Served) -> None:
    async def figures() -> str:
        return (await (await served.world.administrator()).get("//metrics")).text

    with listening() as lines:
        async with served.open("quiet") as reader:
            waiting = asyncio.create_task(reader.next())
            await eventually(lambda: reader.comments >= 2)
            assert "muelle_http_streams 1.0" in await figures()
            assert not [line for line in lines.all("request") if "streams" in line["path"]]
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
        (line,) = await eventually(lambda: [line for line in lines.all("request") if "streams" in line["path"]])
    assert (line["status"], line["route"]) == (200, f"{STREAM}/quiet")
    assert line["ms"] > 200  # how long it was open
    told = await figures()
    assert "muelle_http_streams 0.0" in told
    seconds = next(
        line for line in told.splitlines() if f'muelle_http_seconds_sum{{method="GET",route="{STREAM}' in line
    )
    assert float(seconds.split()[-1]) < 0.3  # how long it took to begin


async def test_a_stream_ends_with_the_right_to_it(served: Served) -> None:
    ana = await served.world.sign_up("ana@example.com")
    assert (await served.client.get(f"{STREAM}/private")).status_code == 401
    ends: dict[str, Callable[[], Any]] = {
        "token_invalid": lambda: ana.post("/auth/logout"),
        "token_expired": lambda: _hours_later(served.world),
    }
    for reason, end in ends.items():
        ana = await served.world.log_in("ana@example.com")
        async with served.open("private", Authorization=f"Bearer {ana.credential}") as reader:
            last = asyncio.create_task(reader.rest())
            await asyncio.sleep(0.2)  # it is asked about several times, and goes on
            assert not last.done()
            await end()
            assert await asyncio.wait_for(last, 5) == [{"event": "bye", "data": {"reason": reason}}]


async def _hours_later(world: World) -> None:
    world.clock.leap(hours=20)


async def test_when_the_program_stops_streams_say_so_and_keep_nobody_waiting(served: Served) -> None:
    readers = [asyncio.create_task(_last_of(served, path)) for path in ("quiet", "news") for _ in range(20)]
    unread = [served.unread("large") for _ in range(3)]
    await eventually(lambda: served.streams.opened == 43)
    began = time.perf_counter()
    served.stop.told.set()
    lasts = await asyncio.gather(*readers)
    told = time.perf_counter() - began
    await asyncio.wait_for(served.server, 10)
    assert lasts == [{"event": "bye", "data": {"reason": "stopping"}}] * 40
    assert told < 1
    assert time.perf_counter() - began < 4
    assert served.streams.closed == 43
    for connection in unread:
        connection.close()


async def _last_of(served: Served, path: str) -> dict[str, Any]:
    async with served.open(path) as reader:
        return (await reader.rest())[-1]


async def test_it_is_described(served: Served) -> None:
    described = (await served.client.get(f"{PREFIX}/openapi.json")).json()
    operation = described["paths"][f"{STREAM}/ticks"]["get"]
    answer = operation["responses"]["200"]
    assert list(answer["content"]) == ["text/event-stream"]
    media = answer["content"]["text/event-stream"]
    assert media["schema"]["$ref"] == "#/components/schemas/ShownTick"
    assert media["itemSchema"]["properties"]["data"]["contentMediaType"] == "application/json"
    assert "- `tick`: A clock ticked." in answer["description"]
    assert "`overrun`" in answer["description"]
    assert {one["name"] for one in operation["parameters"]} == {"Last-Event-ID", "last_event_id"}
    assert described["components"]["schemas"]["ShownTick"]


async def test_two_hundred_subscribers_cost_little(served: Served) -> None:
    """Over sockets, with the readers in the same process: the figure is for both."""
    count, seconds, rate = 200, 2.0, 1000
    served.streams.broadcast = Broadcast("run", kept_events=2000)
    connections = [await asyncio.open_connection("127.0.0.1", served.port) for _ in range(count)]
    for _, writer in connections:
        writer.write(f"GET {STREAM}/news HTTP/1.1\r\nHost: muelle\r\n\r\n".encode())
    await eventually(lambda: served.streams.broadcast.subscribers("news") == count)
    delays: list[float] = []
    reading = [asyncio.create_task(_count(reader, int(rate * seconds), delays)) for reader, _ in connections]
    used, began = time.process_time(), time.perf_counter()
    sent = 0
    while sent < rate * seconds:
        while sent < min(rate * seconds, (time.perf_counter() - began) * rate):
            sent += 1
            served.streams.broadcast.publish("news", Event("n", {"n": sent, "at": time.perf_counter()}))
        await asyncio.sleep(0.001)
    counts = await asyncio.gather(*reading)
    took, cost = time.perf_counter() - began, time.process_time() - used
    assert counts == [rate * seconds] * count
    delays.sort()
    print(f"{sent / took:.0f} events/s to {count}: {cost / took:.0%} of a processor, ", end="")
    print(f"p95 {delays[len(delays) * 95 // 100] * 1000:.0f} ms")
    for _, writer in connections:
        writer.close()


async def _count(reader: asyncio.StreamReader, count: int, delays: list[float]) -> int:
    seen, rest = 0, b""
    while seen < count and (piece := await reader.read(2**18)):
        data = rest + piece
        cut = data.rfind(b"\n\n") + 2
        whole, rest = data[:cut], data[cut:]
        assert b"missed" not in whole
        if (found := whole.count(b"event: n\n")) and b'"at":' in whole:
            at = float(whole.rpartition(b'"at":')[2].partition(b"}")[0])
            delays.append(time.perf_counter() - at)
        seen += found
    return seen
