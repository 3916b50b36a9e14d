"""Codes by mail: what they are good for, for how long, and what a stranger learns from asking."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx
import pytest
from argon2 import PasswordHasher

from muelle.identity.passwords import Passwords
from tests.identity.doors import ELSEWHERE, code_of, door, hold_still, through, try_log_in
from tests.identity.provider import LittleProvider
from tests.identity.test_log_in import what_is_told
from tests.waiting import eventually
from tests.world import ONE, PASSWORD, Person, World, installation

NEW = "a better password"


async def forgot(world: World, email: str, address: str = "203.0.113.7") -> httpx.Response:
    async with door(world.identity, address) as client:
        return await client.post("/auth/password/forgot", json={"email": email})


async def reset(world: World, token: str, password: str = NEW) -> httpx.Response:
    return await world.ask("POST", "/auth/password/reset", json={"token": token, "password": password})


async def reset_code(world: World, email: str) -> str:
    """Asks for a code and waits for the letter with it."""
    before = len(world.postbox.to(email))
    assert (await forgot(world, email)).status_code == 202
    await eventually(lambda: len(world.postbox.to(email)) > before)
    return await world.letter_code(email, "password")


async def proved(world: World, email: str) -> Person:
    """Somebody who has confirmed their address."""
    person = await world.sign_up(email)
    code = await world.letter_code(email, "Confirm")
    assert (await person.post("/auth/email/verify", {"token": code})).status_code == 204
    return person


async def test_asking_tells_nothing_about_who_is_here(one: World) -> None:
    await one.sign_up("ana@example.com")
    told = [what_is_told(await forgot(one, email)) for email in ("ana@example.com", "nobody@example.com")]
    assert told[0] == told[1]
    assert told[0][0] == 202
    assert told[0][2] == {}
    await one.letter_code("ana@example.com", "password")
    assert not one.postbox.to("nobody@example.com")


async def test_a_code_works_for_an_hour(one: World) -> None:
    await one.sign_up("ana@example.com")
    code = await reset_code(one, "ana@example.com")
    one.clock.leap(minutes=59)
    assert (await reset(one, code)).status_code == 204
    code = await reset_code(one, "ana@example.com")
    one.clock.leap(minutes=61)
    assert code_of(await reset(one, code)) == (422, "link_spent")
    assert (await try_log_in(one.identity, "ana@example.com", NEW)).status_code == 200


async def test_a_code_works_once_and_a_refused_password_does_not_spend_it(one: World) -> None:
    await one.sign_up("ana@example.com")
    code = await reset_code(one, "ana@example.com")
    assert code_of(await reset(one, code, "short")) == (422, "fields_invalid")
    assert (await reset(one, code)).status_code == 204
    assert code_of(await reset(one, code, "a third password")) == (422, "link_spent")
    assert (await try_log_in(one.identity, "ana@example.com", NEW)).status_code == 200


async def test_a_new_letter_makes_the_old_one_worthless(one: World) -> None:
    await one.sign_up("ana@example.com")
    first = await reset_code(one, "ana@example.com")
    second = await reset_code(one, "ana@example.com")
    assert first != second
    assert code_of(await reset(one, first)) == (422, "link_spent")
    assert (await reset(one, second)).status_code == 204


async def test_a_changed_password_makes_a_letter_on_its_way_worthless(one: World) -> None:
    ana = await one.sign_up("ana@example.com")
    code = await reset_code(one, "ana@example.com")
    assert (await ana.post("/me/password", {"present": PASSWORD, "password": NEW})).status_code == 204
    assert code_of(await reset(one, code)) == (422, "link_spent")


async def test_a_code_is_for_its_purpose_alone(one: World) -> None:
    ana = await one.sign_up("ana@example.com")
    confirming = await one.letter_code("ana@example.com", "Confirm")
    resetting = await reset_code(one, "ana@example.com")
    assert code_of(await reset(one, confirming)) == (422, "link_spent")
    assert code_of(await ana.post("/auth/email/verify", {"token": resetting})) == (422, "link_spent")
    for token in (confirming, resetting):  # nor is it a way in by itself
        assert (await Person(one, "", key=token).get("/me")).status_code == 401
        assert (await one.ask("POST", "/auth/refresh", json={"refresh_token": token})).status_code == 401
    assert (await ana.post("/auth/email/verify", {"token": confirming})).status_code == 204
    assert (await reset(one, resetting)).status_code == 204


async def test_other_credentials_are_no_codes(one: World) -> None:
    ana = await one.sign_up("ana@example.com")
    for token in (ana.tokens["access_token"], ana.tokens["refresh_token"][:500], "x", "é"):
        assert (await reset(one, token)).status_code == 422
    assert (await try_log_in(one.identity, "ana@example.com")).status_code == 200


async def test_a_reset_is_no_way_round_the_second_factor(one: World) -> None:
    from tests.identity.test_second_factor import turned_on

    ana = await proved(one, "ana@example.com")
    phone, _ = await turned_on(ana)
    assert (await reset(one, await reset_code(one, "ana@example.com"))).status_code == 204
    assert code_of(await try_log_in(one.identity, "ana@example.com", NEW)) == (401, "second_factor_needed")
    assert (await try_log_in(one.identity, "ana@example.com", NEW, code=phone.next())).status_code == 200


async def test_nobody_can_be_buried_in_letters(one: World) -> None:
    """Neither by asking from everywhere, nor by opening an account with their address; whoever asks."""
    hold_still(one)
    ana = await one.sign_up("ana@example.com")
    for number in range(100):
        await forgot(one, "ana@example.com", f"198.51.100.{number}")
        await ana.post("/auth/email/send")
    await eventually(lambda: len(one.postbox.to("ana@example.com")) >= 11)
    await one.identity.identity.core.letters.loop.run_once()
    assert len(one.postbox.to("ana@example.com")) == 11
    told = [await forgot(one, email, ELSEWHERE) for email in ("ana@example.com", "nobody@example.com")]
    assert [answer.status_code for answer in told] == [429, 202]
    one.clock.leap(hours=1)
    assert (await forgot(one, "ana@example.com", ELSEWHERE)).status_code == 202


async def test_a_stranger_cannot_tell_who_is_here_from_the_limit_either(one: World) -> None:
    hold_still(one)
    await one.sign_up("ana@example.com")
    for email in ("ana@example.com", "nobody@example.com"):
        answers = [await forgot(one, email) for _ in range(12)]
        told = [(answer.status_code, answer.headers.get("retry-after")) for answer in answers]
        if email == "ana@example.com":
            expected = told
    assert [status for status, _ in told] == [status for status, _ in expected]
    assert told[-1][0] == 429


# Confirming an address


async def test_an_address_is_confirmed_with_session_and_code_together(one: World) -> None:
    ana, eve = await one.sign_up("ana@example.com"), await one.sign_up("eve@example.com")
    code = await one.letter_code("ana@example.com", "Confirm")
    assert (await one.nobody().post("/auth/email/verify", {"token": code})).status_code == 401
    assert code_of(await eve.post("/auth/email/verify", {"token": code})) == (422, "link_spent")
    assert (await eve.get("/me/account")).json()["email_verified"] is False
    assert code_of(await ana.post("/auth/email/verify", {"token": "x" * 43})) == (422, "link_spent")
    assert (await ana.post("/auth/email/verify", {"token": code})).status_code == 204  # Eve's try did not spend it
    assert (await ana.get("/me/account")).json()["email_verified"] is True
    assert code_of(await ana.post("/auth/email/verify", {"token": code})) == (422, "link_spent")
    (entry,) = await one.recorded("EmailVerified", ana.id)
    assert entry.actor == ana.id
    assert (await ana.get("/me")).status_code == 200  # who knew the password keeps everything


async def test_a_code_can_be_sent_once_more_until_the_address_is_confirmed(one: World) -> None:
    ana = await one.sign_up("ana@example.com")
    first = await one.letter_code("ana@example.com", "Confirm")
    assert (await ana.post("/auth/email/send")).status_code == 202
    await eventually(lambda: len(one.postbox.to("ana@example.com")) == 2)
    second = await one.letter_code("ana@example.com", "Confirm")
    assert code_of(await ana.post("/auth/email/verify", {"token": first})) == (422, "link_spent")
    one.clock.leap(hours=49)
    ana = await one.log_in("ana@example.com")
    assert code_of(await ana.post("/auth/email/verify", {"token": second})) == (422, "link_spent")
    assert (await ana.post("/auth/email/send")).status_code == 202
    await eventually(lambda: len(one.postbox.to("ana@example.com")) == 3)
    third = await one.letter_code("ana@example.com", "Confirm")
    assert (await ana.post("/auth/email/verify", {"token": third})).status_code == 204
    assert (await ana.post("/auth/email/send")).status_code == 202
    await one.identity.identity.core.letters.loop.run_once()
    assert len(one.postbox.to("ana@example.com")) == 3


async def test_a_proven_account_keeps_its_keys_and_name_when_the_password_is_reset(one: World) -> None:
    from tests.identity.doors import key_of

    ana = await proved(one, "ana@example.com")
    key = await key_of(ana)
    assert (await reset(one, await reset_code(one, "ana@example.com"))).status_code == 204
    assert (await key.get("/me")).status_code == 200
    assert (await ana.get("/me")).status_code == 401
    await one.settled()
    assert not await recorded_now(one, "UnprovenAccessRemoved", ana.id)


async def recorded_now(world: World, type: str, subject: str) -> list[object]:
    from muelle.kit.http import Cursor

    return list(await world.audit.audit.list(Cursor(None, 100), subject=subject, type=type))


# Changing it


async def test_an_account_that_never_had_a_password_gets_one(vouched_world: World, little: LittleProvider) -> None:
    ana = await through(vouched_world, little)
    assert (await ana.post("/me/password", {"password": NEW})).status_code == 204
    assert (await vouched_world.log_in("ana@example.com", NEW)).id == ana.id
    again = await ana.post("/me/password", {"password": "yet another one"})
    assert code_of(again) == (422, "password_needed")


class Interrupted(Passwords):
    """Real hashes; and something that happens meanwhile, since they take their time."""

    meanwhile: Callable[[], Awaitable[object]] | None = None

    async def verify(self, hash: str | None, password: str) -> bool:
        right = await super().verify(hash, password)
        if self.meanwhile is not None:
            meanwhile, self.meanwhile = self.meanwhile, None
            await meanwhile()
        return right


@pytest.fixture
def passwords() -> Interrupted:
    return Interrupted(PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))


async def test_a_reset_wins_over_whoever_is_just_using_the_old_password(tmp_path: Path, passwords: Interrupted) -> None:
    async with installation(ONE, tmp_path / "home", passwords=passwords) as world:
        thief = await proved(world, "ana@example.com")

        async def the_owner_resets() -> None:
            assert (await reset(world, await reset_code(world, "ana@example.com"))).status_code == 204

        passwords.meanwhile = the_owner_resets
        late = await thief.post("/me/password", {"present": PASSWORD, "password": "the thief's password"})
        assert late.status_code in (401, 403)
        assert (await try_log_in(world.identity, "ana@example.com", "the thief's password")).status_code == 401

        ana = await world.log_in("ana@example.com", NEW)
        passwords.meanwhile = the_owner_resets
        late = await try_log_in(world.identity, "ana@example.com", NEW)
        assert code_of(late) == (401, "log_in_failed")
        assert (await ana.get("/me")).status_code == 401

        ana = await world.log_in("ana@example.com", NEW)
        passwords.meanwhile = lambda: ana.post("/me/password", {"present": NEW, "password": "the faster one"})
        late = await ana.post("/me/password", {"present": NEW, "password": "the slower one"})
        assert code_of(late) == (403, "password_wrong")

        thief = await world.log_in("ana@example.com", "the faster one")
        passwords.meanwhile = the_owner_resets
        assert (await thief.delete("/me", {"password": "the faster one"})).status_code in (401, 403)
        assert (await world.log_in("ana@example.com", NEW)).id == ana.id
