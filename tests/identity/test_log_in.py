"""Logging in with a password: what a guesser learns, how often they may guess, and that owners are not locked out."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from statistics import median
from typing import Any

import httpx
import pytest
from argon2 import PasswordHasher
from sqlalchemy import text

from muelle.identity import attempts, store
from muelle.identity.model import PasswordTooShort
from muelle.identity.passwords import Passwords
from muelle.kit.db import SlowCallInTransaction
from muelle.kit.db.guard import transaction_section
from tests.identity.doors import ELSEWHERE, code_of, door, hold_still, quick_passwords, through, try_log_in
from tests.identity.provider import LittleProvider
from tests.world import ONE, PASSWORD, World, installation

WRONG = "not the password"


def what_is_told(answer: httpx.Response) -> tuple[int, dict[str, str], dict[str, str]]:
    """Everything in an answer but what differs between any two."""
    headers = {name: value for name, value in answer.headers.items() if name != "x-request-id"}
    body = {name: value for name, value in (answer.json() if answer.content else {}).items() if name != "request_id"}
    return answer.status_code, headers, body


async def test_a_wrong_password_and_an_unknown_address_are_told_alike(
    vouched_world: World, little: LittleProvider
) -> None:
    app = vouched_world.identity
    await vouched_world.sign_up("bea@example.com")
    await through(vouched_world, little)  # Ana has no password at all
    told = [what_is_told(await try_log_in(app, email, WRONG)) for email in ("bea@example.com", "no@example.com")]
    told.append(what_is_told(await try_log_in(app, "ana@example.com", WRONG)))
    assert told[0][0] == 401
    assert told[0] == told[1] == told[2]


async def test_the_password_that_nobody_has_is_nobodys(one: World) -> None:
    """What an unknown address is compared with must not let anybody in."""
    assert (await try_log_in(one.identity, "no@example.com", "a password that nobody has")).status_code == 401
    assert not await quick_passwords().verify(None, "a password that nobody has")


async def medians(
    world: World, rounds: int, questions: list[Callable[[int], Awaitable[Any]]], seconds: float
) -> list[float]:
    """The median time of each question, asked in turns so that a busy machine slows all of them alike."""
    took: list[list[float]] = [[] for _ in questions]
    for number in range(rounds):
        world.clock.leap(seconds=seconds)  # so that no limit is met
        for times, question in zip(took, questions, strict=True):
            began = time.perf_counter()
            await question(number)
            times.append(time.perf_counter() - began)
    return [median(times) for times in took]


async def test_the_time_it_takes_tells_nothing(tmp_path: Path) -> None:
    async with installation(ONE, tmp_path / "home", passwords=Passwords()) as world:
        await world.sign_up("ana@example.com")
        await try_log_in(world.identity, "no@example.com")

        def guess(email: str) -> Callable[[int], Awaitable[Any]]:
            return lambda number: try_log_in(world.identity, email, f"{WRONG} {number}")

        known, unknown = await medians(world, 9, [guess("ana@example.com"), guess("no@example.com")], 600)
    assert 0.7 <= known / unknown <= 1.4
    assert unknown > 0.01  # argon2 was really asked


async def test_an_unknown_address_costs_a_write_like_a_known_one(one: World) -> None:
    """A refusal is noted on the disk, which takes its time: also where there is nobody to note it for."""
    await one.sign_up("ana@example.com")
    await one.settled()

    def ask(path: str, body: dict[str, str]) -> Callable[[int], Awaitable[Any]]:
        return lambda _: one.ask("POST", path, json=body)

    log_ins = [
        ask("/auth/login", {"email": email, "password": WRONG}) for email in ("ana@example.com", "no@example.com")
    ]
    forgotten = [ask("/auth/password/forgot", {"email": email}) for email in ("ana@example.com", "no@example.com")]
    assert await writes(one, log_ins[0]) == await writes(one, log_ins[1])
    assert await writes(one, forgotten[0]) == await writes(one, forgotten[1])


async def writes(world: World, question: Callable[[int], Awaitable[Any]]) -> int:
    """How many transactions of a question, by themselves, change anything."""
    count = 0
    database = world.identity.identity.core.database
    transaction = database.transaction
    from contextlib import asynccontextmanager

    @asynccontextmanager
    async def counted():  # type: ignore[no-untyped-def]
        nonlocal count
        async with transaction() as tx:
            before = await tx.scalar(text("SELECT total_changes()"))
            yield tx
            count += await tx.scalar(text("SELECT total_changes()")) > before

    task = asyncio.current_task()
    database.transaction = lambda: counted() if asyncio.current_task() is task else transaction()  # type: ignore[method-assign]
    try:
        await question(0)
    finally:
        database.transaction = transaction  # type: ignore[method-assign]
    return count


# How often one may try


async def test_ten_tries_at_once_and_then_one_each_half_minute(one: World) -> None:
    hold_still(one)
    await one.sign_up("ana@example.com")
    for _ in range(attempts.PER_PAIR.burst):
        assert (await try_log_in(one.identity, "ana@example.com", WRONG)).status_code == 401
    refused = await try_log_in(one.identity, "ana@example.com")  # not even with the right one
    assert code_of(refused) == (429, "too_many_attempts")
    seconds = int(refused.headers["retry-after"])
    assert 25 <= seconds <= 30
    one.clock.leap(seconds=seconds)
    assert (await try_log_in(one.identity, "ana@example.com", WRONG)).status_code == 401
    assert (await try_log_in(one.identity, "ana@example.com", WRONG)).status_code == 429
    one.clock.leap(seconds=30)
    assert (await try_log_in(one.identity, "ANA@example.com")).status_code == 200


async def test_an_unknown_address_is_limited_just_the_same(one: World) -> None:
    hold_still(one)
    statuses = [(await try_log_in(one.identity, "no@example.com", WRONG)).status_code for _ in range(12)]
    assert statuses == [401] * attempts.PER_PAIR.burst + [429] * 2


async def test_getting_it_right_forgives_what_went_before(one: World) -> None:
    hold_still(one)
    await one.sign_up("ana@example.com")
    for _ in range(3):
        for _ in range(attempts.PER_PAIR.burst - 1):
            assert (await try_log_in(one.identity, "ana@example.com", WRONG)).status_code == 401
        assert (await try_log_in(one.identity, "ana@example.com")).status_code == 200


async def test_a_stranger_elsewhere_does_not_lock_the_owner_out(one: World) -> None:
    hold_still(one)
    await one.sign_up("ana@example.com")
    for _ in range(60):  # a whole hour of trying as often as it lets them
        answer = await try_log_in(one.identity, "ana@example.com", WRONG, address=ELSEWHERE)
        one.clock.leap(seconds=int(answer.headers.get("retry-after", 1)))
        await try_log_in(one.identity, "ana@example.com", WRONG, address="2001:db8::1")
    assert (await try_log_in(one.identity, "ana@example.com")).status_code == 200


async def test_what_was_refused_counts_against_nobody(one: World) -> None:
    """Else a stranger could fill the account's own measure from one address, by simply not stopping."""
    hold_still(one)
    await one.sign_up("ana@example.com")
    tries = [await try_log_in(one.identity, "ana@example.com", WRONG, address=ELSEWHERE) for _ in range(80)]
    assert [answer.status_code for answer in tries] == [401] * attempts.PER_PAIR.burst + [429] * 70
    assert (await try_log_in(one.identity, "ana@example.com")).status_code == 200


