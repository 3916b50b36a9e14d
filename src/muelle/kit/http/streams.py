"""Server-sent events: what happens, told as it happens, to whoever keeps the answer open.

    @router.get("/workloads/{id}/events", Access.owner("workloads:read"), **tells(phase=ShownPhase))
    async def follow(id: Id, last: LastEventId) -> EventStream:
        return EventStream(happenings(id, after=last))

A source is an async iterator of events. Nothing is gathered between it and the socket: it is asked for the next event
when the one before is on its way, so that what waits is bounded by the source, which knows how (`Broadcast` by its
ring, a logbook by reading its files again). A reader that takes nothing at all for a while is told `overrun`.

A stream ends with its source, with its reader, when the program stops (`bye`), and when its caller would not be let in
any more (`bye`, with the reason). Whoever comes back says which event was the last that they saw, and loses nothing.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, reduce
from operator import or_
from typing import Annotated, Any

import structlog
from fastapi import Depends, Header, Query
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from muelle.kit.errors import Denied, Invalid
from muelle.kit.http.problems import problem_response
from muelle.kit.http.routes import RoomRoute

MEDIA_TYPE = "text/event-stream"
STOPPING = "muelle.stopping"
"""Where a scope has the asyncio.Event that is set when the program is told to stop."""
WITHOUT_BODY = "muelle.without_body"
"""In the scope of a request that asks for the headers alone."""
PIECE_BYTES = 32 * 1024
LONGEST_ID = 200

_ID = r"^[\x21-\x7e]*$"
_HEADERS = {"Cache-Control": "no-cache, no-transform", "X-Accel-Buffering": "no"}

_log = structlog.get_logger("muelle.http")

Pieces = Sequence[tuple[bytes, str]]
"""Bytes to send, each with the id of the last event in them (or nothing, where none of them has one)."""


@dataclass(frozen=True)
class Event:
    name: str
    data: Any = None
    """A model, or what JSON can say."""
    id: str = ""
    """By which a reader resumes after it; nothing, if it cannot."""

    @cached_property
    def frame(self) -> bytes:
        """As it is sent. Made once, to however many readers it goes."""
        model = isinstance(self.data, BaseModel)
        data = self.data.model_dump_json() if model else json.dumps(self.data, separators=(",", ":"))
        id = f"id: {self.id}\n" if self.id else ""
        return f"{id}event: {self.name}\ndata: {data}\n\n".encode()

    @property
    def pieces(self) -> Pieces:
        return ((self.frame, self.id),)


@dataclass(frozen=True)
class Batch:
    """Events that are there at the same time: they go out together."""

    events: tuple[Event, ...]

    @cached_property
    def pieces(self) -> Pieces:
        return tuple(_pieces(self.events))


Source = AsyncIterator[Event] | AsyncIterator[Batch] | AsyncIterator[Event | Batch]


@dataclass(frozen=True)
class Patience:
    """In seconds."""

    idle: float = 15.0
    """After so long without an event a comment says that all is well: proxies end what is silent."""
    stuck: float = 10.0
    """How long a reader may take nothing, while more than its connection holds is on its way."""
    recheck: float = 30.0
    """How often it is asked whether the caller would still be let in."""
    last_words: float = 1.0
    """How long the final event has to get out."""
    retry: float = 2.0
    """After how long a reader shall come back."""


class EventStream(Response):
    """An answer that goes on. It closes its source, however it ends."""

    media_type = MEDIA_TYPE

    def __init__(self, source: Source, patience: Patience | None = None, status_code: int = 200) -> None:
        super().__init__(None, status_code, _HEADERS, MEDIA_TYPE)
        del self.headers["content-length"]
        self._source = source
        self._patience = patience or Patience()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        wire = _Wire(send)
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            if scope.get(WITHOUT_BODY):
                await wire.end(b"")
                return
            last_words = await self._tell(scope, receive, wire)
        finally:
            await _close(self._source)
        if last_words is not None:
            await self._say(last_words, wire)

    async def _tell(self, scope: Scope, receive: Receive, wire: _Wire) -> Event | None:
        """Tells what comes until there is a reason to end, and returns the last thing to say; None: nobody listens."""
        reasons = [
            asyncio.create_task(self._events(scope, wire)),
            asyncio.create_task(_left(receive)),
            asyncio.create_task(_stopping(scope)),
            asyncio.create_task(self._watch(wire)),
            asyncio.create_task(self._refused(scope)),
        ]
        try:
            await asyncio.wait(reasons, return_when=asyncio.FIRST_COMPLETED)
            return next(reason.result() for reason in reasons if reason.done())
        finally:
            for reason in reasons:
                reason.cancel()
            await asyncio.gather(*reasons, return_exceptions=True)

    async def _events(self, scope: Scope, wire: _Wire) -> Event:
        await wire.send(f"retry: {int(self._patience.retry * 1000)}\n\n".encode())
        try:
            async for item in self._source:
                for piece, id in item.pieces:
                    await wire.send(piece, id)
        except Exception as error:  # whatever it is: the answer has begun, so that it is told as an event
            told = problem_response(error, scope["path"]).body
            return Event("problem", json.loads(bytes(told)))
        return Event("bye", {"reason": "end"})

    async def _watch(self, wire: _Wire) -> Event:
        """Breaks the silence, and ends what does not move."""
        patience = self._patience
        while True:
            await asyncio.sleep(min(patience.idle, patience.stuck) / 4)
            if wire.waits_for >= patience.stuck:
                return self._overrun(wire)
            if not wire.waits_for and wire.silent_for >= patience.idle * 0.75:  # before it is too late
                try:
                    async with asyncio.timeout(patience.stuck):  # `wait_for` of Python 3.11 may lose a cancellation
                        await wire.comment()
                except TimeoutError:
                    return self._overrun(wire)

    def _overrun(self, wire: _Wire) -> Event:
        return Event("overrun", {"last_event_id": wire.last_id or None})

    async def _refused(self, scope: Scope) -> Event:
        """Waits until the caller would not be let in any more, and says why."""
        while True:
            await asyncio.sleep(self._patience.recheck)
            refusal = await _refusal(scope)
            if refusal is not None:
                return Event("bye", {"reason": refusal.code})

    async def _say(self, last_words: Event, wire: _Wire) -> None:
        try:
            async with asyncio.timeout(self._patience.last_words):
                await wire.end(last_words.frame)
        except TimeoutError:
            _log.info("stream cut", reason=last_words.name)


class _Wire:
    """The way to the reader, and what is known of it."""

    def __init__(self, send: Send) -> None:
        self.last_id = ""
        self._send = send
        self._now = asyncio.get_running_loop().time
        self._waits_since: float | None = None
        self._sent_at = self._now()

    @property
    def waits_for(self) -> float:
        """For how many seconds the reader has taken nothing, although it should."""
        return 0.0 if self._waits_since is None else self._now() - self._waits_since

    @property
    def silent_for(self) -> float:
        return self._now() - self._sent_at

    async def send(self, data: bytes, id: str = "") -> None:
        """Gives way to others each time: a source may always have more, and a socket take all of it."""
        self._waits_since = self._now()
        await self._send(_body(data, more=True))
        await asyncio.sleep(0)
        self._waits_since = None
        self._sent_at = self._now()
        self.last_id = id or self.last_id

    async def comment(self) -> None:
        await self.send(b": all is well\n\n")

    async def end(self, data: bytes) -> None:
        await self._send(_body(data, more=False))


def _body(data: bytes, *, more: bool) -> Message:
    return {"type": "http.response.body", "body": data, "more_body": more}


def _pieces(events: Sequence[Event]) -> Iterator[tuple[bytes, str]]:
    """Large enough to be quick, and small enough for a reader's buffer."""
    gathered: list[bytes] = []
    size, id = 0, ""
    for event in events:
        gathered.append(event.frame)
        size, id = size + len(event.frame), event.id or id
        if size >= PIECE_BYTES:
            yield b"".join(gathered), id
            gathered, size, id = [], 0, ""
    if gathered:
        yield b"".join(gathered), id


