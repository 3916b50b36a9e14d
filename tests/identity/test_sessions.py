"""Sessions: refreshed, listed, closed."""

from __future__ import annotations

from tests.identity.doors import code_of, hold_still, try_log_in
from tests.stories.test_sessions import refresh
from tests.world import PASSWORD, Person, World

NEW = "a better password"


async def test_a_refresh_gives_new_tokens_and_keeps_the_session(one: World) -> None:
    ana = await one.sign_up("ana@example.com")
    session = (await ana.get("/me")).json()["session_id"]
    await one.log_in("ana@example.com")  # never used: it ends, and is not shown then
    token = ana.tokens["refresh_token"]
    seen = {token}
    for days in range(1, 30, 7):
        one.clock.leap(days=days)
        assert code_of(await ana.get("/me")) == (401, "token_expired")
        answer = await refresh(one, token)
        assert answer.status_code == 200
        ana = Person(one, ana.email, answer.json())
        token = ana.tokens["refresh_token"]
        seen.add(token)
        assert (await ana.get("/me")).json()["session_id"] == session
    assert len(seen) == 6
    assert [item["id"] for item in (await ana.get("/me/sessions")).json()] == [session]
    one.clock.leap(days=31)
    assert code_of(await refresh(one, token)) == (401, "token_expired")


async def test_an_access_token_is_not_remembered_for_longer_than_it_is_good(one: World) -> None:
    hold_still(one)
    ana = await one.sign_up("ana@example.com")
    one.clock.leap(seconds=ana.tokens["expires_in"] - 1.5)
    assert (await ana.get("/me")).status_code == 200
    one.clock.leap(seconds=1.5)
    assert code_of(await ana.get("/me")) == (401, "token_expired")


async def test_sessions_are_listed_and_closed_one_by_one_or_all_others(one: World) -> None:
    ana = await one.sign_up("ana@example.com")
    others = [await one.log_in("ana@example.com") for _ in range(3)]
    listed = (await ana.get("/me/sessions")).json()
    assert len(listed) == 4
    assert [item["current"] for item in listed].count(True) == 1
    assert {item["address"] for item in listed} == {"203.0.113.7"}
    ids = [(await other.get("/me")).json()["session_id"] for other in others]

    assert (await ana.delete(f"/me/sessions/{ids[0]}")).status_code == 204
    assert (await others[0].get("/me")).status_code == 401
    assert (await refresh(one, others[0].tokens["refresh_token"])).status_code == 401
    assert (await others[1].get("/me")).status_code == 200
    assert code_of(await ana.delete(f"/me/sessions/{ids[0]}")) == (404, "no_such_session")

    stranger = await one.sign_up("bea@example.com")
    assert code_of(await stranger.delete(f"/me/sessions/{ids[1]}")) == (404, "no_such_session")
    assert (await others[1].get("/me")).status_code == 200

    assert (await ana.delete("/me/sessions")).json() == {"revoked": 2}
    for other in others:
        assert (await other.get("/me")).status_code == 401
    assert (await ana.get("/me")).status_code == 200
    assert (await stranger.get("/me")).status_code == 200
    assert [item["current"] for item in (await ana.get("/me/sessions")).json()] == [True]
    await one.settled()
    assert len(await one.recorded("SessionsRevoked", ana.id)) == 2


async def test_a_password_change_leaves_only_this_session(one: World) -> None:
    ana = await one.sign_up("ana@example.com")
    elsewhere: Person = await one.log_in("ana@example.com")
    assert code_of(await ana.post("/me/password", {"password": NEW})) == (422, "password_needed")
    assert code_of(await ana.post("/me/password", {"present": "wrong", "password": NEW})) == (403, "password_wrong")
    assert (await elsewhere.get("/me")).status_code == 200
    assert (await ana.post("/me/password", {"present": PASSWORD, "password": NEW})).status_code == 204
    assert (await ana.get("/me")).status_code == 200
    assert (await elsewhere.get("/me")).status_code == 401
    token = {"refresh_token": elsewhere.tokens["refresh_token"]}
    assert (await one.ask("POST", "/auth/refresh", json=token)).status_code == 401
    assert (await try_log_in(one.identity, "ana@example.com")).status_code == 401
    assert (await one.log_in("ana@example.com", NEW)).id == ana.id
    (changed,) = await one.recorded("PasswordChanged", ana.id)
    assert changed.actor == ana.id
