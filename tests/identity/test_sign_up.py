"""Signing up: who may, with what, and what it can never give."""

from __future__ import annotations

import json
from pathlib import Path

import httpx

from tests.identity.doors import code_of, knowing_a_provider, through, with_id_token
from tests.identity.provider import LittleProvider
from tests.world import ONE, PASSWORD, World, installation


async def sign_up(world: World, **changes: object) -> httpx.Response:
    body = {"email": "ana@example.com", "password": PASSWORD, "name": "Ana"} | changes
    return await world.ask("POST", "/auth/signup", json=body)


async def test_who_signs_up_is_logged_in_as_a_client_whose_address_is_not_proved(one: World) -> None:
    answer = await sign_up(one)
    assert answer.status_code == 201
    account = answer.json()["account"]
    expected = {"role": "client", "state": "active", "email_verified": False, "second_factor": False, "name": "Ana"}
    assert expected.items() <= account.items()
    assert answer.headers["cache-control"] == "no-store"


async def test_the_right_address_alone_makes_nobody_an_administrator(tmp_path: Path) -> None:
    async with installation(ONE, tmp_path / "home", admin_emails="aaa@example.com,boss@example.com") as world:
        boss = await world.sign_up("Boss@Example.com")
        code = await world.letter_code("boss@example.com", "Confirm")
        assert (await boss.post("/auth/email/verify", {"token": code})).status_code == 204
        again = await world.log_in("boss@example.com")
        assert again.tokens["account"]["role"] == "client"
        assert again.tokens["account"]["email_verified"] is True
        assert code_of(await again.get("/accounts")) == (403, "administrators_only")


async def test_closed_means_closed(tmp_path: Path) -> None:
    async with installation(ONE, tmp_path / "home", signup="closed") as world:
        assert code_of(await sign_up(world)) == (403, "signup_closed")
        assert not await world.identity.identity.accounts.list(_page(), "ana", None, None)
        assert (await world.administrator()).tokens["account"]["role"] == "admin"


async def test_closed_also_holds_for_those_whom_a_provider_vouches_for(tmp_path: Path, little: LittleProvider) -> None:
    async with knowing_a_provider(tmp_path / "home", little) as world:
        known = await through(world, little, sub="bea-1", email="bea@example.com")
    settings = {"signup": "closed", "admin_emails": "boss@example.com"}
    async with knowing_a_provider(tmp_path / "home", little, **settings) as world:
        assert code_of(await with_id_token(world, little)) == (403, "signup_closed")
        assert (await through(world, little, sub="bea-1", email="bea@example.com")).id == known.id
        boss = await through(world, little, sub="boss-1", email="boss@example.com")  # named by the operator
        assert boss.tokens["account"]["role"] == "admin"


NONSENSE: list[dict[str, object]] = [
    {"email": "ana"},
    {"email": "ana@"},
    {"email": "a na@example.com"},
    {"email": "ana@exa\nmple.com"},
    {"email": "ana@example..com"},
    {"email": "ána@example.com"},
    {"email": "ana@exämple.com"},
    {"email": "ana\u200b@example.com"},
    {"email": "ana\0@example.com"},
    {"email": f"{'a' * 65}@example.com"},
    {"email": f"a@{'b' * 63}.{'b' * 63}.{'b' * 63}.{'b' * 63}"},
    {"email": None},
    {"email": ["ana@example.com"]},
    {"password": "1234567"},
    {"password": "x" * 257},
    {"password": "with\0nul in it"},
    {"password": 12345678},
    {"name": ""},
    {"name": " \t "},
    {"name": "A\nB"},
    {"name": "A\x1b[31m"},
    {"name": "x" * 201},
    {"role": "admin"},
    {"email_verified": True},
]


async def test_what_does_not_fit_is_refused_and_leaves_nothing(one: World) -> None:
    for changes in NONSENSE:
        answer = await sign_up(one, **changes)
        assert answer.status_code == 422, (changes, answer.text)
    assert len(await one.identity.identity.accounts.list(_page(), "", None, None)) == 1  # the first administrator


async def test_a_text_that_no_encoding_can_hold_is_refused(one: World) -> None:
    for field in ("password", "name", "email"):
        body = json.dumps(
            {"email": "ana@example.com", "password": PASSWORD, "name": "Ana"} | {field: "\ud800 and more"}
        )
        answer = await one.ask("POST", "/auth/signup", content=body.encode())
        assert answer.status_code == 422, answer.text


async def test_letters_that_only_look_alike_open_no_second_account(one: World) -> None:
    """The Kelvin sign is a plain k in lower case: were it another address, its owner would get the other's letters."""
    await one.sign_up("kim@example.com")
    answer = await sign_up(one, email="\u212aim@example.com")
    assert answer.status_code == 422
    assert len(await one.identity.identity.accounts.list(_page(), "im@example.com", None, None)) == 1


async def test_a_password_may_be_anything_that_can_be_typed(one: World) -> None:
    for number, password in enumerate(
        ["пароль от счёта", "🐙🐙🐙🐙🐙🐙🐙🐙", "        ", "x" * 256, "\"\\'; DROP TABLE"]
    ):
        await one.sign_up(f"ana{number}@example.com", password)
        await one.log_in(f"ana{number}@example.com", password)
        body = {"email": f"ana{number}@example.com", "password": password + " "}
        assert (await one.ask("POST", "/auth/login", json=body)).status_code in (401, 422)


def _page():  # type: ignore[no-untyped-def]
    from muelle.kit.http import Cursor

    return Cursor(None, 100)
