"""What happens to every request, whatever it asks: ids, headers, log lines, figures, other origins, health."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import structlog
from sqlalchemy import text

from muelle.app import ROOMS, SUBSCRIPTIONS
from muelle.kit.errors import Failure, Unavailable
from muelle.kit.http import Access, Cursor, RoomRouter, page_of
from muelle.kit.http.health import FRESH_SECONDS
from muelle.kit.http.pages import LARGEST_PAGE
from muelle.kit.http.routes import put_up
from tests.http.listening import Lines, listening
from tests.http.raw import send
from tests.servers.postgres import Postgres
from tests.world import ONE, PREFIX, Shape, World, installation

ORIGIN = "https://cloud.example.com"
EVERYWHERE = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
}


class Mistake(Failure):
    """The secret recipe is {recipe}."""


class Elsewhere(Unavailable):
    """The kitchen does not answer."""


@pytest.fixture
def lines() -> Iterator[Lines]:
    with listening() as lines:
        yield lines


@pytest.fixture
async def mishaps(one: World) -> World:
    """With routes where everything goes wrong."""
    router = RoomRouter("identity", prefix="/mishaps")

    @router.get("/bug", Access.anybody())
    async def bug() -> None:
        raise RuntimeError("the secret recipe is salt")

    @router.get("/failure", Access.anybody())
    async def failure() -> None:
        raise Mistake(recipe="salt")

    @router.get("/unavailable", Access.anybody())
    async def unavailable() -> None:
        raise Elsewhere from ConnectionError("secret-host:1234")

    @router.get("/shape", Access.anybody())
    async def shape() -> int:
        return "salt"  # type: ignore[return-value]

    @router.get("/chatty", Access.anybody())
    async def chatty() -> str:
        logging.getLogger("somebody.else").warning("hello")
        structlog.get_logger("muelle.kitchen").info("and")
        return "good bye"

    put_up(one.identity.api, router, prefix=PREFIX)
    return one


async def test_a_sane_request_id_is_kept_and_any_other_replaced(one: World) -> None:
    for given in ("client-7.of_9", "x" * 64, "0" * 8):
        answer = await one.ask("GET", "/nothing", headers={"X-Request-Id": given})
        assert answer.headers["x-request-id"] == answer.json()["request_id"] == given
    for given in ("short", "x" * 65, "with space", "<script>", ""):
        answer = await one.ask("GET", "/nothing", headers={"X-Request-Id": given})
        assert re.fullmatch("[0-9a-f]{24}", answer.headers["x-request-id"])
    ids = {(await one.ask("GET", "/nothing")).headers["x-request-id"] for _ in range(3)}
    assert len(ids) == 3


async def test_the_request_id_is_what_the_audit_log_knows_it_by(one: World) -> None:
    ana = await one.sign_up("ana@example.com")
    answer = await ana.ask("PATCH", "/me", {"name": "Anna"}, headers={"X-Request-Id": "renaming-ana"})
    assert answer.status_code == 200
    (entry,) = await one.recorded("ProfileChanged", ana.id)
    assert (entry.request_id, entry.actor) == ("renaming-ana", ana.id)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "//health/live", 200),
        ("GET", "/me", 401),
        ("GET", "/nothing", 404),
        ("PUT", "/me", 405),
        ("OPTIONS", "/me", 204),
        ("POST", "/auth/login", 422),
        ("GET", "/mishaps/bug", 500),
        ("GET", "//docs", 200),
        ("GET", "//redoc", 200),
        ("GET", "//docs/assets/start.js", 200),
        ("GET", "//docs/assets/nothing", 404),
        ("GET", "/openapi.json", 200),
    ],
)
async def test_every_answer_protects_who_reads_it(mishaps: World, method: str, path: str, status: int) -> None:
    answer = await mishaps.ask(method, path)
    assert answer.status_code == status
    assert {name: answer.headers.get(name) for name in EVERYWHERE} == EVERYWHERE
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert answer.headers["x-request-id"]
    kept = path.startswith(("//docs", "//redoc"))
    assert kept or answer.headers["cache-control"] == "no-store"
    for name in ("server", "x-powered-by", "set-cookie", "access-control-allow-origin"):
        assert name not in answer.headers


async def test_every_request_is_one_line(mishaps: World, lines: Lines) -> None:
    ana = await mishaps.sign_up("ana@example.com")
    lines.forget()
    await ana.get("/me", headers={"X-Request-Id": "who-am-i"})
    await ana.ask("DELETE", "/me/keys/" + "0" * 24)
    await mishaps.ask("GET", "/nothing/here?secret=1")
    await mishaps.ask("HEAD", "//health/live")
    await mishaps.ask("GET", "//health/ready")
    told = [
        (line["method"], line["route"], line["path"], line["status"], line["actor"]) for line in lines.all("request")
    ]
    id = "0" * 24
    assert told == [
        ("GET", "/api/v1/me", "/api/v1/me", 200, ana.id),
        ("DELETE", "/api/v1/me/keys/{key_id}", f"/api/v1/me/keys/{id}", 404, ana.id),
        ("GET", "unknown", "/api/v1/nothing/here", 404, "anonymous"),
    ]
    first = lines.all("request")[0]
    assert first["request_id"] == "who-am-i"
    assert first["address"] == "203.0.113.7"
    assert first["level"] == "info"
    assert first["ms"] >= 0


async def test_nobody_writes_lines_of_their_own_into_the_log(one: World, lines: Lines) -> None:
    await send(one, "GET", b"/x%0a%7B%22event%22:%22forged%22%7D%1b[31m" + b"y" * 5_000)
    (line,) = lines.all()
    assert (line["event"], line["status"]) == ("request", 404)
    assert line["path"].isprintable()
    assert len(line["path"]) <= 500


async def test_whatever_goes_wrong_inside_is_logged_and_not_told(mishaps: World, lines: Lines) -> None:
    for path in ("bug", "failure", "shape"):
        lines.forget()
        answer = await mishaps.ask("GET", f"/mishaps/{path}")
        assert (answer.status_code, answer.json()["code"]) == (500, "unexpected")
        assert "salt" not in answer.text
        errors = [line for line in lines.all() if line["level"] == "error"]
        assert len(errors) == 1, path
        assert errors[0]["request_id"] == answer.json()["request_id"]
        assert "Traceback" in errors[0]["exception"]
        assert len(lines.all("request")) == 1


async def test_what_does_not_answer_is_told_and_its_cause_logged(mishaps: World, lines: Lines) -> None:
    answer = await mishaps.ask("GET", "/mishaps/unavailable")
    assert (answer.status_code, answer.json()["code"]) == (503, "elsewhere")
    assert "secret-host" not in answer.text
    (line,) = [line for line in lines.all() if line["level"] == "warning"]
    assert "secret-host" in line["cause"]


async def test_a_database_that_is_away_is_told_as_such_and_comes_back(
    own_postgres: Postgres, tmp_path: Path, lines: Lines
) -> None:
    shape = Shape(split=False, postgres=True, rabbit=False)
    async with installation(shape, tmp_path / "home", postgres_url=own_postgres.url) as world:
        ana = await world.sign_up("ana@example.com")
        own_postgres.kill()
        reading, writing = await ana.get("/me/keys"), await ana.ask("PATCH", "/me", {"name": "Anna"})
        assert reading.json()["code"] == writing.json()["code"] == "dependency_silent"
        for answer in (reading, writing, await world.ask("GET", "//health/ready")):
            assert answer.status_code == 503
            assert "127.0.0.1" not in answer.text
        assert len(lines.all("dependency silent")) == 2
        own_postgres.start()
        assert (await ana.ask("PATCH", "/me", {"name": "Anna"})).status_code == 200


async def test_a_full_disk_is_told_as_such_and_not_as_a_mistake_of_ours(one: World, lines: Lines) -> None:
    ana = await one.sign_up("ana@example.com")
    async with one.identity.rooms[0].furniture.database.transaction() as tx:
        await tx.scalar(text("PRAGMA max_page_count=1"))  # as many as there are, and no more
    for number in range(100):
        answer = await ana.post("/me/keys", {"name": f"{number} {'x' * 80}", "scopes": ["identity:read"]})
        if answer.status_code != 201:
            break
    assert (answer.status_code, answer.json()["code"]) == (503, "disk_full")
    assert "Make room" in answer.json()["hint"]
    assert not [line for line in lines.all() if line["level"] == "error"]
    assert (await ana.get("/me/keys")).status_code == 200


async def test_a_bug_beside_any_route_is_answered_too(
    one: World, lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(one.identity.api.router, "routes", None)
    answer = await one.ask("GET", "/me")
    assert (answer.status_code, answer.json()["code"]) == (500, "unexpected")
    assert len([line for line in lines.all() if line["level"] == "error"]) == 1


async def test_what_is_logged_on_the_way_bears_the_request_id(mishaps: World, lines: Lines) -> None:
    await mishaps.ask("GET", "/mishaps/chatty", headers={"X-Request-Id": "chatting-away"})
    assert [line["request_id"] for line in lines.all()] == ["chatting-away"] * 3
    logging.getLogger("somebody.else").warning("afterwards")
    assert "request_id" not in lines.all("afterwards")[0]


async def test_figures_are_kept_by_route_and_not_by_address(one: World) -> None:
    ana = await one.sign_up("ana@example.com")
    for number in range(3):
        await ana.delete(f"/me/keys/{number:024x}")
    await one.ask("GET", "/made/up/17")
    await send(one, "BREW", b"/coffee")
    text = (await (await one.administrator()).get("//metrics")).text
    assert 'muelle_http_requests_total{method="DELETE",route="/api/v1/me/keys/{key_id}",status="404"} 3.0' in text
    assert 'muelle_http_requests_total{method="GET",route="unknown",status="404"} 1.0' in text
    assert 'muelle_http_requests_total{method="OTHER",route="unknown",status="404"} 1.0' in text
    assert 'muelle_http_seconds_count{method="DELETE",route="/api/v1/me/keys/{key_id}"} 3.0' in text
    assert "made" not in text
    assert "coffee" not in text.lower()


async def test_head_is_get_without_a_body(one: World) -> None:
    for path in ("//health/live", "//docs", "/openapi.json", "/auth/providers"):
        head, get = await one.ask("HEAD", path), await one.ask("GET", path)
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["content-length"] == get.headers["content-length"]
        assert head.headers["content-type"] == get.headers["content-type"]
    assert (await one.ask("HEAD", "/me")).status_code == 401
    assert (await one.ask("HEAD", "/auth/login")).status_code == 405


async def test_options_tells_what_an_address_takes(one: World) -> None:
    answer = await one.ask("OPTIONS", "/me")
    assert (answer.status_code, answer.content) == (204, b"")
    assert answer.headers["allow"] == "DELETE, GET, HEAD, OPTIONS, PATCH"
    assert (await one.ask("OPTIONS", "/auth/login")).headers["allow"] == "OPTIONS, POST"
    assert (await one.ask("OPTIONS", f"/me/keys/{'0' * 24}")).headers["allow"] == "DELETE, OPTIONS"
    assert (await one.ask("OPTIONS", "/nothing")).status_code == 404


async def test_a_wrong_method_is_told_the_right_ones(one: World) -> None:
    answer = await one.ask("PUT", "/me")
    assert (answer.status_code, answer.json()["code"]) == (405, "method_not_allowed")
    assert answer.headers["allow"] == "DELETE, GET, HEAD, OPTIONS, PATCH"
    assert "PUT" in answer.json()["detail"]
    assert "PATCH" in answer.json()["detail"]


async def test_a_slash_too_many_is_no_address_and_leads_nowhere(one: World) -> None:
    answer = await one.ask("GET", "/me/", headers={"Host": "evil.example"})
    assert answer.status_code == 404
    assert "location" not in answer.headers


@pytest.fixture
async def open_to_one(tmp_path: Path) -> AsyncIterator[World]:
    async with installation(ONE, tmp_path / "home", cors_origins=ORIGIN) as world:
        yield world


def _preflight(origin: str, method: str = "PATCH", headers: str = "authorization, idempotency-key") -> dict[str, str]:
    return {
        "Origin": origin,
        "Access-Control-Request-Method": method,
        "Access-Control-Request-Headers": headers,
    }


async def test_a_page_of_an_allowed_origin_may_call_from_a_browser(open_to_one: World) -> None:
    asked = await open_to_one.ask("OPTIONS", "/me", headers=_preflight(ORIGIN))
    assert asked.status_code == 200
    assert asked.headers["access-control-allow-origin"] == ORIGIN
    assert "PATCH" in asked.headers["access-control-allow-methods"]
    assert "idempotency-key" in asked.headers["access-control-allow-headers"].lower()
    assert "access-control-allow-credentials" not in asked.headers
    for path, status in (("/me", 401), ("/auth/providers", 200), ("/nothing", 404)):
        answer = await open_to_one.ask("GET", path, headers={"Origin": ORIGIN})
        assert answer.status_code == status
        assert answer.headers["access-control-allow-origin"] == ORIGIN
        assert "Origin" in answer.headers["vary"]
        assert "x-request-id" in answer.headers["access-control-expose-headers"]


async def test_an_allowed_origin_may_read_what_went_wrong(open_to_one: World) -> None:
    """Errors that are not a route's, too: a page that may not read them shows nothing but "network error"."""
    limit = open_to_one.identity.settings.body_limit_bytes
    headers = {"Origin": ORIGIN, "Content-Type": "application/json"}
    answer = await open_to_one.ask("POST", "/auth/login", content=b" " * (limit + 1), headers=headers)
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (413, ORIGIN)


