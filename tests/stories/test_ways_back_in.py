"""A forgotten password, a second factor, and an owner who finds a stranger in an account with their address."""

from __future__ import annotations

import asyncio
import base64

from muelle.identity import totp
from tests.identity.doors import code_of, key_of, try_log_in
from tests.world import World

NEW = "a better password"


async def test_a_forgotten_password_is_replaced_by_mail_and_everybody_is_logged_out(world: World) -> None:
    ana = await world.sign_up("ana@example.com")
    code = await world.letter_code("ana@example.com", "Confirm")
    assert (await ana.post("/auth/email/verify", {"token": code})).status_code == 204
    program = await key_of(ana)
    assert (await world.ask("POST", "/auth/password/forgot", json={"email": "Ana@example.com"})).status_code == 202
    code = await world.letter_code("ana@example.com", "password")
    body = {"token": code, "password": NEW}
    answers = await asyncio.gather(*(world.ask("POST", "/auth/password/reset", json=body) for _ in range(3)))
    assert sorted(answer.status_code for answer in answers) == [204, 422, 422]
    assert (await ana.get("/me")).status_code == 401
    assert (await program.get("/me")).status_code == 200  # a proven account's programs go on
    assert code_of(await try_log_in(world.identity, "ana@example.com")) == (401, "log_in_failed")
    assert (await world.log_in("ana@example.com", NEW)).id == ana.id
    assert len(await world.recorded("PasswordResetRequested", ana.id)) == 1
    (changed,) = await world.recorded("PasswordChanged", ana.id)
    assert changed.actor == ana.id


async def test_nothing_of_a_stranger_survives_the_owners_reset(world: World) -> None:
    stranger = await world.sign_up("ana@example.com", "the stranger's password")
    program = await key_of(stranger)
    session = await world.log_in("ana@example.com", "the stranger's password")
    setup = (await stranger.post("/me/second-factor")).json()
    turned_on = await stranger.post("/me/second-factor/confirm", {"code": present_code(world, setup["secret"])})
    recovery = turned_on.json()["recovery_codes"]

    await world.ask("POST", "/auth/password/forgot", json={"email": "ana@example.com"})
    code = await world.letter_code("ana@example.com", "password")
    assert (await world.ask("POST", "/auth/password/reset", json={"token": code, "password": NEW})).is_success

    ana = await world.log_in("ana@example.com", NEW)  # without the stranger's second factor
    assert ana.tokens["account"]["email_verified"] is True
    assert ana.tokens["account"]["second_factor"] is False
    for who in (stranger, program, session):
        assert (await who.get("/me")).status_code == 401
        token = {"refresh_token": who.tokens["refresh_token"]}
        assert (await world.ask("POST", "/auth/refresh", json=token)).status_code == 401
    for more in ({}, {"code": recovery[0]}):
        refused = await try_log_in(world.identity, "ana@example.com", "the stranger's password", **more)
        assert code_of(refused) == (401, "log_in_failed")
    assert (await ana.get("/me/keys")).json() == []
    assert len((await ana.get("/me/sessions")).json()) == 1
    (removed,) = await world.recorded("UnprovenAccessRemoved", ana.id)
    assert removed.actor == ana.id


async def test_one_code_lets_in_once_however_many_try(world: World) -> None:
    ana = await world.sign_up("ana@example.com")
    setup = (await ana.post("/me/second-factor")).json()
    code = present_code(world, setup["secret"])
    assert (await ana.post("/me/second-factor/confirm", {"code": code})).status_code == 200
    world.clock.leap(seconds=totp.STEP_SECONDS)
    code = present_code(world, setup["secret"])
    tries = await asyncio.gather(*(try_log_in(world.identity, "ana@example.com", code=code) for _ in range(4)))
    assert sorted(answer.status_code for answer in tries) == [200, 401, 401, 401]
    assert {code_of(answer)[1] for answer in tries if answer.status_code == 401} == {"second_factor_wrong"}
    assert code_of(await try_log_in(world.identity, "ana@example.com")) == (401, "second_factor_needed")


def present_code(world: World, shown: str) -> str:
    return totp.code_at(base64.b32decode(shown), totp.step_at(world.clock.now()))
