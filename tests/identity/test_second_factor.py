"""The second factor, over HTTP: set up, used, lost, turned off."""

from __future__ import annotations

import base64

from muelle.identity import attempts, totp
from tests.identity.doors import code_of, hold_still, key_of, through, try_log_in
from tests.identity.provider import LittleProvider
from tests.world import PASSWORD, Person, World


class Authenticator:
    """A phone with the secret, whose clock may be off by some steps."""

    def __init__(self, world: World, setup: dict[str, str]) -> None:
        self._world = world
        self._secret = base64.b32decode(setup["secret"])

    def code(self, off: int = 0) -> str:
        return totp.code_at(self._secret, totp.step_at(self._world.clock.now()) + off)

    def wrong(self) -> str:
        near = {self.code(off) for off in range(-3, 4)}
        return next(f"{number:06d}" for number in range(10) if f"{number:06d}" not in near)

    def next(self) -> str:
        self._world.clock.leap(seconds=totp.STEP_SECONDS)
        return self.code()


async def turned_on(person: Person) -> tuple[Authenticator, list[str]]:
    phone = Authenticator(person.world, (await person.post("/me/second-factor")).json())
    answer = await person.post("/me/second-factor/confirm", {"code": phone.code()})
    assert answer.status_code == 200, answer.text
    return phone, answer.json()["recovery_codes"]


async def test_nothing_changes_before_a_code_is_confirmed(one: World) -> None:
    ana = await one.sign_up("ana@example.com")
    assert code_of(await ana.post("/me/second-factor/confirm", {"code": "123456"})) == (409, "second_factor_is_off")
    first = Authenticator(one, (await ana.post("/me/second-factor")).json())
    second = Authenticator(one, (await ana.post("/me/second-factor")).json())  # it was not scanned in time
    assert (await try_log_in(one.identity, "ana@example.com")).status_code == 200
    for code in (second.wrong(), first.code() if first.code() != second.code() else second.wrong()):
        assert code_of(await ana.post("/me/second-factor/confirm", {"code": code})) == (401, "second_factor_wrong")
    assert (await ana.get("/me/account")).json()["second_factor"] is False
    assert (await ana.post("/me/second-factor/confirm", {"code": second.code()})).status_code == 200
    assert (await ana.get("/me/account")).json()["second_factor"] is True
    assert code_of(await ana.post("/me/second-factor")) == (409, "second_factor_is_on")
    assert code_of(await ana.post("/me/second-factor/confirm", {"code": second.next()})) == (409, "second_factor_is_on")


async def test_a_log_in_then_needs_both(one: World) -> None:
    ana = await one.sign_up("ana@example.com")
    phone, _ = await turned_on(ana)
    assert code_of(await try_log_in(one.identity, "ana@example.com")) == (401, "second_factor_needed")
    assert code_of(await try_log_in(one.identity, "ana@example.com", code=phone.wrong())) == (
        401,
        "second_factor_wrong",
    )
    wrong = await try_log_in(one.identity, "ana@example.com", "not the password", code=phone.next())
    assert code_of(wrong) == (401, "log_in_failed")
    assert (await try_log_in(one.identity, "ana@example.com", code=phone.code())).status_code == 200  # was not spent
    assert (await ana.get("/me")).status_code == 200
    refused = await one.recorded("LogInRefused", ana.id)
    assert {entry.actor for entry in refused} == {"anonymous"}


async def test_the_code_that_confirmed_it_is_spent(one: World) -> None:
    ana = await one.sign_up("ana@example.com")
    phone, _ = await turned_on(ana)
    assert code_of(await try_log_in(one.identity, "ana@example.com", code=phone.code())) == (401, "second_factor_wrong")


async def test_each_step_lets_in_once_and_none_before_it(one: World) -> None:
    hold_still(one)
    phone, _ = await turned_on(await one.sign_up("ana@example.com"))
    one.clock.leap(minutes=5)

    async def status(off: int) -> int:
        return (await try_log_in(one.identity, "ana@example.com", code=phone.code(off))).status_code

    assert await status(-2) == 401
    assert await status(2) == 401
    assert await status(-1) == 200
    assert await status(-1) == 401
    assert await status(0) == 200
    assert await status(1) == 200
    assert [await status(off) for off in (-1, 0, 1)] == [401, 401, 401]
    one.clock.leap(minutes=5)
    assert await status(0) == 200