async def _left(receive: Receive) -> None:
    """Waits until nobody listens any more, or what is sent is more than is taken."""
    with suppress(Invalid):
        while (await receive())["type"] != "http.disconnect":
            pass


async def _stopping(scope: Scope) -> Event:
    stopping: asyncio.Event = scope.get(STOPPING) or asyncio.Event()
    await stopping.wait()
    return Event("bye", {"reason": "stopping"})


async def _refusal(scope: Scope) -> Denied | None:
    """Why whoever opened the stream would not be let in now. An identity service that is away is no reason."""
    route, request = scope.get("route"), Request(scope)
    scheme, _, credential = request.headers.get("authorization", "").partition(" ")
    if not isinstance(route, RoomRoute) or scheme.lower() != "bearer" or not route.stands.access.needs_credentials:
        return None
    try:
        caller = await request.app.state.desk.callers.identify(credential.strip())
        route.stands.access.admit(caller, changes=route.stands.changes)
    except Denied as refusal:
        return refusal
    except Exception as error:
        _log.warning("caller not rechecked", error=f"{type(error).__name__}: {error}")
    return None


async def _close(source: Source) -> None:
    close = getattr(source, "aclose", None)
    if close is not None:
        await close()


# --- what the API's description says of it


async def _last_event_id(
    header: Annotated[
        str | None,
        Header(
            alias="Last-Event-ID",
            max_length=LONGEST_ID,
            pattern=_ID,
            description="The id of the last event that was seen: what came after it is told first.",
        ),
    ] = None,
    last_event_id: Annotated[
        str | None,
        Query(
            max_length=LONGEST_ID,
            pattern=_ID,
            description="As the header `Last-Event-ID`, where none can be set; the header is preferred.",
        ),
    ] = None,
) -> str | None:
    return header or last_event_id or None


