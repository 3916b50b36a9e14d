"""`RoomRouter`: routes that say who may call them and what can go wrong, and cannot be declared without.

    router = RoomRouter("identity", prefix="/me", tags=["Me"])

    @router.post("/keys", Access.account("identity:write"), raises=[TooManyKeys], status_code=201)
    async def make_key(body: NewKey, caller: CallerNow, identity: IdentityNow) -> ShownKey: ...

Access is checked and a repeated request recognised before FastAPI looks at the body.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from hmac import compare_digest
from typing import Annotated, Any, Protocol

from fastapi import APIRouter, Depends
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from muelle.kit.bus.facts import origin
from muelle.kit.errors import MuelleError, TooOften, Unavailable, Unrecognised
from muelle.kit.http import idempotency
from muelle.kit.http.access import Access, Caller, Callers, Who
from muelle.kit.http.problems import (
    BodyTooLarge,
    BodyUnreadable,
    FieldsInvalid,
    Unexpected,
    problem_response,
    responses_for,
)

CHANGING = frozenset({"POST", "PUT", "PATCH", "DELETE"})
_CALLER = "muelle.caller"
_LOOPBACK = frozenset({"127.0.0.1", "::1"})
_FORWARDED = ("forwarded", "x-forwarded-for", "x-real-ip", "via")
_REPEATING = (
    idempotency.KeyUsedBefore,
    idempotency.BadIdempotencyKey,
    idempotency.StillRunning,
    idempotency.AnswerLost,
)


@dataclass(frozen=True)
class Declared:
    """What stands beside a route."""

    room: str
    access: Access
    changes: bool


class Desk(Protocol):
    """What the routes of an application find at `app.state.desk`."""

    callers: Callers
    answers: dict[str, idempotency.Answers]
    service_token: str


def declared(endpoint: Any) -> Declared | None:
    found = getattr(endpoint, "muelle_declared", None)
    return found if isinstance(found, Declared) else None


class RoomRoute(APIRoute):
    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()
        stands = declared(self.endpoint)
        if stands is None:
            raise TypeError(f"the route {self.path} does not declare who may call it")

        async def guarded(request: Request) -> Response:
            desk: Desk = request.app.state.desk
            caller = await _recognise(request, stands, desk)
            if stands.changes:
                await request.body()  # here, so that one that is too large is told so
            key = request.headers.get(idempotency.HEADER) if stands.changes else None
            if key is None:
                return await handle(request)
            answers = desk.answers[stands.room]
            who = caller.account_id if caller else f"@{request.client.host if request.client else ''}"
            asked = request.method, request.url.path, request.url.query
            same = answers.request(who, key, *(part.encode() for part in asked), await request.body())
            return await answers.once(same, lambda: _answer(handle, request))

        return guarded


async def _recognise(request: Request, stands: Declared, desk: Desk) -> Caller | None:
    caller = None
    scheme, _, credential = request.headers.get("authorization", "").partition(" ")
    if stands.access.who is Who.SERVICE:
        if not (scheme.lower() == "muelle-service" and compare_digest(credential.strip(), desk.service_token)):
            raise Unrecognised
        return None
    if stands.access.needs_credentials and credential and scheme.lower() == "bearer":
        caller = await desk.callers.identify(credential.strip())
        request.scope[_CALLER] = caller
        origin.set(replace(origin.get(), actor=caller.account_id))
    if stands.access.who is Who.OPERATOR and caller is None and _sits_at_the_machine(request):
        return None
    stands.access.admit(caller, changes=stands.changes)
    return caller


def _sits_at_the_machine(request: Request) -> bool:
    """A direct connection from the machine itself: one that a proxy passes on is somebody else's."""
    host = request.client.host if request.client else ""
    return host in _LOOPBACK and not any(header in request.headers for header in _FORWARDED)


async def _answer(handle: Callable[[Request], Coroutine[Any, Any, Response]], request: Request) -> Response:
    """The answer as the client will see it, errors included: it is what a repetition has to see too."""
    try:
        return await handle(request)
    except (MuelleError, RequestValidationError, HTTPException) as error:
        return problem_response(error, request.url.path)


async def _caller_now(request: Request) -> Caller:
    caller: Caller = request.scope[_CALLER]
    return caller


CallerNow = Annotated[Caller, Depends(_caller_now)]


class RoomRouter(APIRouter):
    def __init__(self, room: str, **options: Any) -> None:
        super().__init__(route_class=RoomRoute, **options)
        self._room = room

    def get(self, path: str, access: Access, *, raises: Sequence[type[MuelleError]] = (), **options: Any) -> Any:  # type: ignore[override]
        return self._route("GET", path, access, raises, options)

    def post(self, path: str, access: Access, *, raises: Sequence[type[MuelleError]] = (), **options: Any) -> Any:  # type: ignore[override]
        return self._route("POST", path, access, raises, options)

    def put(self, path: str, access: Access, *, raises: Sequence[type[MuelleError]] = (), **options: Any) -> Any:  # type: ignore[override]
        return self._route("PUT", path, access, raises, options)

    def patch(self, path: str, access: Access, *, raises: Sequence[type[MuelleError]] = (), **options: Any) -> Any:  # type: ignore[override]
        return self._route("PATCH", path, access, raises, options)

    def delete(self, path: str, access: Access, *, raises: Sequence[type[MuelleError]] = (), **options: Any) -> Any:  # type: ignore[override]
        return self._route("DELETE", path, access, raises, options)

    def _route(
        self, method: str, path: str, access: Access, raises: Sequence[type[MuelleError]], options: dict[str, Any]
    ) -> Callable[[Any], Any]:
        stands = Declared(self._room, access, method in CHANGING)
        possible = [*raises, *access.refusals(changes=stands.changes), FieldsInvalid, Unexpected, Unavailable, TooOften]
        if stands.changes:
            possible += [*_REPEATING, BodyTooLarge, BodyUnreadable]
        own = options.pop("responses", {})
        extra: dict[str, Any] = {"x-access": access.who.value}
        if access.needs_credentials:
            extra["security"] = [{"bearer": []}]
        if stands.changes:
            extra["parameters"] = [{"$ref": "#/components/parameters/IdempotencyKey"}]

        def declare(endpoint: Any) -> Any:
            endpoint.muelle_declared = stands
            self.add_api_route(
                path,
                endpoint,
                methods=[method],
                responses=responses_for(possible) | own,
                openapi_extra=extra,
                **options,
            )
            return endpoint

        return declare
