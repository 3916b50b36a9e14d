"""WebSockets that say who may open them, as routes do, and that end when who opened them would not be let in any more.

    @socket(router, "/workloads/{workload_id}/exec", WRITE, protocol="muelle.exec.v1", raises=[NothingRuns])
    async def execute(socket: WebSocket) -> None: ...

Whoever is not let in gets an HTTP answer instead of a socket. Whoever is, gets the socket, and what goes wrong after
that is told in it, for a page in a browser is told nothing of an answer that is no socket: a text with the problem,
and a closing code that is 4000 and its HTTP status, with its code as the reason. It closes with 1012 when the program
stops.

A page can set no header: it offers the protocol and, as the second one, `bearer.` with its token. Never is a token in
the address, which proxies and browsers write down. A page of a foreign origin is refused, whatever it holds.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import replace
from typing import Any, TypeVar, get_origin
from urllib.parse import urlsplit

import structlog
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError
from starlette.routing import Match, WebSocketRoute
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect

from muelle.kit.bus.facts import origin
from muelle.kit.errors import Denied, Unrecognised
from muelle.kit.http.access import Access, Caller
from muelle.kit.http.cors import ORIGIN_ALLOWED, OriginNotAllowed
from muelle.kit.http.problems import problem_response
from muelle.kit.http.routes import Declared, Desk, Errors, RoomRouter, declared
from muelle.kit.http.streams import STOPPING

RECHECK_SECONDS = 30.0
"""How often it is asked whether who opened it would still be let in."""
LAST_WORDS_SECONDS = 1.0
"""How long the reason for its end has to get out."""
OUR_CODES = 4000
"""Closing codes from here on are an application's own: ours say a status."""
PROGRAM_STOPS = 1012
BEARER = "bearer."

_CALLER = "muelle.caller"
_CREDENTIAL = "muelle.credential"
_log = structlog.get_logger("muelle.http")

Endpoint = Callable[[WebSocket], Coroutine[Any, Any, None]]
Asked = TypeVar("Asked", bound=BaseModel)


def socket(
    router: RoomRouter, path: str, access: Access, *, protocol: str, raises: Errors = ()
) -> Callable[[Endpoint], Endpoint]:
    """Declares a socket of a room. It counts as a change: a suspended account opens none."""
    stands = Declared(router.room, access, changes=True, raises=raises)

    def declare(endpoint: Endpoint) -> Endpoint:
        endpoint.muelle_declared = stands  # type: ignore[attr-defined]
        router.routes.append(RoomSocket(router.prefix + path, endpoint, protocol))
        return endpoint

    return declare


def caller_of(socket: WebSocket) -> Caller:
    """Who opened it."""
    caller: Caller = socket.scope[_CALLER]
    return caller


def renew(socket: WebSocket, credential: str) -> None:
    """From now on it is this one that has to be good: an access token lives for minutes, and a socket for hours."""
    socket.scope[_CREDENTIAL] = credential


def asked(socket: WebSocket, model: type[Asked]) -> Asked:
    """What its address says, path and query, as a model. Raises FieldsInvalid, as it were."""
    query, fields = socket.query_params, model.model_fields
    lists = {name for name, field in fields.items() if get_origin(field.annotation) is list}
    values = {name: query.getlist(name) if name in lists else query[name] for name in query}
    try:
        return model.model_validate({**values, **socket.path_params})
    except ValidationError as wrong:
        raise RequestValidationError(wrong.errors(include_url=False)) from None


