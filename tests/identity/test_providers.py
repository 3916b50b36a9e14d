"""Logging in through a provider, over HTTP: with an ID token, and from a browser there and back."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from muelle.identity.browser_log_in import ROUND_TRIP_SECONDS
from muelle.kit.ids import new_id
from muelle.kit.vault import Vault
from tests.identity.doors import code_of, door, key_of, knowing_a_provider, through, try_log_in, with_id_token
from tests.identity.provider import LittleProvider, twisted
from tests.identity.test_second_factor import turned_on
from tests.world import ONE, Person, World, installation


async def test_whom_the_provider_vouches_for_gets_a_proven_account(
    vouched_world: World, little: LittleProvider
) -> None:
    listed = (await vouched_world.ask("GET", "/auth/providers")).json()
    assert listed == {"providers": ["little", "other"], "mock": False}
    ana = await through(vouched_world, little)
    account = ana.tokens["account"]
    expected = {"email": "ana@example.com", "name": "Ana", "role": "client", "email_verified": True}
    assert expected.items() <= account.items()
    assert (await ana.get("/me/sessions")).json()[0]["by"] == "little"
    again = await through(vouched_world, little)
    assert again.id == ana.id
    assert len(await vouched_world.recorded("ProviderLinked", ana.id)) == 1
    assert not vouched_world.postbox.mails  # nothing to confirm


async def test_a_person_is_known_by_subject_when_their_address_changes(
    vouched_world: World, little: LittleProvider
) -> None:
    ana = await through(vouched_world, little)
    moved = await through(vouched_world, little, email="ana@elsewhere.example")
    assert moved.id == ana.id
    assert moved.tokens["account"]["email"] == "ana@example.com"
    another = await through(vouched_world, little, sub="ana-2", email="ana@elsewhere.example")
    assert another.id != ana.id


async def test_spelling_makes_no_other_person(vouched_world: World, little: LittleProvider) -> None:
    ana = await vouched_world.sign_up("kim@example.com")
    same = await through(vouched_world, little, sub="kim", email="KIM@Example.COM")
    assert same.id == ana.id
    kelvin = await through(vouched_world, little, sub="kelvin", email="\u212aim@example.com")
    assert kelvin.id != ana.id


async def test_what_the_provider_does_not_vouch_for_lets_nobody_in(
    vouched_world: World, little: LittleProvider
) -> None:
    await vouched_world.sign_up("ana@example.com")
    for claims in ({"email_verified": False}, {"email_verified": None}, {"email_verified": "false"}):
        assert code_of(await with_id_token(vouched_world, little, **claims)) == (403, "email_unproven")
    refused = [
        {"aud": "another client"},
        {"iss": "https://evil.example"},
        {"exp": 1},
        {"email": None},
        {"sub": None},
    ]
    for claims in refused:
        assert code_of(await with_id_token(vouched_world, little, **claims)) == (403, "token_not_vouched")
    forged = twisted(little.id_token(), email="root@example.com")
    for token in (forged, "x.y.z", "é"):
        body = {"id_token": token}
        answer = await vouched_world.ask("POST", "/auth/providers/little/token", json=body)
        assert answer.status_code in (403, 422)
    body = {"id_token": little.id_token()}
    assert code_of(await vouched_world.ask("POST", "/auth/providers/nobody/token", json=body)) == (
        404,
        "no_such_provider",
    )
    body = {"id_token": little.id_token(nonce="n-1"), "nonce": "n-2"}
    assert code_of(await vouched_world.ask("POST", "/auth/providers/little/token", json=body))[0] == 403


async def test_our_own_tokens_and_theirs_are_not_mixed_up(vouched_world: World, little: LittleProvider) -> None:
    ana = await through(vouched_world, little)
    theirs = Person(vouched_world, "", key=little.id_token())
    assert code_of(await theirs.get("/me")) == (401, "token_invalid")
    body = {"id_token": ana.tokens["access_token"]}
    assert code_of(await vouched_world.ask("POST", "/auth/providers/little/token", json=body)) == (
        403,
        "token_not_vouched",
    )


async def test_without_providers_there_is_none(one: World) -> None:
    assert (await one.ask("GET", "/auth/providers")).json() == {"providers": [], "mock": False}
    assert code_of(await one.ask("GET", "/auth/providers/google/start")) == (404, "no_such_provider")
    answer = await one.ask("GET", "/auth/providers/google/callback?code=c&state=s")
    assert code_of(answer) == (404, "no_such_provider")


async def test_a_very_long_address_gives_a_name_that_can_be_kept(vouched_world: World, little: LittleProvider) -> None:
    long = await through(vouched_world, little, sub="long", name=None, email=f"{'x' * 240}@example.com")
    assert long.tokens["account"]["name"] == "x" * 200


async def test_nothing_of_a_stranger_survives_the_owners_first_vouched_log_in(
    vouched_world: World, little: LittleProvider
) -> None:
    world = vouched_world
    stranger = await world.sign_up("ana@example.com", "the stranger's password")
    program = await key_of(stranger)
    session = await world.log_in("ana@example.com", "the stranger's password")
    _, recovery = await turned_on(stranger)
    await world.ask("POST", "/auth/password/forgot", json={"email": "ana@example.com"})
    letter = await world.letter_code("ana@example.com", "password")

    ana = await through(world, little)
    assert ana.id == stranger.id
    account = ana.tokens["account"]
    assert (account["email_verified"], account["second_factor"]) == (True, False)
    for who in (stranger, program, session):
        assert (await who.get("/me")).status_code == 401
        token = {"refresh_token": who.tokens["refresh_token"]}
        assert (await world.ask("POST", "/auth/refresh", json=token)).status_code == 401
    for more in ({}, {"code": recovery[0]}):
        refused = await try_log_in(world.identity, "ana@example.com", "the stranger's password", **more)
        assert code_of(refused) == (401, "log_in_failed")
    body = {"token": letter, "password": "another password"}
    assert code_of(await world.ask("POST", "/auth/password/reset", json=body)) == (422, "link_spent")
    assert (await ana.get("/me/keys")).json() == []
    assert len((await ana.get("/me/sessions")).json()) == 1
    (removed,) = await world.recorded("UnprovenAccessRemoved", ana.id)
    assert removed.actor == ana.id
    assert (await ana.post("/me/password", {"password": "Ana's own password"})).status_code == 204


async def test_a_proven_account_keeps_everything_when_a_provider_is_added(
    vouched_world: World, little: LittleProvider
) -> None:
    ana = await vouched_world.sign_up("ana@example.com")
    code = await vouched_world.letter_code("ana@example.com", "Confirm")
    assert (await ana.post("/auth/email/verify", {"token": code})).status_code == 204
    key = await key_of(ana)
    same = await through(vouched_world, little)
    assert same.id == ana.id
    for who in (ana, key):
        assert (await who.get("/me")).status_code == 200
    assert (await vouched_world.log_in("ana@example.com")).id == ana.id


async def test_a_deleted_persons_link_leads_to_a_new_account(vouched_world: World, little: LittleProvider) -> None:
    ana = await through(vouched_world, little)
    assert (await ana.delete("/me", {})).status_code == 204  # no password to ask for
    again = await through(vouched_world, little)
    assert again.id != ana.id


# The administrators' list


async def test_the_list_gives_and_takes_back_only_what_it_gave(tmp_path: Path, little: LittleProvider) -> None:
    home = tmp_path / "home"
    async with knowing_a_provider(
        home, little, admin_emails="aaa@example.com,ana@example.com,BEA@example.com"
    ) as world:
        bea = await through(world, little, sub="bea-1", email="Bea@example.com")
        ana = await through(world, little)
        assert [who.tokens["account"]["role"] for who in (ana, bea)] == ["admin", "admin"]
        eva = await through(world, little, sub="eva-1", email="eva@example.com")
        assert (await bea.ask("PUT", f"/accounts/{eva.id}/role", {"role": "admin"})).status_code == 200
        (told,) = await world.recorded("RoleChanged", ana.id)
        assert (told.actor, '"why": "list"' in told.details) == (ana.id, True)
    async with knowing_a_provider(home, little, admin_emails="bea@example.com") as world:
        again = await through(world, little)
        assert again.tokens["account"]["role"] == "client"
        assert code_of(await again.get("/accounts")) == (403, "administrators_only")
        assert (await through(world, little, sub="bea-1", email="bea@example.com")).tokens["account"]["role"] == "admin"
        assert (await through(world, little, sub="eva-1", email="eva@example.com")).tokens["account"]["role"] == "admin"


async def test_an_address_on_the_list_has_to_be_vouched_for_at_this_log_in(
    tmp_path: Path, little: LittleProvider
) -> None:
    """Whoever was once vouched for as boss@ and now has another address is not on the list any more."""
    async with knowing_a_provider(tmp_path / "home", little, admin_emails="aaa@example.com,boss@example.com") as world:
        boss = await through(world, little, sub="b", email="boss@example.com")
        assert boss.tokens["account"]["role"] == "admin"
        moved = await through(world, little, sub="b", email="retired@example.com")
        assert (moved.id, moved.tokens["account"]["role"]) == (boss.id, "client")
        ana = await through(world, little)
        posing = await through(world, little, email="boss@example.com")
        assert (posing.id, posing.tokens["account"]["role"]) == (ana.id, "client")


# From a browser


@pytest.fixture
async def browser(vouched_world: World) -> AsyncIterator[httpx.AsyncClient]:
    async with door(vouched_world.identity) as client:
        yield client


async def go(browser: httpx.AsyncClient, little: LittleProvider, provider: str = "little") -> dict[str, str]:
    """Starts, goes to the provider, and returns what the browser is sent back with."""
    started = await browser.get(f"/auth/providers/{provider}/start")
    assert started.status_code == 302
    return await little.sign_in(started.headers["location"])


async def come_back(browser: httpx.AsyncClient, back: dict[str, str], provider: str = "little") -> httpx.Response:
    return await browser.get(f"/auth/providers/{provider}/callback", params=back)


async def test_there_and_back(browser: httpx.AsyncClient, vouched_world: World, little: LittleProvider) -> None:
    started = await browser.get("/auth/providers/little/start")
    target = urlsplit(started.headers["location"])
    query = {name: values[0] for name, values in parse_qs(target.query).items()}
    assert f"{target.scheme}://{target.netloc}{target.path}" == "https://little.example/authorize"
    assert query["redirect_uri"] == "http://127.0.0.1:7070/api/v1/auth/providers/little/callback"
    assert query["code_challenge_method"] == "S256"
    cookie = started.headers["set-cookie"]
    for part in ("HttpOnly", "SameSite=lax", f"Max-Age={ROUND_TRIP_SECONDS}"):
        assert part in cookie
    assert "Domain" not in cookie
    assert query["state"] not in cookie
    assert query["nonce"] not in cookie

    answer = await come_back(browser, await little.sign_in(started.headers["location"]))
    assert answer.status_code == 200
    ana = Person(vouched_world, "ana@example.com", answer.json())
    assert (await ana.get("/me")).json()["email"] == "ana@example.com"
    assert not browser.cookies
    assert answer.headers["referrer-policy"] == "no-referrer"  # the address holds a code


async def test_behind_https_the_cookie_can_neither_leak_nor_be_planted(tmp_path: Path, little: LittleProvider) -> None:
    """`__Host-`: no page on another host of the same domain (a client's own app, say) can set it for us."""
    settings = {"public_url": "https://cloud.example.com"}
    async with knowing_a_provider(tmp_path / "home", little, **settings) as world, door(world.identity) as browser:
        browser.base_url = httpx.URL("https://cloud.example.com/api/v1")
        started = await browser.get("/auth/providers/little/start")
        cookie = started.headers["set-cookie"]
        assert cookie.startswith("__Host-")
        assert "; Secure" in cookie
        assert "Path=/;" in cookie
        assert "Domain" not in cookie
        back = await little.sign_in(started.headers["location"])
        ((name, value),) = browser.cookies.items()
        browser.cookies.clear()
        browser.cookies.set(name.removeprefix("__Host-"), value)  # as a page elsewhere could plant it
        assert code_of(await come_back(browser, back)) == (422, "link_spent")
        browser.cookies.clear()
        browser.cookies.set(name, value)
        assert (await come_back(browser, back)).status_code == 200


async def test_a_forged_state_is_refused(browser: httpx.AsyncClient, little: LittleProvider) -> None:
    back = await go(browser, little)
    for state in ("forged", back["state"][:-1], back["state"] + "x"):
        assert code_of(await come_back(browser, back | {"state": state})) == (422, "link_spent")
    assert (await come_back(browser, back)).status_code == 200


async def test_a_link_that_somebody_else_prepared_is_refused(
    browser: httpx.AsyncClient, vouched_world: World, little: LittleProvider
) -> None:
    """Else a victim who clicks it would work in the attacker's account."""
    prepared = await go(browser, little)
    async with door(vouched_world.identity) as victim:
        assert code_of(await come_back(victim, prepared)) == (422, "link_spent")
        await go(victim, little)  # now with a cookie of their own
        assert code_of(await come_back(victim, prepared)) == (422, "link_spent")


async def test_a_round_trip_has_to_end_in_time(
    browser: httpx.AsyncClient, vouched_world: World, little: LittleProvider
) -> None:
    back = await go(browser, little)
    kept = dict(browser.cookies)
    vouched_world.clock.leap(seconds=ROUND_TRIP_SECONDS + 1)
    async with door(vouched_world.identity) as later:  # a browser that keeps cookies for longer than it should
        later.cookies.update(kept)
        assert code_of(await come_back(later, back)) == (422, "link_spent")


async def test_a_round_trip_is_for_one_provider_and_works_once(
    browser: httpx.AsyncClient, vouched_world: World, little: LittleProvider
) -> None:
    back = await go(browser, little)
    kept = dict(browser.cookies)
    assert code_of(await come_back(browser, back, "other")) == (422, "link_spent")
    assert (await come_back(browser, back)).status_code == 200
    async with door(vouched_world.identity) as again:
        again.cookies.update(kept)
        assert code_of(await come_back(again, back)) == (403, "token_not_vouched")


async def test_a_cookie_that_we_did_not_bake_is_refused(browser: httpx.AsyncClient, little: LittleProvider) -> None:
    back = await go(browser, little)
    ((name, good),) = browser.cookies.items()
    elsewhere = Vault(b"another master key").seal("provider round trips", b"[]")
    for cookie in ("", "x", "AAAA", "%%%", good[:-4], base64.urlsafe_b64encode(elsewhere).decode()):
        browser.cookies.clear()
        browser.cookies.set(name, cookie)
        assert code_of(await come_back(browser, back)) == (422, "link_spent"), cookie


async def test_an_id_token_of_another_round_trip_is_refused(browser: httpx.AsyncClient, little: LittleProvider) -> None:
    back = await go(browser, little)
    little.lies = {"nonce": "that of another round trip"}
    assert code_of(await come_back(browser, back)) == (403, "token_not_vouched")


async def test_an_unproven_address_is_refused_here_too(
    browser: httpx.AsyncClient, vouched_world: World, little: LittleProvider
) -> None:
    await vouched_world.sign_up("ana@example.com")
    little.person["email_verified"] = False
    assert code_of(await come_back(browser, await go(browser, little))) == (403, "email_unproven")


async def test_who_is_already_suspended_may_look_but_not_change(vouched_world: World, little: LittleProvider) -> None:
    ana = await through(vouched_world, little)
    root = await vouched_world.administrator()
    await root.post(f"/accounts/{ana.id}/suspend", {})
    again = await through(vouched_world, little)
    assert again.tokens["account"]["state"] == "suspended"
    assert code_of(await again.ask("PATCH", "/me", {"name": "New"})) == (403, "account_suspended")


# Mock log-in


async def test_mock_log_in_does_not_exist_in_production(one: World) -> None:
    answer = await one.ask("POST", "/auth/mock", json={"email": "ana@example.com"})
    assert code_of(answer) == (404, "no_such_route")
    assert "/auth/mock" not in (await one.ask("GET", "/openapi.json")).text
    assert (await one.ask("GET", "/auth/providers")).json()["mock"] is False
    assert "/api/v1/auth/mock" not in {getattr(route, "path", "") for route in one.identity.api.routes}


async def test_in_development_anybody_is_who_they_say(tmp_path: Path) -> None:
    settings = {"profile": "development", "admin_emails": "boss@example.com"}
    async with installation(ONE, tmp_path / "home", **settings) as world:
        answers = [
            await world.ask("POST", "/auth/mock", json={"email": email})
            for email in ("Ana@example.com", "ana@example.com", "boss@example.com")
        ]
        ana, again, boss = (answer.json()["account"] for answer in answers)
        assert ana["id"] == again["id"]
        assert (ana["role"], boss["role"]) == ("client", "admin")
        assert (await world.ask("GET", "/auth/providers")).json()["mock"] is True


# Two replicas


async def test_first_log_ins_at_the_same_time_open_one_account(twins: World) -> None:
    from muelle.identity.oidc.model import Vouched

    for round_ in range(4):
        await twins.sign_up(f"known{round_}@example.com")
        for name in ("known", "new"):
            vouched = Vouched("https://little.example", new_id(), f"{name}{round_}@example.com", email_verified=True)
            verbs = [app.identity.log_in for app in twins.apps for _ in range(3)]
            found: list[Any] = await asyncio.gather(*(verb.vouched("little", vouched, "") for verb in verbs))
            assert len({logged_in.account.id for logged_in in found}) == 1
            assert {logged_in.account.email_verified for logged_in in found} == {True}
            account_id = found[0].account.id
            assert len(await twins.recorded("ProviderLinked", account_id)) == 1
