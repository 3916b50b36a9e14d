"""`Idempotency-Key`: one effect and one answer, however often and however unluckily a request is sent."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import select

from muelle.identity.attempts import Attempts
from muelle.identity.keyring import MadeKey
from muelle.identity.log_in import LogIn
from muelle.kit.errors import Unavailable
from muelle.kit.http.idempotency import KEPT_HOURS, LEASE_SECONDS, WAIT_SECONDS, Answers, answers
from tests.servers.plugin import Servers
from tests.waiting import eventually
from tests.world import PASSWORD, PREFIX, Person, Shape, World, installation

KEY = {"Idempotency-Key": "7d0cf3a2-5b1e-4f57-9a0e-1c8a3f6f2b11"}
BODY = {"name": "deploy", "scopes": ["identity:read"]}
EQUAL_REQUESTS = 50


class Boom(Exception):
    """The process is gone, as far as a request can tell."""


class Silent(Unavailable):
    """Something that is needed for this is silent."""


async def make(person: Person, body: Any = BODY, headers: dict[str, str] = KEY) -> httpx.Response:
    return await person.post("/me/keys", body, headers=headers)


async def keys(person: Person) -> int:
    return len((await person.get("/me/keys")).json())


def replayed(answer: httpx.Response) -> bool:
    return answer.headers.get("idempotency-replayed") == "true"


class Hurdle:
    """Stands before or after making a key: `before` and `after` are what happens there."""

    def __init__(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        self.before: Callable[[], Awaitable[None]] = _nothing
        self.after: Callable[[], Awaitable[None]] = _nothing
        self.runs = 0
        for app in world.apps:
            if any(room.name == "identity" for room in app.rooms):
                keyring = app.identity.keyring
                monkeypatch.setattr(keyring, "make", self._around(keyring.make))

    def _around(self, real: Callable[..., Awaitable[MadeKey]]) -> Callable[..., Awaitable[MadeKey]]:
        async def hindered(*arguments: Any) -> MadeKey:
            self.runs += 1
            await self.before()
            made = await real(*arguments)
            await self.after()
            return made

        return hindered


async def _nothing() -> None: ...


async def _crash() -> None:
    raise Boom


async def _silence() -> None:
    raise Silent


@pytest.fixture
def hurdle(world: World, monkeypatch: pytest.MonkeyPatch) -> Hurdle:
    return Hurdle(world, monkeypatch)


@pytest.fixture
def power_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """What crashes has no time to tidy up after itself."""
    monkeypatch.setattr(Answers, "_let_go", lambda *_: _nothing())
    monkeypatch.setattr(Answers, "_lose", lambda *_: _nothing())


async def test_fifty_equal_requests_at_once_have_one_effect_and_fifty_equal_answers(world: World) -> None:
    ana = await world.sign_up("ana@example.com")
    told = await asyncio.gather(*(make(ana) for _ in range(EQUAL_REQUESTS)))
    assert {answer.status_code for answer in told} == {201}
    assert len({answer.text for answer in told}) == 1
    assert Counter(replayed(answer) for answer in told) == {False: 1, True: EQUAL_REQUESTS - 1}
    assert await keys(ana) == 1
    assert len(await world.recorded("ApiKeyMade", ana.id)) == 1
    ana.key = told[0].json()["key"]
    assert (await ana.get("/me")).status_code == 200


@pytest.fixture
async def replicas(tmp_path: Path, servers: Servers) -> AsyncIterator[World]:
    with servers.postgres_url() as url:
        shape = Shape(split=False, postgres=True, rabbit=False)
        async with installation(shape, tmp_path / "home", postgres_url=url, replicas=2) as world:
            yield world


@pytest.mark.needs("postgres")
async def test_fifty_equal_requests_over_two_replicas_have_one_effect(replicas: World) -> None:
    ana = await replicas.sign_up("ana@example.com")
    headers = KEY | {"Authorization": f"Bearer {ana.credential}"}

    async def ask(number: int) -> httpx.Response:
        transport = httpx.ASGITransport(replicas.apps[number % 2].asgi)
        async with httpx.AsyncClient(transport=transport, base_url="http://muelle") as client:
            return await client.post(f"{PREFIX}/me/keys", json=BODY, headers=headers)

    told = await asyncio.gather(*(ask(number) for number in range(EQUAL_REQUESTS)))
    assert {(answer.status_code, answer.text) for answer in told} == {(201, told[0].text)}
    assert await keys(ana) == 1


async def test_the_same_key_for_another_request_is_refused(one: World) -> None:
    ana = await one.sign_up("ana@example.com")
    assert (await make(ana)).status_code == 201
    others = [
        await make(ana, BODY | {"name": "another"}),
        await ana.post("/me/keys?x=1", BODY, headers=KEY),
        await ana.ask("PATCH", "/me", {"name": "Anna"}, headers=KEY),
    ]
    assert [(answer.status_code, answer.json()["code"]) for answer in others] == [(422, "key_used_before")] * 3
    assert await keys(ana) == 1
    assert (await make(ana)).status_code == 201  # which did the first one no harm


async def test_a_repetition_waits_for_the_first_and_not_for_ever(world: World, hurdle: Hurdle) -> None:
    ana = await world.sign_up("ana@example.com")
    gate = asyncio.Event()
    hurdle.before = gate.wait  # type: ignore[assignment]
    first = asyncio.create_task(make(ana))
    await eventually(lambda: hurdle.runs)
    second = asyncio.create_task(make(ana))
    await eventually(lambda: len(world.identity.rooms[0].furniture.answers._runs) == 2)
    world.clock.leap(seconds=WAIT_SECONDS + 1)
    late = await second
    assert (late.status_code, late.json()["code"]) == (409, "still_running")
    waiting = asyncio.create_task(make(ana))
    gate.set()
    assert (await first).text == (await waiting).text
    assert (hurdle.runs, await keys(ana)) == (1, 1)


async def test_a_failure_after_the_commit_is_told_and_never_repeated(world: World, hurdle: Hurdle) -> None:
    ana = await world.sign_up("ana@example.com")
    hurdle.after = _crash
    assert (await make(ana)).status_code == 500
    hurdle.after = _nothing
    for _ in range(2):
        again = await make(ana)
        assert (again.status_code, again.json()["code"]) == (409, "answer_lost")
    assert (hurdle.runs, await keys(ana)) == (1, 1)


@pytest.mark.usefixtures("power_cut")
async def test_a_power_cut_after_the_commit_is_told_and_never_repeated(world: World, hurdle: Hurdle) -> None:
    ana = await world.sign_up("ana@example.com")
    hurdle.after = _crash
    await make(ana)
    hurdle.after = _nothing
    world.clock.leap(seconds=LEASE_SECONDS + 1)
    again = await make(ana)
    assert (again.status_code, again.json()["code"]) == (409, "answer_lost")
    assert (hurdle.runs, await keys(ana)) == (1, 1)


async def test_a_failure_before_the_commit_leaves_the_key_free(world: World, hurdle: Hurdle) -> None:
    ana = await world.sign_up("ana@example.com")
    hurdle.before = _crash
    assert (await make(ana)).status_code == 500
    hurdle.before = _nothing
    again = await make(ana)
    assert (again.status_code, replayed(again)) == (201, False)
    assert await keys(ana) == 1


@pytest.mark.usefixtures("power_cut")
async def test_a_power_cut_before_the_commit_leaves_the_key_free_in_a_while(world: World, hurdle: Hurdle) -> None:
    ana = await world.sign_up("ana@example.com")
    hurdle.before = _crash
    await make(ana)
    hurdle.before = _nothing
    if world.shape.postgres:  # another replica may be at it
        world.clock.leap(seconds=LEASE_SECONDS + 1)
    assert (await make(ana)).status_code == 201
    assert await keys(ana) == 1


async def test_a_request_that_is_cut_off_leaves_the_key_free(world: World, hurdle: Hurdle) -> None:
    ana = await world.sign_up("ana@example.com")
    hurdle.before = asyncio.Event().wait  # type: ignore[assignment]
    first = asyncio.create_task(make(ana))
    await eventually(lambda: hurdle.runs)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    hurdle.before = _nothing
    assert (await make(ana)).status_code == 201


async def test_who_took_too_long_has_no_effect_beside_the_one_that_took_over(world: World, hurdle: Hurdle) -> None:
    ana = await world.sign_up("ana@example.com")
    gate = asyncio.Event()
    hurdle.before = gate.wait  # type: ignore[assignment]
    slow = asyncio.create_task(make(ana))
    await eventually(lambda: hurdle.runs)
    hurdle.before = _nothing
    world.clock.leap(seconds=LEASE_SECONDS + 1)
    quick = await make(ana)
    assert quick.status_code == 201
    gate.set()
    assert (await slow).json()["code"] == "still_running"
    assert await keys(ana) == 1
    assert (await make(ana)).text == quick.text


async def test_refusals_are_kept(one: World) -> None:
    ana = await one.sign_up("ana@example.com")
    body = BODY | {"scopes": ["money:print"]}
    first, again = await make(ana, body), await make(ana, body)
    assert (first.status_code, first.json()["code"], first.text) == (422, "unknown_scope", again.text)
    assert (replayed(first), replayed(again)) == (False, True)
    assert again.headers["content-type"] == first.headers["content-type"]


async def test_what_says_ask_again_is_not_kept(one: World) -> None:
    log_in = {"email": "ana@example.com", "password": PASSWORD}
    early = await one.ask("POST", "/auth/login", json=log_in, headers=KEY)
    assert (early.status_code, early.json()["code"]) == (401, "log_in_failed")
    await one.sign_up("ana@example.com")
    assert (await one.ask("POST", "/auth/login", json=log_in, headers=KEY)).status_code == 200


async def test_too_often_is_not_kept(one: World) -> None:
    wrong = {"email": "nobody@example.com", "password": PASSWORD}
    while (await one.ask("POST", "/auth/login", json=wrong)).status_code != 429:
        pass
    assert (await one.ask("POST", "/auth/login", json=wrong, headers=KEY)).status_code == 429
    one.clock.leap(hours=1)
    assert (await one.ask("POST", "/auth/login", json=wrong, headers=KEY)).status_code == 401


async def test_not_available_is_kept_only_where_something_was_done(world: World, hurdle: Hurdle) -> None:
    ana = await world.sign_up("ana@example.com")
    hurdle.before = _silence
    assert (await make(ana)).status_code == 503
    hurdle.before, hurdle.after = _nothing, _silence
    for _ in range(2):
        assert (await make(ana)).status_code == 503
    assert await keys(ana) == 1


async def test_everybody_has_keys_of_their_own(one: World) -> None:
    people = [await one.sign_up(f"{name}@example.com") for name in ("ana", "bob")]
    told = [(await make(person)).json()["key"] for person in people]
    assert told[0] != told[1]
    assert [await keys(person) for person in people] == [1, 1]


async def test_an_answer_without_a_body_is_repeated_as_it_was(one: World) -> None:
    ana = await one.sign_up("ana@example.com")
    id = (await make(ana)).json()["id"]
    other = {"Idempotency-Key": "another"}
    first, again = [await ana.delete(f"/me/keys/{id}", headers=other) for _ in range(2)]
    assert (first.status_code, first.content) == (again.status_code, again.content) == (204, b"")
    asked = [await one.ask("POST", "/auth/password/forgot", json={"email": "x@example.com"}, headers=KEY) for _ in "12"]
    assert [(answer.status_code, answer.content) for answer in asked] == [(202, b"")] * 2


async def test_what_only_reads_takes_no_notice_of_the_key(one: World) -> None:
    ana = await one.sign_up("ana@example.com")
    assert not (await ana.get("/me/keys", headers=KEY)).json()
    await make(ana)
    assert len((await ana.get("/me/keys", headers=KEY)).json()) == 1


async def test_a_kept_answer_is_only_for_who_may_still_ask(one: World) -> None:
    ana, root = await one.sign_up("ana@example.com"), await one.administrator()
    await make(ana)
    await root.post(f"/accounts/{ana.id}/suspend", {})
    assert (await make(ana)).status_code == 403
    await root.post(f"/accounts/{ana.id}/reinstate")
    assert replayed(await make(ana))
    await ana.post("/auth/logout")
    assert (await make(ana)).status_code == 401


async def test_answers_are_sealed_where_they_are_kept(world: World, tmp_path: Path) -> None:
    ana = await world.sign_up("ana@example.com")
    secret = (await make(ana)).json()["key"].rpartition("_")[2]
    async with world.identity.rooms[0].furniture.database.reading() as reader:
        row = await reader.first(select(answers))
    assert row is not None
    assert row.state == "answered"
    assert not any(secret.encode() in bytes(value) for value in row if isinstance(value, bytes))
    for file in tmp_path.rglob("*.db*"):
        assert secret.encode() not in file.read_bytes(), file


async def test_a_key_is_forgotten_after_a_day(one: World) -> None:
    ana = await one.sign_up("ana@example.com")
    assert (await make(ana)).status_code == 201
    one.clock.leap(hours=KEPT_HOURS - 1)
    ana = await one.log_in("ana@example.com")
    await one.identity.rooms[0].furniture.answers.cleaning.run_once()
    assert replayed(await make(ana))
    one.clock.leap(hours=2)
    ana = await one.log_in("ana@example.com")
    await one.identity.rooms[0].furniture.answers.cleaning.run_once()
    assert not replayed(await make(ana))
    assert await keys(ana) == 2


async def test_the_longest_key_there_may_be(one: World) -> None:
    ana = await one.sign_up("ana@example.com")
    longest = {"Idempotency-Key": "!~" * 127 + "x"}
    assert [(await make(ana, headers=longest)).status_code for _ in range(2)] == [201, 201]
    assert await keys(ana) == 1


@pytest.mark.usefixtures("power_cut")
@pytest.mark.parametrize("noted", [(Attempts, "count"), (LogIn, "_note_refusal")], ids=lambda noted: noted[1])
async def test_what_is_noted_beside_a_request_is_no_effect_of_it(
    one: World, monkeypatch: pytest.MonkeyPatch, noted: tuple[type, str]
) -> None:
    await one.sign_up("ana@example.com")
    wrong = {"email": "ana@example.com", "password": "not the one"}
    note = getattr(*noted)

    async def note_and_crash(*words: Any, **more: Any) -> None:
        await note(*words, **more)
        raise Boom

    with monkeypatch.context() as patch:
        patch.setattr(*noted, note_and_crash)
        assert (await one.nobody().post("/auth/login", wrong, headers=KEY)).status_code == 500
    one.clock.leap(seconds=LEASE_SECONDS + 1)
    again = await one.nobody().post("/auth/login", wrong, headers=KEY)
    assert (again.status_code, again.json()["code"]) == (401, "log_in_failed")


async def test_an_answer_that_cannot_be_kept_is_still_given(one: World, monkeypatch: pytest.MonkeyPatch) -> None:
    ana, hurdle = await one.sign_up("ana@example.com"), Hurdle(one, monkeypatch)

    def full() -> None:
        raise OSError("the disk is full")

    async def fill() -> None:
        monkeypatch.setattr(one.identity.rooms[0].furniture.database, "transaction", full)

    hurdle.after = fill
    assert (await make(ana)).status_code == 201
    monkeypatch.undo()
    again = await make(ana)
    assert (again.status_code, again.json()["code"]) == (409, "answer_lost")
