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
from typing import Annotated, Any, Protocol, TypeVar, runtime_checkable

from fastapi import APIRouter, Depends, FastAPI
from fastapi.dependencies.utils import get_flat_params
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Match
from starlette.types import Scope

from muelle.kit.bus.facts import origin
from muelle.kit.errors import MuelleError, Unrecognised
from muelle.kit.http import idempotency
from muelle.kit.http.access import Access, Caller, Callers, Who
from muelle.kit.http.bodies import READING_ERRORS, BodyTooLarge, JsonRequest
from muelle.kit.http.problems import DependencySilent, FieldsInvalid, Unexpected, problem_response, responses_for

CHANGING = frozenset({"POST", "PUT", "PATCH", "DELETE"})
CLIENT_LEFT = 499
"""The status in logs and metrics of a request whose sender did not wait for the answer."""

Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])
Errors = Sequence[type[MuelleError]]

_CALLER = "muelle.caller"
_LOOPBACK = frozenset({"127.0.0.1", "::1"})
_FORWARDED = ("forwarded", "x-forwarded-for", "x-real-ip", "via")
_REPEATING: Errors = (
    idempotency.KeyUsedBefore,
    idempotency.BadIdempotencyKey,
    idempotency.StillRunning,
    idempotency.AnswerLost,
)
_SUCCESS = {200: "Done.", 201: "Made.", 202: "Accepted: it is done soon.", 204: "Done; there is nothing more to say."}


@dataclass(frozen=True)
class Declared:
    """What stands beside a route."""

    room: str
    access: Access
    changes: bool
    raises: Errors
    stream_limit: int = 0
    """Where it is set, the route reads its body itself, as it comes, up to so many bytes."""


class Desk(Protocol):
    """What the routes of an application find at `app.state.desk`."""

    callers: Callers
    answers: dict[str, idempotency.Answers]
    service_token: str


@runtime_checkable
class Movable(Protocol):
    """A route of a room: it can be put up further down."""

    def under(self, prefix: str) -> BaseRoute: ...


def declared(endpoint: Any) -> Declared | None:
    found = getattr(endpoint, "muelle_declared", None)
    return found if isinstance(found, Declared) else None


class Nothing(Response):
    """An answer without a body, for a route that returns nothing."""


class RoomRoute(APIRoute):
    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        stands = declared(endpoint)
        if stands is None:
            raise TypeError(f"the route {path} does not declare who may call it")
        self.stands = stands
        self._options = options
        super().__init__(path, endpoint, **options)
        self.responses = responses_for(self.errors()) | self.responses
        self._is_plain = "{" not in path

    def under(self, prefix: str) -> RoomRoute:
        """The same route, further down."""
        return RoomRoute(prefix + self.path, self.endpoint, **self._options)

    def errors(self) -> list[type[MuelleError]]:
        """All that can go wrong, as far as it can be known from here."""
        stands = self.stands
        found = [*stands.raises, *stands.access.refusals(changes=stands.changes), Unexpected, DependencySilent]
        if self.body_field is not None:
            found += READING_ERRORS
        if self.body_field is not None or get_flat_params(self.dependant):
            found.append(FieldsInvalid)
        if stands.changes:
            found += [BodyTooLarge] if stands.stream_limit else [*_REPEATING, BodyTooLarge]
        return found

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        if self._is_plain and not scope["path"].endswith(self.path):
            return Match.NONE, {}  # as with most routes for each request: quicker told than by a regular expression
        return super().matches(scope)

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()
        stands, takes_json = self.stands, self.body_field is not None

        async def admitted(request: Request) -> Response:
            desk: Desk = request.app.state.desk
            caller = await _recognise(request, stands, desk)
            if stands.stream_limit:
                request.scope["muelle.allow_body"](stands.stream_limit)
                return await handle(request)
            if not stands.changes:
                return await handle(request)
            request = JsonRequest(request.scope, request.receive)
            body = await request.body()
            if takes_json and body:
                await request.json()
            key = request.headers.get(idempotency.HEADER)
            if key is None:
                return await handle(request)
            answers = desk.answers[stands.room]
            who = caller.account_id if caller else f"@{request.client.host if request.client else ''}"
            asked = request.method, request.url.path, request.url.query
            same = answers.request(who, key, *(part.encode() for part in asked), body)
            return await answers.once(same, lambda: _answer(handle, request))

        async def guarded(request: Request) -> Response:
            try:
                return await admitted(request)
            except ClientDisconnect:
                return Response(status_code=CLIENT_LEFT)
            except Exception as error:
                return problem_response(error, request.url.path)

        return guarded