async def test_no_other_origin_gets_anything(open_to_one: World) -> None:
    similar = ORIGIN + ".evil.example", ORIGIN + ":8443", ORIGIN.replace("https", "http")
    for origin in ("https://evil.example", "null", *similar):
        asked = await open_to_one.ask("OPTIONS", "/me", headers=_preflight(origin))
        assert (asked.status_code, asked.json()["code"]) == (403, "origin_not_allowed")
        read = await open_to_one.ask("GET", "/auth/providers", headers={"Origin": origin})
        for answer in (asked, read):
            assert not [name for name in answer.headers if name.startswith("access-control-allow")]
    for wrong in (_preflight(ORIGIN, method="BREW"), _preflight(ORIGIN, headers="x-anything")):
        assert (await open_to_one.ask("OPTIONS", "/me", headers=wrong)).status_code == 403


async def test_without_a_list_no_origin_gets_anything(one: World) -> None:
    answers = [
        await one.ask("OPTIONS", "/me", headers=_preflight(ORIGIN)),
        await one.ask("GET", "/auth/providers", headers={"Origin": ORIGIN}),
    ]
    assert not [name for answer in answers for name in answer.headers if name.startswith("access-control")]


async def test_pages_follow_each_other_without_a_gap_or_an_overlap(one: World) -> None:
    root = await one.administrator()
    for number in range(7):
        await one.sign_up(f"p{number}@example.com")
    for size in (1, 3, 8, 9, LARGEST_PAGE):
        seen, path, pages = [], f"/accounts?limit={size}", 0
        while True:
            page = (await root.get(path)).json()
            seen += [item["id"] for item in page["items"]]
            pages += 1
            if page["next"] is None:
                break
            assert len(page["items"]) == size
            path = f"/accounts?limit={size}&cursor={page['next']}"
        assert len(seen) == len(set(seen)) == 9  # with the two administrators
        assert seen == sorted(seen)
        assert pages == -(-9 // size)


def test_a_page_knows_whether_it_is_the_last() -> None:
    def page(rows: list[int], limit: int) -> tuple[list[int], bool]:
        made = page_of(rows, Cursor(None, limit), str, lambda row: row)
        return made.items, made.next is None

    assert page([], 2) == ([], True)
    assert page([1, 2], 2) == ([1, 2], True)
    assert page([1, 2, 3], 2) == ([1, 2], False)


async def test_readiness_tells_of_each_part_and_how_old_the_answer_is(one: World) -> None:
    first = (await one.ask("GET", "//health/ready")).json()
    assert first["ready"]
    assert first["rooms"] == list(ROOMS)
    assert {name: check["detail"] for name, check in first["checks"].items()} == {
        **{f"database.{room}": "SQLite" for room in ROOMS},
        "bus": f"in process, {len(SUBSCRIPTIONS)} of {len(SUBSCRIPTIONS)} consumers attached",
        "ingress": f"the built-in proxy, on port {one.apps_port}",
        "engine": "a pretended engine with 0 instances",
    }
    assert set(first["loops"]) == {loop.name for loop in one.identity.loops}
    one.clock.leap(seconds=FRESH_SECONDS - 0.5)
    second = (await one.ask("GET", "//health/ready")).json()
    assert all(check["age_seconds"] >= FRESH_SECONDS - 0.5 for check in second["checks"].values())
    one.clock.leap(seconds=1)
    third = (await one.ask("GET", "//health/ready")).json()
    assert all(check["age_seconds"] < FRESH_SECONDS - 0.5 for check in third["checks"].values())


async def test_a_crowd_that_asks_for_health_asks_the_database_once(one: World, monkeypatch: pytest.MonkeyPatch) -> None:
    health = one.identity.desk.health
    asked = 0
    gate = asyncio.Event()

    async def slow() -> str:
        nonlocal asked
        asked += 1
        await gate.wait()
        return "fine"

    monkeypatch.setattr(health, "_checks", {"slow": slow})
    one.clock.leap(seconds=FRESH_SECONDS + 1)
    crowd = [asyncio.create_task(one.ask("GET", "//health/ready")) for _ in range(100)]
    await asyncio.sleep(0.05)
    gate.set()
    assert {answer.status_code for answer in await asyncio.gather(*crowd)} == {200}
    assert asked == 1


@pytest.mark.parametrize("part", ["database.identity", "bus"])
async def test_what_does_not_answer_makes_it_unready_and_is_named(
    one: World, part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken() -> str:
        raise ConnectionError("postgresql://muelle:hunter2@db.internal:5432 does not answer")

    health = one.identity.desk.health
    monkeypatch.setattr(health, "_checks", {**health._checks, part: broken})
    one.clock.leap(seconds=FRESH_SECONDS + 1)
    answer = await one.ask("GET", "//health/ready")
    assert answer.status_code == 503
    assert [name for name, check in answer.json()["checks"].items() if not check["ok"]] == [part]
    assert answer.json()["checks"][part]["detail"] == "does not answer (ConnectionError)"
    assert "hunter2" not in answer.text
    assert "db.internal" not in answer.text
    assert (await one.ask("GET", "//health/live")).status_code == 200


async def test_what_hangs_makes_it_unready_in_a_while(one: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("muelle.kit.http.health.CHECK_SECONDS", 0.01)
    monkeypatch.setattr(one.identity.desk.health, "_checks", {"bus": asyncio.Event().wait})
    answer = await one.ask("GET", "//health/ready")
    assert (answer.status_code, answer.json()["checks"]["bus"]["detail"]) == (503, "no answer within 0.01 s")


async def test_a_loop_that_fails_shows_that_it_does_and_not_why(one: World) -> None:
    one.postbox.broken = True
    (relay,) = [loop for loop in one.identity.loops if loop.name == "identity.relay"]

    async def broken() -> None:
        raise ConnectionError("amqp://muelle:hunter2@broker.internal")

    await relay.stop()
    relay._work = broken
    await relay.run_once()
    answer = await one.ask("GET", "//health/ready")
    told = answer.json()["loops"]["identity.relay"]
    assert (told["failures_in_a_row"], told["last_error"]) == (1, "ConnectionError")
    assert "internal" not in answer.text


async def test_figures_come_although_a_database_does_not_answer(one: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone() -> Any:
        raise ConnectionError

    root = await one.administrator()
    monkeypatch.setattr(one.identity.rooms[1].furniture.database, "reading", gone)
    answer = await root.get("//metrics")
    assert answer.status_code == 200
    assert 'muelle_outbox_waiting{room="audit"} NaN' in answer.text
    assert 'muelle_outbox_waiting{room="identity"} NaN' not in answer.text


async def test_two_requests_at_once_do_not_mix_up_who_asks(one: World, lines: Lines) -> None:
    ana, bob = await one.sign_up("ana@example.com"), await one.sign_up("bob@example.com")
    lines.forget()
    answers: list[httpx.Response] = await asyncio.gather(*(person.get("/me") for person in [ana, bob] * 20))
    assert [answer.json()["id"] for answer in answers] == [ana.id, bob.id] * 20
    assert sorted(line["actor"] for line in lines.all("request")) == sorted([ana.id, bob.id] * 20)
    assert len({line["request_id"] for line in lines.all("request")}) == 40
