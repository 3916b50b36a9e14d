"""The edge: what happens to every request, before and after anything else, in one plain ASGI layer.

A request id (the client's own where it is sane), a bounded body, security headers, one log line, the metrics, and an
answer of our own for what nobody caught. Plain ASGI, because this runs for each request and a stack of middlewares
costs more than the work.
"""

from __future__ import annotations

import re
import time
from urllib.parse import quote

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from muelle.kit.bus.facts import ANONYMOUS, Origin, origin
from muelle.kit.http.bodies import BodyTooLarge
from muelle.kit.http.problems import problem_response
from muelle.kit.http.streams import MEDIA_TYPE as STREAMED
from muelle.kit.http.streams import WITHOUT_BODY
from muelle.kit.ids import new_id
from muelle.kit.logs import request_line

LONGEST_LOGGED_PATH = 500
ALLOW_BODY = "muelle.allow_body"
"""Where a route finds what lets it take a larger body."""
NO_ROUTE = "unknown"
"""What metrics and logs call the route of an address that there is none for."""

_REQUEST_ID = re.compile(rb"[A-Za-z0-9_.-]{8,64}")
_SECURITY_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
)
_API_POLICY = (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'")
_NOT_KEPT = (b"cache-control", b"no-store")
SOCKET = "WEBSOCKET"
"""What metrics and logs call the method of a request for a socket."""
SWITCHED, NOT_LET_IN = 101, 403
_METHODS = frozenset({SOCKET, "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_STREAMED = f"{STREAMED}; charset=utf-8".encode()
_QUIET = ("/health/", "/metrics")
_BUCKETS = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class Edge:
    def __init__(self, app: ASGIApp, registry: CollectorRegistry, *, body_limit: int) -> None:
        self._app = app
        self._body_limit = body_limit
        self._requests = Counter(
            "muelle_http_requests", "Requests answered", ["method", "route", "status"], registry=registry
        )
        self._seconds = Histogram(
            "muelle_http_seconds", "Time to answer", ["method", "route"], buckets=_BUCKETS, registry=registry
        )
        self._streams = Gauge("muelle_http_streams", "Streams of events that are open", registry=registry)
        self._sockets = Gauge("muelle_http_sockets", "WebSockets that are open", registry=registry)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        is_socket = scope["type"] == "websocket"
        method = SOCKET if is_socket else scope["method"]
        began = time.perf_counter()
        headers = dict(scope["headers"])
        request_id = _request_id(headers.get(b"x-request-id", b""))
        client = scope.get("client")
        token = origin.set(Origin(ANONYMOUS, client[0] if client else "", request_id))
        inner = scope
        if method == "HEAD":
            inner = {**scope, "method": "GET", WITHOUT_BODY: True}  # the same answer, less its body
        answer = _Answer(send, request_id, self._sockets if is_socket else self._streams, with_body=inner is scope)
        body = _Bounded(receive, _declared_length(headers), self._body_limit)
        inner[ALLOW_BODY] = body.allow
        try:
            await self._answer(inner, receive if is_socket else body, answer)
        finally:
            self._account(method, inner, answer, began)
            origin.reset(token)

    async def _answer(self, scope: Scope, receive: Receive, send: _Answer) -> None:
        try:
            await self._app(scope, receive, send)
        except Exception as error:
            if send.ended:
                return  # the framework answers and raises all the same
            if send.started:
                raise
            await problem_response(error, scope["path"])(scope, receive, send)

    def _account(self, asked: str, scope: Scope, answer: _Answer, began: float) -> None:
        """A stream or a socket is answered when it begins, and logged when it ends."""
        seconds, status = time.perf_counter() - began, answer.status
        method = asked if asked in _METHODS else "OTHER"
        route = getattr(scope.get("route"), "path", NO_ROUTE)
        self._requests.labels(method, route, status).inc()
        self._seconds.labels(method, route).observe(answer.streams_since - began if answer.streams_since else seconds)
        if answer.streams_since:
            answer.streams.dec()
        if not scope["path"].startswith(_QUIET):
            now = origin.get()
            request_line(
                _shown(scope["path"]),
                {
                    "method": method,
                    "route": route,
                    "status": status,
                    "ms": round(seconds * 1000, 1),
                    "actor": now.actor,
                    "address": now.address,
                },
            )


def _request_id(given: bytes) -> str:
    return given.decode() if _REQUEST_ID.fullmatch(given) else new_id()


def _declared_length(headers: dict[bytes, bytes]) -> int:
    length = headers.get(b"content-length", b"0")
    return int(length) if length.isdigit() and len(length) < 20 else 0


def _shown(path: str) -> str:
    """On one line, whatever it holds."""
    return (path if path.isprintable() else quote(path, errors="replace"))[:LONGEST_LOGGED_PATH]


class _Bounded:
    """Receives a body, up to the limit: a chunked one declares no length."""

    def __init__(self, receive: Receive, declared: int, limit: int) -> None:
        self._receive = receive
        self._declared = declared
        self._limit = limit
        self._left = limit

    def allow(self, limit: int) -> None:
        """Takes more, for a route that wants it, as long as nothing was read yet."""
        self._left = self._limit = limit

    async def __call__(self) -> Message:
        if self._declared > self._limit:
            raise BodyTooLarge(limit_bytes=self._limit)
        message = await self._receive()
        self._left -= len(message.get("body", b""))
        if self._left < 0:
            raise BodyTooLarge(limit_bytes=self._limit)
        return message


class _Answer:
    """Sends the answer with the headers that every answer has, and remembers how far it is."""

    def __init__(self, send: Send, request_id: str, streams: Gauge, *, with_body: bool) -> None:
        self._send = send
        self._request_id = request_id.encode()
        self.streams = streams
        self._with_body = with_body
        self.started = False
        self.ended = False
        self.status = 500
        self.streams_since = 0.0
        """When it began to be a stream or a socket, if it is one."""

    async def __call__(self, message: Message) -> None:
        match message["type"]:
            case "http.response.start" | "websocket.http.response.start":
                message = self._begin(message)
            case "http.response.body" | "websocket.http.response.body":
                self.ended = not message.get("more_body", False)
                if not self._with_body:
                    message = {**message, "body": b""}
            case "websocket.accept":
                self.started, self.status = True, SWITCHED
                self._goes_on()
                message = {**message, "headers": [*message.get("headers", []), (b"x-request-id", self._request_id)]}
            case "websocket.close" if not self.started:
                self.started = self.ended = True
                self.status = NOT_LET_IN
        await self._send(message)

    def _begin(self, message: Message) -> Message:
        self.started = True
        self.status = message["status"]
        headers: list[tuple[bytes, bytes]] = list(message.get("headers", []))
        names = {name for name, _ in headers}
        if (b"content-type", _STREAMED) in headers:
            self._goes_on()
        headers.append((b"x-request-id", self._request_id))
        headers += _SECURITY_HEADERS
        if _API_POLICY[0] not in names:
            headers.append(_API_POLICY)
        if _NOT_KEPT[0] not in names:
            headers.append(_NOT_KEPT)
        return {**message, "headers": headers}

    def _goes_on(self) -> None:
        self.streams_since = time.perf_counter()
        self.streams.inc()


class JsonByDefault:
    """Takes a body for JSON unless it says that it is something else: `curl -d '{…}'` claims to send a form."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] in ("POST", "PUT", "PATCH", "DELETE"):
            headers = MutableHeaders(scope=scope)
            if headers.get("content-type", "application/x-www-form-urlencoded").lower().startswith(_CARELESS):
                headers["content-type"] = "application/json"
        await self._app(scope, receive, send)


_CARELESS = ("application/x-www-form-urlencoded", "text/plain")