async def _recognise(request: Request, stands: Declared, desk: Desk) -> Caller | None:
    caller = None
    scheme, _, credential = request.headers.get("authorization", "").partition(" ")
    if stands.access.who is Who.SERVICE:
        right = compare_digest(credential.strip().encode(), desk.service_token.encode())
        if scheme.lower() != "muelle-service" or not right:
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


async def caller_of(request: Request) -> Caller:
    """Who was recognised. As a parameter of a route it is `caller: CallerNow`."""
    caller: Caller = request.scope[_CALLER]
    return caller


CallerNow = Annotated[Caller, Depends(caller_of)]


class RoomRouter(APIRouter):
    def __init__(self, room: str, **options: Any) -> None:
        super().__init__(route_class=RoomRoute, strict_content_type=False, **options)
        self.room = room

    def get(  # type: ignore[override]
        self, path: str, access: Access, *, raises: Errors = (), **options: Any
    ) -> Callable[[Endpoint], Endpoint]:
        return self._route("GET", path, access, raises, options)

    def post(  # type: ignore[override]
        self, path: str, access: Access, *, raises: Errors = (), stream_limit: int = 0, **options: Any
    ) -> Callable[[Endpoint], Endpoint]:
        return self._route("POST", path, access, raises, options, stream_limit)

    def put(  # type: ignore[override]
        self, path: str, access: Access, *, raises: Errors = (), **options: Any
    ) -> Callable[[Endpoint], Endpoint]:
        return self._route("PUT", path, access, raises, options)

    def patch(  # type: ignore[override]
        self, path: str, access: Access, *, raises: Errors = (), **options: Any
    ) -> Callable[[Endpoint], Endpoint]:
        return self._route("PATCH", path, access, raises, options)

    def delete(  # type: ignore[override]
        self, path: str, access: Access, *, raises: Errors = (), **options: Any
    ) -> Callable[[Endpoint], Endpoint]:
        return self._route("DELETE", path, access, raises, options)

    def _route(
        self,
        method: str,
        path: str,
        access: Access,
        raises: Errors,
        options: dict[str, Any],
        stream_limit: int = 0,
    ) -> Callable[[Endpoint], Endpoint]:
        stands = Declared(self.room, access, method in CHANGING, raises, stream_limit)
        extra: dict[str, Any] = {"x-access": access.who.value}
        if access.scope:
            extra["x-scope"] = access.scope
        if access.needs_credentials:
            extra["security"] = [{"bearer": []}]
        if stands.changes and not stream_limit:
            extra["parameters"] = [{"$ref": "#/components/parameters/IdempotencyKey"}]

        def declare(endpoint: Endpoint) -> Endpoint:
            endpoint.muelle_declared = stands  # type: ignore[attr-defined]
            named: dict[str, Any] = {
                "operation_id": endpoint.__name__,
                "summary": endpoint.__name__.replace("_", " ").capitalize(),
                "response_description": _SUCCESS.get(options.get("status_code", 200), "Done."),
            }
            if endpoint.__annotations__.get("return") in (None, "None"):
                named["response_class"] = Nothing
            self.add_api_route(path, endpoint, methods=[method], openapi_extra=extra, **(named | options))
            return endpoint

        return declare


def put_up(app: FastAPI, router: APIRouter, *, prefix: str = "") -> None:
    """Adds a room's routes to the application, each as one of its own.

    `include_router` would keep routers within routers, and look through all of them twice for each request.
    """
    app.router.routes += [route.under(prefix) for route in router.routes if isinstance(route, Movable)]