LastEventId = Annotated[str | None, Depends(_last_event_id)]
"""The id of the last event that the reader saw, as a parameter of a route; None at the first time."""


def tells(**events: type[BaseModel]) -> dict[str, Any]:
    """Options of a route whose answer is a stream of these events, each with the model of its data.

    OpenAPI 3.1 has no words for streams: the schema is that of the data, and `itemSchema`, which 3.2 adds, tells the
    whole of an event.
    """
    return {
        "status_code": 200,
        "response_class": EventStream,
        "response_model": None,
        "responses": {
            200: {
                "model": reduce(or_, events.values()),
                "description": _description(events),
                "content": {MEDIA_TYPE: {"itemSchema": _item_schema(events)}},
            }
        },
    }


def _description(events: Mapping[str, type[BaseModel]]) -> str:
    told = [f"- `{name}`: {_first_line(model)}" for name, model in events.items()]
    return "\n".join(
        [
            "Server-sent events, each with JSON as its data:",
            *told,
            "- `problem`: something went wrong; the data is a Problem, and the stream ends.",
            "- `overrun`: the reader was too slow. The stream ends; it is resumed by `Last-Event-ID`.",
            "- `bye`: the stream ends, for the `reason` in the data.",
        ]
    )


def _first_line(model: type[BaseModel]) -> str:
    return (model.__doc__ or model.__name__).strip().splitlines()[0]


def _item_schema(events: Mapping[str, type[BaseModel]]) -> dict[str, Any]:
    kinds = [
        {
            "properties": {
                "event": {"const": name},
                "data": {"contentSchema": {"$ref": f"#/components/schemas/{model.__name__}"}},
            }
        }
        for name, model in events.items()
    ]
    return {
        "type": "object",
        "required": ["event", "data"],
        "properties": {
            "event": {"type": "string"},
            "id": {"type": "string"},
            "data": {"type": "string", "contentMediaType": "application/json"},
        },
        "anyOf": kinds,
    }