async def test_a_recovery_code_stands_in_once(one: World) -> None:
    ana = await one.sign_up("ana@example.com")
    phone, codes = await turned_on(ana)
    assert len(set(codes)) == totp.RECOVERY_CODES
    assert (await try_log_in(one.identity, "ana@example.com", code=codes[3])).status_code == 200
    assert code_of(await try_log_in(one.identity, "ana@example.com", code=codes[3])) == (401, "second_factor_wrong")
    assert (await try_log_in(one.identity, "ana@example.com", code=codes[4])).status_code == 200
    unknown = next(code for code in totp.make_recovery_codes() if code not in codes)
    assert code_of(await try_log_in(one.identity, "ana@example.com", code=unknown)) == (401, "second_factor_wrong")
    used = await one.recorded("RecoveryCodeUsed", ana.id)
    await one.settled()
    used = await one.recorded("RecoveryCodeUsed", ana.id)
    assert sorted(entry.details for entry in used) == [
        f'{{"account_id": "{ana.id}", "left": {left}}}' for left in (8, 9)
    ]
    assert {entry.actor for entry in used} == {ana.id}
    assert (await try_log_in(one.identity, "ana@example.com", code=phone.next())).status_code == 200


async def test_codes_of_somebody_else_are_worth_nothing(one: World) -> None:
    ana, bea = await one.sign_up("ana@example.com"), await one.sign_up("bea@example.com")
    phone, codes = await turned_on(ana)
    await turned_on(bea)
    for code in (phone.next(), codes[0]):
        assert code_of(await try_log_in(one.identity, "bea@example.com", code=code)) == (401, "second_factor_wrong")
    assert (await try_log_in(one.identity, "ana@example.com", code=codes[0])).status_code == 200


async def test_turning_it_off_takes_password_and_code(one: World) -> None:
    ana = await one.sign_up("ana@example.com")
    phone, codes = await turned_on(ana)
    ways = [
        ({"code": phone.next()}, (422, "password_needed")),
        ({"code": phone.code(), "password": "wrong"}, (403, "password_wrong")),
        ({"code": phone.wrong(), "password": PASSWORD}, (401, "second_factor_wrong")),
    ]
    for body, expected in ways:
        assert code_of(await ana.delete("/me/second-factor", body)) == expected
    assert (await ana.get("/me/account")).json()["second_factor"] is True
    assert (await ana.delete("/me/second-factor", {"code": phone.code(), "password": PASSWORD})).status_code == 204
    assert (await try_log_in(one.identity, "ana@example.com")).status_code == 200
    again = {"code": codes[0], "password": PASSWORD}
    assert code_of(await ana.delete("/me/second-factor", again)) == (409, "second_factor_is_off")
    another, fresh = await turned_on(ana)
    assert not set(fresh) & set(codes)
    assert code_of(await try_log_in(one.identity, "ana@example.com", code=codes[1])) == (401, "second_factor_wrong")
    assert (await try_log_in(one.identity, "ana@example.com", code=another.next())).status_code == 200


async def test_a_lost_phone_is_taken_off_with_a_recovery_code(one: World) -> None:
    ana = await one.sign_up("ana@example.com")
    _, codes = await turned_on(ana)
    answer = await ana.delete("/me/second-factor", {"code": codes[0], "password": PASSWORD})
    assert answer.status_code == 204
    assert (await try_log_in(one.identity, "ana@example.com")).status_code == 200


async def test_codes_cannot_be_guessed_by_trying(one: World) -> None:
    hold_still(one)
    ana = await one.sign_up("ana@example.com")
    phone, _ = await turned_on(ana)
    tries = [await try_log_in(one.identity, "ana@example.com", code=phone.wrong()) for _ in range(11)]
    assert [answer.status_code for answer in tries] == [401] * attempts.PER_PAIR.burst + [429]
    body = {"code": phone.wrong(), "password": PASSWORD}
    offs = [(await ana.delete("/me/second-factor", body)).status_code for _ in range(attempts.PER_ACCOUNT.burst)]
    assert offs == [401] * (attempts.PER_ACCOUNT.burst - 1) + [429]  # one was the code that confirmed it


async def test_a_code_looks_like_one(one: World) -> None:
    wide = "\uff11\uff12\uff13\uff14\uff15\uff16"
    for code in ("", "12345", "1234567", "12345a", "123 456", wide, "abcdef-ABCDEF", "123456\n"):
        answer = await try_log_in(one.identity, "ana@example.com", code=code)
        assert code_of(answer) == (422, "fields_invalid"), code


async def test_an_account_without_a_password_can_have_it_too(vouched_world: World, little: LittleProvider) -> None:
    ana = await through(vouched_world, little)
    phone, _ = await turned_on(ana)
    assert (await ana.delete("/me/second-factor", {"code": phone.next()})).status_code == 204


async def test_a_key_can_neither_set_it_up_nor_take_it_off(one: World) -> None:
    ana = await one.sign_up("ana@example.com")
    phone, _ = await turned_on(ana)
    key = await key_of(ana)
    body = {"code": phone.next(), "password": PASSWORD}
    assert code_of(await key.delete("/me/second-factor", body)) == (403, "session_only")
