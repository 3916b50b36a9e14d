"""Sessions: refreshed, stolen, listed, closed."""

from __future__ import annotations

import asyncio

import httpx

from tests.identity.doors import code_of
from tests.world import Person, World


async def refresh(world: World, token: str) -> httpx.Response:
    return await world.ask("POST", "/auth/refresh", json={"refresh_token": token})


async def test_a_refresh_token_used_twice_closes_its_session_and_says_so(world: World) -> None:
    ana = await world.sign_up("ana@example.com")
    elsewhere = await world.log_in("ana@example.com")
    session = (await ana.get("/me")).json()["session_id"]
    first = await refresh(world, ana.tokens["refresh_token"])
    fresh = Person(world, ana.email, first.json())
    assert code_of(await refresh(world, ana.tokens["refresh_token"])) == (401, "refresh_reused")
    for who in (ana, fresh):
        assert (await who.get("/me")).status_code == 401
    assert code_of(await refresh(world, fresh.tokens["refresh_token"])) == (401, "token_invalid")
    assert (await elsewhere.get("/me")).status_code == 200
    assert (await refresh(world, elsewhere.tokens["refresh_token"])).status_code == 200
    (told,) = await world.recorded("RefreshTokenReused", ana.id)
    assert session in told.details
    assert told.actor == "anonymous"


async def test_of_two_refreshes_at_once_exactly_one_wins(world: World) -> None:
    ana = await world.sign_up("ana@example.com")
    token = ana.tokens["refresh_token"]
    answers = await asyncio.gather(*(refresh(world, token) for _ in range(2)))
    assert sorted(answer.status_code for answer in answers) == [200, 401]
    loser = next(answer for answer in answers if answer.status_code == 401)
    assert code_of(loser) == (401, "refresh_reused")
    assert (await ana.get("/me")).status_code == 401  # who was first cannot be told, so neither keeps it
    assert len(await world.recorded("RefreshTokenReused", ana.id)) == 1


async def test_a_log_out_ends_both_tokens_of_this_session_only(world: World) -> None:
    ana = await world.sign_up("ana@example.com")
    elsewhere = await world.log_in("ana@example.com")
    assert (await ana.post("/auth/logout")).status_code == 204
    assert code_of(await ana.get("/me")) == (401, "token_invalid")
    assert code_of(await refresh(world, ana.tokens["refresh_token"])) == (401, "token_invalid")
    assert (await elsewhere.get("/me")).status_code == 200
    assert len(await world.recorded("LoggedOut", ana.id)) == 1
