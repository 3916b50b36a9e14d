"""Who may call what: every route there is, as everybody there is. What to expect follows from what stands beside it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest

from muelle.app import Application
from muelle.kit.http import Access, Who
from muelle.kit.http.problems import status_of
from muelle.kit.http.routes import RoomRoute, declared
from muelle.kit.http.sockets import BEARER, OUR_CODES, RoomSocket
from muelle.kit.http.streams import EventStream
from muelle.kit.ids import new_id
from tests.surface.scenes import PERSONAS, Persona, Scene, log_in, scene
from tests.world import ONE, PUBLIC_ADDRESS, Shape, World, installation

FOR_EVERYBODY = {"/docs", "/redoc", "/docs/assets/{name}", "/api/v1/openapi.json"}
"""Pages about the API itself: the only addresses without a declaration."""

SPLIT = Shape(split=True, postgres=False, rabbit=False)
THROUGH = "through"
INSTALLATIONS = {
    "production": (ONE, {}),
    "development": (ONE, {"profile": "development"}),
    "split": (SPLIT, {}),
}


@pytest.fixture(params=INSTALLATIONS)
async def installed(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    shape, settings = INSTALLATIONS[request.param]
    async with installation(shape, tmp_path / "home", **settings) as world:
        for app in world.apps:
            await asyncio.gather(
                *(loop.stop() for loop in app.loops)
            )  # what becomes of all those facts is not asked here
        yield world


async def test_every_route_says_who_may_call_it(installed: World) -> None:
    for app in installed.apps:
        silent = {route.path for route in app.api.routes if declared(getattr(route, "endpoint", None)) is None}
        assert silent == FOR_EVERYBODY


async def test_everybody_gets_what_stands_beside_the_route_and_nothing_else(installed: World) -> None:
    wrong = []
    kept: dict[tuple[Access, Persona], Scene] = {}
    for app, route, persona in _everything(installed, RoomRoute):
        access, changes = route.stands.access, route.stands.changes
        there = kept.get((access, persona)) or await scene(installed, persona, access)
        if not changes:
            kept[access, persona] = there  # what only reads leaves it as it is
        expected = _expected(access, persona, changes=changes)
        answer = await _ask(app, route, there)
        if not _is_as(expected, answer, route):
            wrong.append(f"{_name(route)} as {persona.name}: {expected}, but {answer.status_code} {answer.text[:200]}")
    assert not wrong, "\n".join(wrong)


async def test_everybody_gets_what_stands_beside_the_socket_and_nothing_else(installed: World) -> None:
    wrong = []
    for app, route, persona in _everything(installed, RoomSocket):
        there = await scene(installed, persona, route.stands.access)
        expected = _expected(route.stands.access, persona, changes=route.stands.changes)
        for headers in (there.headers, _as_a_page(route, there.headers)):
            status = await _open(app, route, there.places, headers)
            possible = {101} | {status_of(error) for error in route.stands.raises} - {404}
            if status != expected and not (expected == THROUGH and status in possible):
                wrong.append(f"{route.path} as {persona.name}: {expected}, but {status}")
            foreign = await _open(app, route, there.places, {**headers, "Origin": "https://elsewhere.example.com"})
            assert foreign == 403, route.path
    assert not wrong, "\n".join(wrong)


async def test_another_process_of_the_installation_gets_through_where_it_should_and_nowhere_else(
    tmp_path: Path,
) -> None:
    async with installation(SPLIT, tmp_path / "home") as world:
        there = await scene(world, PERSONAS[0], Access.service())
        service = {"Authorization": f"Muelle-Service {world.identity.desk.service_token}"}
        internal = Scene(service, there.fields, there.places)
        asked = 0
        for route in _routes(world.identity, RoomRoute):
            answer = await _ask(world.identity, route, internal)
            if route.stands.access.who is Who.SERVICE:
                asked += 1
                assert answer.status_code == 200, _name(route)
            elif route.stands.access.who is not Who.ANYBODY:
                assert answer.status_code == 401, _name(route)
        assert asked
        for socket in _routes(world.workloads, RoomSocket):
            assert await _open(world.workloads, socket, there.places, service) == 401, socket.path


async def test_internal_routes_are_not_there_where_nobody_needs_them(one: World) -> None:
    assert (await one.ask("POST", "//internal/callers", json={"credential": "x"})).status_code == 404


async def test_head_tells_no_more_than_get(one: World) -> None:
    async with _client(one.identity) as client:
        for route in _routes(one.identity, RoomRoute):
            if "GET" in route.methods:
                path = _path(route, {})
                heard, read = await client.head(path), await client.get(path)
                assert (heard.status_code, heard.content) == (read.status_code, b""), path


@pytest.mark.parametrize(
    "path", ["/api/v1/accounts/", "//api/v1/accounts", "/api/v1//accounts", "/API/V1/ACCOUNTS", "/api/v1/accounts%2f"]
)
async def test_no_other_spelling_of_an_address_leads_anywhere(one: World, path: str) -> None:
    async with _client(one.identity) as client:
        answer = await client.send(client.build_request("GET", httpx.URL("http://muelle", raw_path=path.encode())))
        assert answer.status_code == 404


async def test_metrics_are_for_the_machine_itself_and_for_administrators(one: World) -> None:
    async def metrics(address: str, **headers: str) -> int:
        async with _client(one.identity, address) as client:
            return (await client.get("/metrics", headers=headers)).status_code

    admin = await one.administrator()
    assert await metrics(PUBLIC_ADDRESS) == 401
    assert await metrics(PUBLIC_ADDRESS, Authorization=f"Bearer {admin.credential}") == 200
    for loopback in ("127.0.0.1", "::1"):
        assert await metrics(loopback) == 200
        for header in ("X-Forwarded-For", "Forwarded", "X-Real-IP", "Via"):
            assert await metrics(loopback, **{header: "203.0.113.9"}) == 401
    client = await log_in(one.identity)
    assert await metrics("127.0.0.1", Authorization=f"Bearer {client.access_token}") == 403
    assert await metrics("127.0.0.1", Authorization="Bearer of-bad-news") == 401


def _expected(access: Access, persona: Persona, *, changes: bool) -> str | int:  # noqa: PLR0911 - it is a table
    """What a declaration implies, said once more and in other words than `Access.admit` does."""
    for_administrators = access.who in (Who.ADMIN, Who.OPERATOR)
    is_key = persona.credential.endswith("key")
    if access.who is Who.ANYBODY:
        return THROUGH
    if access.who is Who.SERVICE or persona.credential in ("none", "revoked session"):
        return 401
    if (is_key and access.session_only) or persona.credential == "other key":
        return 403
    if for_administrators and persona.role != "admin":
        return 403
    if persona.suspended and (changes or for_administrators) and not access.even_suspended:
        return 403
    if access.who in (Who.OWNER, Who.OWNER_OR_ADMIN) and not persona.owns:
        administers = access.who is Who.OWNER_OR_ADMIN and persona.role == "admin"
        return THROUGH if administers else 404
    return THROUGH


def _is_as(expected: str | int, answer: httpx.Response, route: RoomRoute) -> bool:
    status = answer.status_code
    if expected != THROUGH:
        return status == expected
    declared_here = {route.status_code or 200, *(int(status) for status in route.responses)}
    hidden = status == 404 and route.stands.access.who in (Who.OWNER, Who.OWNER_OR_ADMIN)
    return status not in (401, 403) and not hidden and status < 500 and status in declared_here


async def _ask(app: Application, route: RoomRoute, there: Scene) -> httpx.Response:
    (method,) = route.methods
    body = _body(app, route, method)
    if route.response_class is EventStream:
        method = "HEAD"  # the answer to GET would not end
    if body is not None:
        body |= {name: value for name, value in there.fields.items() if name in body}
        if route.operation_id == "sign_up":
            body["email"] = f"{new_id()}@example.com"
    async with _client(app) as client:
        return await client.request(method, _path(route, there.places), json=body, headers=there.headers)


def _body(app: Application, route: RoomRoute, method: str) -> Any:
    """The example in the API's description. Internal routes are not in it."""
    if not route.include_in_schema:
        return {"credential": ""}
    operation = app.api.openapi()["paths"][route.path][method.lower()]
    example = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("example")
    return None if example is None else dict(example)