class RoomSocket(WebSocketRoute):
    def __init__(self, path: str, endpoint: Endpoint, protocol: str) -> None:
        super().__init__(path, endpoint)
        stands = declared(endpoint)
        if stands is None:
            raise TypeError(f"the socket {path} does not declare who may open it")
        self.stands = stands
        self.recheck_seconds = RECHECK_SECONDS
        self.protocol = protocol
        self.app = self._open

    def under(self, prefix: str) -> RoomSocket:
        """The same socket, further down."""
        return RoomSocket(prefix + self.path, self.endpoint, self.protocol)

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        match, child = super().matches(scope)
        return match, {**child, "route": self} if match is not Match.NONE else child

    async def _open(self, scope: Scope, receive: Receive, send: Send) -> None:
        socket = WebSocket(scope, receive, send)
        desk: Desk = socket.app.state.desk
        credential, protocol = _credential(socket, self.protocol)
        try:
            _refuse_foreign_pages(socket)
            caller = await self._admitted(desk, credential)
        except Exception as refusal:
            await problem_response(refusal, scope["path"])(scope, receive, send)
            return
        scope[_CALLER], scope[_CREDENTIAL] = caller, credential
        if caller is not None:
            origin.set(replace(origin.get(), actor=caller.account_id))
        with suppress(WebSocketDisconnect):
            await socket.accept(protocol)
            await self._serve(socket, lambda: self._still_admitted(desk, scope))

    async def _admitted(self, desk: Desk, credential: str) -> Caller | None:
        access = self.stands.access
        caller = await desk.callers.identify(credential) if credential and access.needs_credentials else None
        access.admit(caller, changes=self.stands.changes)
        return caller

    async def _still_admitted(self, desk: Desk, scope: Scope) -> None:
        opened: Caller | None = scope[_CALLER]
        caller = await self._admitted(desk, scope[_CREDENTIAL])
        if opened is not None and (caller is None or caller.account_id != opened.account_id):
            raise Unrecognised

    async def _serve(self, socket: WebSocket, admit: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Until it is done, its caller is not let in any more, or the program stops: whichever comes first."""
        reasons: list[asyncio.Task[Any]] = [
            asyncio.create_task(self.endpoint(socket)),
            asyncio.create_task(_refused(admit, self.recheck_seconds)),
            asyncio.create_task(_stopping(socket.scope)),
        ]
        try:
            await asyncio.wait(reasons, return_when=asyncio.FIRST_COMPLETED)
            ended = next(reason for reason in reasons if reason.done())
        finally:
            for reason in reasons:
                reason.cancel()
            await asyncio.gather(*reasons, return_exceptions=True)
        await _say_why(socket, ended.exception(), stops=ended is reasons[2])


def _credential(socket: WebSocket, protocol: str) -> tuple[str, str | None]:
    """What the caller vouches with, and the protocol that both sides speak."""
    scheme, _, credential = socket.headers.get("authorization", "").partition(" ")
    offered = list(socket.scope.get("subprotocols") or ())
    agreed = protocol if protocol in offered[:1] else None
    if scheme.lower() == "bearer":
        return credential.strip(), agreed
    if agreed and len(offered) > 1 and offered[1].startswith(BEARER):
        return offered[1].removeprefix(BEARER), agreed
    return "", agreed


def _refuse_foreign_pages(socket: WebSocket) -> None:
    """Only a browser says of what origin a page is, and it does so for every socket."""
    page = socket.headers.get("origin")
    if page is None or socket.scope.get(ORIGIN_ALLOWED):
        return
    try:
        same = urlsplit(page).netloc.lower() == socket.headers.get("host", "").lower()
    except ValueError:
        same = False
    if not same or not urlsplit(page).netloc:
        raise OriginNotAllowed


async def _refused(admit: Callable[[], Coroutine[Any, Any, None]], every_seconds: float) -> None:
    """Waits until the caller would not be let in any more, and says why. An identity that is away is no reason."""
    while True:
        await asyncio.sleep(every_seconds)
        try:
            await admit()
        except Denied:
            raise
        except Exception as error:
            _log.warning("caller not rechecked", error=f"{type(error).__name__}: {error}")


async def _stopping(scope: Scope) -> None:
    stopping: asyncio.Event = scope.get(STOPPING) or asyncio.Event()
    await stopping.wait()


async def _say_why(socket: WebSocket, error: BaseException | None, *, stops: bool) -> None:
    """Closes it. One whose endpoint has closed it already is left alone."""
    if isinstance(error, WebSocketDisconnect):
        return
    with suppress(WebSocketDisconnect, RuntimeError, TimeoutError):
        async with asyncio.timeout(LAST_WORDS_SECONDS):
            if stops:
                await socket.close(PROGRAM_STOPS, "stopping")
            elif isinstance(error, Exception):
                told = problem_response(error, socket.scope["path"])
                problem = json.loads(bytes(told.body))
                await socket.send_json({"problem": problem})
                await socket.close(OUR_CODES + told.status_code, problem["code"])
            else:
                await socket.close()
