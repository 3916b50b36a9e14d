"""Sessions: refreshed, stolen, listed, closed."""

from __future__ import annotations

import asyncio

import httpx
from tests.identity.doors import code_of
from tests.world import Person, World


async def refresh(world: World, token: str) -> httpx.Response:
    return await world.ask("POST", "/auth/refresh", json={"refresh_token": token})


async def test_a_refresh_gives_new_tokens_and_keeps_the_session(world: World) -> None:
    ana = await world.sign_up("ana@example.com")
    session = (await ana.get("/me")).json()["session_id"]
    token = ana.tokens["refresh_token"]
    seen = {token}
    for days in range(1, 30, 7):
        world.clock.leap(days=days)
        assert code_of(await ana.get("/me")) == (401, "token_expired")
        answer = await refresh(world, token)
        assert answer.status_code == 200
        ana = Person(world, ana.email, answer.json())
        token = ana.tokens["refresh_token"]
        seen.add(token)
        assert (await ana.get("/me")).json()["session_id"] == session
    assert len(seen) == 6
    world.clock.leap(days=31)
    assert code_of(await refresh(world, token)) == (401, "token_expired")


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


async def test_sessions_are_listed_and_closed_one_by_one_or_all_others(world: World) -> None:
    ana = await world.sign_up("ana@example.com")
    others = [await world.log_in("ana@example.com") for _ in range(3)]
    listed = (await ana.get("/me/sessions")).json()
    assert len(listed) == 4
    assert [item["current"] for item in listed].count(True) == 1
    assert {item["address"] for item in listed} == {"203.0.113.7"}
    ids = [(await other.get("/me")).json()["session_id"] for other in others]

    assert (await ana.delete(f"/me/sessions/{ids[0]}")).status_code == 204
    assert (await others[0].get("/me")).status_code == 401
    assert (await refresh(world, others[0].tokens["refresh_token"])).status_code == 401
    assert (await others[1].get("/me")).status_code == 200
    assert code_of(await ana.delete(f"/me/sessions/{ids[0]}")) == (404, "no_such_session")

    stranger = await world.sign_up("bea@example.com")
    assert code_of(await stranger.delete(f"/me/sessions/{ids[1]}")) == (404, "no_such_session")
    assert (await others[1].get("/me")).status_code == 200

    assert (await ana.delete("/me/sessions")).json() == {"revoked": 2}
    for other in others:
        assert (await other.get("/me")).status_code == 401
    assert (await ana.get("/me")).status_code == 200
    assert (await stranger.get("/me")).status_code == 200
    assert [item["current"] for item in (await ana.get("/me/sessions")).json()] == [True]
    await world.settled()
    assert len(await world.recorded("SessionsRevoked", ana.id)) == 2