async def test_a_network_with_endless_addresses_counts_as_one(one: World) -> None:
    hold_still(one)
    await one.sign_up("ana@example.com")
    tries = [
        await try_log_in(one.identity, "ana@example.com", WRONG, address=f"2001:db8:1:2:{number:x}::{number:x}")
        for number in range(attempts.PER_PAIR.burst + 2)
    ]
    assert [answer.status_code for answer in tries] == [401] * attempts.PER_PAIR.burst + [429] * 2
    assert (await try_log_in(one.identity, "ana@example.com", address="2001:db8:1:3::1")).status_code == 200


async def test_one_address_may_not_try_everybody(one: World) -> None:
    hold_still(one)
    tries = [
        await try_log_in(one.identity, f"person{number}@example.com", WRONG)
        for number in range(attempts.PER_ADDRESS.burst + 1)
    ]
    assert [answer.status_code for answer in tries] == [401] * attempts.PER_ADDRESS.burst + [429]
    assert (await try_log_in(one.identity, "person1@example.com", WRONG, address=ELSEWHERE)).status_code == 401


async def test_everybody_may_not_try_one_account(one: World) -> None:
    hold_still(one)
    tries = [
        await try_log_in(one.identity, "ana@example.com", WRONG, address=f"198.51.100.{number}")
        for number in range(attempts.PER_ACCOUNT.burst + 1)
    ]
    assert [answer.status_code for answer in tries] == [401] * attempts.PER_ACCOUNT.burst + [429]
    assert int(tries[-1].headers["retry-after"]) <= attempts.PER_ACCOUNT.seconds