def _path(route: RoomRoute, places: dict[str, str]) -> str:
    """With true ids where there are some, and the examples elsewhere."""
    examples = {
        field.alias: field.field_info.examples[0] for field in route.dependant.path_params if field.field_info.examples
    }
    known = examples | places
    query = {field.alias: "made-up" for field in route.dependant.query_params if field.field_info.is_required()}
    return str(httpx.URL(re.sub(r"\{(\w+)\}", lambda found: str(known[found[1]]), route.path), params=query or None))


async def _open(app: Application, route: RoomSocket, places: dict[str, str], headers: dict[str, str]) -> int:
    """The status of the answer; of a socket that is closed with a code of ours, the status that the code says."""
    path = re.sub(r"\{(\w+)\}", lambda found: str(places.get(found[1], found[1])), route.path)
    protocols = headers.get("Sec-WebSocket-Protocol", "")
    scope = {
        "type": "websocket",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"command=true",
        "headers": [(name.lower().encode(), value.encode()) for name, value in {"Host": "muelle", **headers}.items()],
        "subprotocols": [protocol.strip() for protocol in protocols.split(",") if protocol],
        "client": (PUBLIC_ADDRESS, 4711),
        "scheme": "ws",
        "extensions": {"websocket.http.response": {}},
    }
    coming = [{"type": "websocket.disconnect", "code": 1000}, {"type": "websocket.connect"}]
    told: list[Any] = []

    async def receive() -> Any:
        return coming.pop()

    async def send(message: Any) -> None:
        told.append(message)

    await app.asgi(scope, receive, send)
    first, last = told[0], told[-1]
    if first["type"] == "websocket.http.response.start":
        return int(first["status"])
    assert first["type"] == "websocket.accept"
    code = int(last.get("code", 0))
    return code - OUR_CODES if code > OUR_CODES else 101


def _as_a_page(route: RoomSocket, headers: dict[str, str]) -> dict[str, str]:
    """The same credential, as a browser can tell it."""
    credential = headers.get("Authorization", "").removeprefix("Bearer ")
    protocols = [route.protocol, *([f"{BEARER}{credential}"] if credential else [])]
    return {"Sec-WebSocket-Protocol": ", ".join(protocols), "Origin": "http://muelle"}


Kind = TypeVar("Kind", RoomRoute, RoomSocket)


def _everything(world: World, kind: type[Kind]) -> Iterator[tuple[Application, Kind, Persona]]:
    return ((app, route, persona) for app in world.apps for route in _routes(app, kind) for persona in PERSONAS)


def _routes(app: Application, kind: type[Kind]) -> Iterator[Kind]:
    return (route for route in app.api.routes if isinstance(route, kind))


def _name(route: RoomRoute) -> str:
    return f"{' '.join(route.methods)} {route.path}"


@asynccontextmanager
async def _client(app: Application, address: str = PUBLIC_ADDRESS) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app.asgi, raise_app_exceptions=False, client=(address, 4711))
    async with httpx.AsyncClient(transport=transport, base_url="http://muelle") as client:
        yield client