async def test_tries_at_the_same_time_are_all_counted(one: World) -> None:
    hold_still(one)
    tries = await asyncio.gather(*(try_log_in(one.identity, "ana@example.com", WRONG) for _ in range(25)))
    assert sorted(answer.status_code for answer in tries) == [401] * 10 + [429] * 15


async def test_tidying_up_forgives_nobody(one: World) -> None:
    hold_still(one)
    for _ in range(attempts.PER_PAIR.burst):
        await try_log_in(one.identity, "ana@example.com", WRONG)
    await one.identity.identity.log_in.forget_expired()
    assert (await try_log_in(one.identity, "ana@example.com", WRONG)).status_code == 429
    one.clock.leap(hours=1)
    await one.identity.identity.log_in.forget_expired()
    assert await kept_attempts(one) == []


async def test_who_tried_what_is_kept_under_a_mac_only(one: World) -> None:
    hold_still(one)
    await try_log_in(one.identity, "ana@example.com", WRONG)
    kept = await kept_attempts(one)
    assert len(kept) == 3
    assert all(len(key) == 64 and not set(key) - set("0123456789abcdef") for key in kept)


async def kept_attempts(world: World) -> list[str]:
    async with world.identity.identity.core.database.reading() as reader:
        return [row.key for row in await reader.all(text("SELECT key FROM attempts"))]


async def test_a_repeated_request_is_not_refused_for_ever(one: World) -> None:
    """A 429 and a 401 are no effects: with the same Idempotency-Key, the next try is a try again."""
    hold_still(one)
    await one.sign_up("ana@example.com")
    body = {"email": "ana@example.com", "password": PASSWORD}
    async with door(one.identity) as client:
        headers = {"Idempotency-Key": "log-in-1"}
        for _ in range(attempts.PER_PAIR.burst):
            await client.post("/auth/login", json=body | {"password": WRONG})
        refused = await client.post("/auth/login", json=body, headers=headers)
        assert refused.status_code == 429
        one.clock.leap(seconds=30)
        assert (await client.post("/auth/login", json=body, headers=headers)).status_code == 200

        later = {"email": "bea@example.com", "password": PASSWORD}
        headers = {"Idempotency-Key": "log-in-2"}
        assert (await client.post("/auth/login", json=later, headers=headers)).status_code == 401
        await one.sign_up("bea@example.com")
        assert (await client.post("/auth/login", json=later, headers=headers)).status_code == 200


# Hashes


async def test_an_outdated_hash_is_renewed_by_the_next_log_in(tmp_path: Path) -> None:
    async with installation(ONE, tmp_path / "home", passwords=quick_passwords()) as world:
        ana = await world.sign_up("ana@example.com")
        old = await hash_of(world, ana.id)
    async with installation(ONE, tmp_path / "home", passwords=quick_passwords(time_cost=2)) as world:
        assert (await try_log_in(world.identity, "ana@example.com", WRONG)).status_code == 401
        assert await hash_of(world, ana.id) == old
        await world.log_in("ana@example.com")
        new = await hash_of(world, ana.id)
        assert "t=2" in new
        await world.log_in("ana@example.com")
        assert await hash_of(world, ana.id) == new


async def hash_of(world: World, account_id: str) -> str:
    async with world.identity.identity.core.database.reading() as reader:
        account = await store.account_by_id(reader, account_id)
    assert account is not None
    assert account.password_hash is not None
    assert account.password_hash.startswith("$argon2id$")
    return account.password_hash


async def test_hashing_holds_up_nobody_else() -> None:
    passwords, turns = Passwords(PasswordHasher()), 0
    hashing = asyncio.create_task(passwords.hash(PASSWORD))
    while not hashing.done():
        turns += 1
        await asyncio.sleep(0)
    assert turns > 50
    assert await passwords.verify(await hashing, PASSWORD)
    passwords.close()


async def test_a_hash_is_not_made_inside_a_transaction() -> None:
    with transaction_section("identity"), pytest.raises(SlowCallInTransaction):
        await quick_passwords().hash(PASSWORD)
    with transaction_section("identity"), pytest.raises(SlowCallInTransaction):
        await quick_passwords().verify(None, PASSWORD)


async def test_a_short_password_has_no_hash_and_a_broken_hash_no_password() -> None:
    with pytest.raises(PasswordTooShort):
        await quick_passwords().hash("12345")
    assert not await quick_passwords().verify("$argon2id$v=19$broken", PASSWORD)
    assert not await quick_passwords().verify("", PASSWORD)


async def test_the_shipped_hasher_is_as_strong_as_owasp_asks() -> None:
    hash = await Passwords().hash(PASSWORD)
    assert hash.startswith("$argon2id$v=19$m=65536,t=3,")
