"""The room: every fact is recorded once, with whoever did it; nothing secret is; and what has to be forgotten is."""

from __future__ import annotations

import asyncio
import itertools
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from muelle.audit import store
from muelle.kit.bus import Envelope, Origin
from muelle.kit.http import Cursor
from tests.audit.test_tampering import envelope
from tests.identity.doors import ELSEWHERE, bearer, door, key_of, knowing_a_provider, through, try_log_in
from tests.identity.provider import LittleProvider
from tests.identity.test_second_factor import turned_on
from tests.world import SECRET_KEY, Person, World

EVERYTHING = Cursor(None, 1000)


async def record(world: World, *envelopes: Envelope) -> None:
    audit = world.audit
    database = next(room.furniture.database for room in audit.rooms if room.name == "audit")
    for each in envelopes:
        async with database.transaction() as tx:
            await audit.audit.record(tx, each)


async def test_in_whatever_order_facts_arrive_a_deleted_account_is_forgotten(one: World) -> None:
    for number, order in enumerate(itertools.permutations(range(4))):
        subject = f"{number:024x}"
        facts = [
            envelope("AccountOpened", subject, name="Ana"),
            envelope("AccountChanged", subject, email="ana@example.com"),
            envelope("AccountDeleted", subject),
            envelope("LoggedOut", subject, session_id="x"),
        ]
        await record(one, *(facts[place] for place in order))
        found = await one.audit.audit.list(EVERYTHING, subject=subject)
        assert [(entry.details, entry.salt) for entry in found] == [(None, None)] * 4
    await record(one, envelope("AccountOpened", "f" * 24, name="Bea"))
    (living,) = await one.audit.audit.list(EVERYTHING, subject="f" * 24)
    assert "Bea" in (living.details or "")
    assert (await one.audit.audit.verify()).whole


async def test_a_subject_too_long_to_keep_is_forgotten_all_the_same(one: World) -> None:
    long = "x" * 300
    await record(one, envelope("Told", long, name="Ana"), envelope("AccountDeleted", long), envelope("Told", long))
    found = await one.audit.audit.list(EVERYTHING, subject=long[:100])
    assert [entry.details for entry in found] == [None] * 3
    assert (await one.audit.audit.verify()).whole


async def test_whatever_a_fact_holds_it_is_recorded(twins: World) -> None:
    """A text that one database cannot keep must not hold up the log on another."""
    texts = ["nul \0 in it", "half a pair \ud800", "línea\nnueva", "😀", "x" * 5000]
    told = [await one_envelope(text, Origin(text, text, text)) for text in texts]
    await record(twins, *told)
    found = await twins.audit.audit.list(EVERYTHING, type="Told")
    assert [entry.event_id for entry in reversed(found)] == [each.id for each in told]
    assert (await twins.audit.audit.verify()).whole


async def one_envelope(text: str, origin: Origin) -> Envelope:
    plain = envelope("Told", text)
    return Envelope(plain.id, plain.type, text, text, plain.at, origin, {"text": text, "more": [text, {text: text}]})


async def test_verifying_while_people_come_and_go_is_no_false_alarm(
    one: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Details are erased behind the reader's back, and the reason for it comes after the end that it saw first."""
    monkeypatch.setattr(store, "VERIFIED_AT_ONCE", 1)
    subjects = [f"{number:024x}" for number in range(10)]
    await record(one, *(envelope("AccountOpened", subject, name="Ana") for subject in subjects))
    busy = asyncio.create_task(record(one, *(envelope("AccountDeleted", subject) for subject in reversed(subjects))))
    times = 0
    while not busy.done():
        found = await one.audit.audit.verify()
        assert found.whole, found.broken
        times += 1
    await busy
    assert times > 1
    assert (await one.audit.audit.verify()).whole


async def test_what_comes_while_the_end_is_looked_up_is_walked_too(one: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await record(one, envelope("AccountOpened", "a" * 24, name="Ana"))
    find, late = store.head_as_it_is, [envelope("AccountDeleted", "a" * 24), envelope("LoggedOut", "a" * 24)]

    async def find_late(reader: Any) -> Any:
        if late:
            await record(one, late.pop())
        return await find(reader)

    monkeypatch.setattr(store, "head_as_it_is", find_late)
    verdict = await one.audit.audit.verify()
    assert (verdict.whole, verdict.entries) == (True, verdict.head.seq), verdict.broken
    assert not late


async def test_two_replicas_write_one_chain(twins: World) -> None:
    """Each gets every fact, as after a broker's mishap, in batches of its own; at the same time."""
    facts = [envelope("Told", f"{number:024x}") for number in range(40)]
    inboxes = [room.furniture.inbox for app in twins.apps for room in app.rooms if room.name == "audit"]
    batches = [
        (inbox, [fact.to_bytes() for fact in facts[start : start + 5]])
        for start in range(0, 40, 5)
        for inbox in (inboxes if start % 10 else reversed(inboxes))
    ]
    await asyncio.gather(*(inbox.takers()[0].take(bodies) for inbox, bodies in batches))
    assert (await inboxes[0].counts()) == {"parked": 0, "dead": 0}
    found = await twins.audit.audit.list(EVERYTHING, type="Told")
    assert sorted(entry.event_id for entry in found) == sorted(fact.id for fact in facts)
    for app in twins.apps:
        verdict = await app.audit.verify()
        assert verdict.whole, verdict.broken


# Who did it


async def test_every_entry_says_who_did_it_and_from_where(one: World) -> None:
    root = await one.administrator()
    ana = await one.sign_up("ana@example.com")
    key = await key_of(ana)
    await try_log_in(one.identity, "ana@example.com", "not the password", address=ELSEWHERE)
    await key.ask("PATCH", "/me", {"name": "Anacleta"}, headers={"x-request-id": "by-the-key"})
    await root.post(f"/accounts/{ana.id}/suspend", {"reason": "unpaid"}, headers={"x-request-id": "by-the-root"})
    await root.post(f"/accounts/{ana.id}/reinstate")
    await one.ask("POST", "/auth/password/forgot", json={"email": "ana@example.com"})
    await one.settled()
    actors = {
        "AccountOpened": ana.id,
        "LoggedIn": ana.id,
        "ApiKeyMade": ana.id,
        "LogInRefused": "anonymous",
        "ProfileChanged": ana.id,
        "AccountSuspended": root.id,
        "AccountReinstated": root.id,
        "PasswordResetRequested": "anonymous",
    }
    entries = {type: (await one.recorded(type, ana.id))[0] for type in actors}
    assert {type: entry.actor for type, entry in entries.items()} == actors
    assert entries["LogInRefused"].address == ELSEWHERE
    assert entries["LoggedIn"].address == "203.0.113.7"
    assert entries["ProfileChanged"].request_id == "by-the-key"
    assert entries["AccountSuspended"].request_id == "by-the-root"
    (first, *_) = await one.audit.audit.list(EVERYTHING, type="AccountOpened", actor="system")
    assert first.address == ""


def test_the_command_line_is_named_as_what_it_is(tmp_path: Path) -> None:
    home = tmp_path / "home"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MUELLE_")}
    environment |= {"MUELLE_HOME": str(home), "MUELLE_SECRET_KEY": SECRET_KEY}
    made = subprocess.run(
        [sys.executable, "-m", "muelle", "admin", "create", "Boss@Example.com"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert made.returncode == 0, made.stderr

    async def look() -> tuple[list[Any], str]:
        from tests.world import ONE, installation

        async with installation(ONE, home) as world:
            boss = await world.identity.identity.accounts.list(EVERYTHING, "boss@example.com", None, None)
            await world.settled()
            found = await world.recorded("AccountOpened", boss[0].id)
            return found, boss[0].role

    found, role = asyncio.run(look())
    assert role == "admin"
    assert [entry.actor.startswith("command line (") for entry in found] == [True]


# What is shown to whom


async def test_administrators_see_everything_and_filter_it(one: World) -> None:
    root = await one.administrator()
    ana, bea = await one.sign_up("ana@example.com"), await one.sign_up("bea@example.com")
    await one.settled()

    async def seen(**query: Any) -> list[tuple[str, str]]:
        answer = await root.get("/audit", params=query)
        assert answer.status_code == 200, answer.text
        return [(item["type"], item["subject"]) for item in answer.json()["items"]]

    everything = await seen()
    assert {subject for _, subject in everything} >= {ana.id, bea.id, root.id}
    assert {subject for _, subject in await seen(subject=ana.id)} == {ana.id}
    assert await seen(subject=ana.id, type="AccountOpened") == [("AccountOpened", ana.id)]
    assert await seen(actor=ana.id, subject=bea.id) == []
    assert await seen(subject="' OR 1=1 --") == []
    pages, cursor = [], {}
    while True:
        answer = (await root.get("/audit", params={"limit": 3} | cursor)).json()
        pages += [item["seq"] for item in answer["items"]]
        if answer["next"] is None:
            break
        cursor = {"cursor": answer["next"]}
        await one.sign_up(f"more{len(pages)}@example.com")  # what is new does not shift the pages
    assert pages == list(range(len(everything), 0, -1))
    for bad in ("x", "WyJ4Il0=", "WyItMSJd", "WyIxLjUiXQ=="):
        assert (await root.get("/audit", params={"cursor": bad})).status_code == 422
    told = (await root.get("/audit/verify")).json()
    assert (told["whole"], told["broken"]) == (True, "")


async def test_clients_see_their_own_history_and_nobody_elses(one: World) -> None:
    root = await one.administrator()
    ana, bea = await one.sign_up("ana@example.com"), await one.sign_up("bea@example.com")
    async with door(one.identity, "10.9.8.7") as office:
        await office.post(f"/accounts/{ana.id}/suspend", json={"reason": "unpaid"}, headers=bearer(root))
    await try_log_in(one.identity, "ana@example.com", "not the password", address=ELSEWHERE)
    await one.recorded("AccountSuspended", ana.id)
    await one.settled()
    page = (await ana.get("/me/history")).json()["items"]
    assert {item["subject"] for item in page} == {ana.id}
    shown = {item["type"]: item for item in page}
    assert shown["AccountSuspended"]["actor"] == root.id
    assert shown["AccountSuspended"]["address"] == ""  # where an administrator sits is not a client's business
    assert shown["LogInRefused"]["address"] == ELSEWHERE
    assert shown["LoggedIn"]["address"] == "203.0.113.7"
    assert bea.id not in str(page)
    for path in ("/audit", "/audit/verify"):
        assert (await ana.get(path)).status_code == 403
        assert (await one.nobody().get(path)).status_code == 401
    (seen,) = (await root.get("/audit", params={"type": "AccountSuspended"})).json()["items"]
    assert seen["address"] == "10.9.8.7"


# What is never in it


async def test_no_fact_holds_a_secret(tmp_path: Path, little: LittleProvider) -> None:
    async with knowing_a_provider(tmp_path / "home", little) as world:
        secrets = await a_rich_story(world, little)
        await world.settled()
        entries = await world.audit.audit.list(EVERYTHING)
        told = "\n".join(str(entry) for entry in entries)
    assert len(secrets) > 25
    assert "ana@example.com" in told
    for secret in secrets:
        assert secret not in told
    types = {entry.type for entry in entries}
    assert {"ApiKeyMade", "RecoveryCodeUsed", "RefreshTokenReused", "UnprovenAccessRemoved", "EmailVerified"} <= types
    assert {"PasswordChanged", "PasswordResetRequested", "ProviderLinked", "SecondFactorTurnedOff"} <= types


async def a_rich_story(world: World, little: LittleProvider) -> list[str]:
    """Does nearly everything that can be done, and returns each secret that came up."""
    secrets = ["first password of Ana", "second password of Ana", "third password of Ana", "a wrong guess"]

    def heard(person: Person) -> Person:
        secrets.extend([person.tokens["access_token"], person.tokens["refresh_token"]])
        return person

    ana = heard(await world.sign_up("ana@example.com", secrets[0]))
    secrets.append(await world.letter_code("ana@example.com", "Confirm"))
    await ana.post("/auth/email/verify", {"token": secrets[-1]})
    secrets.append((await key_of(ana)).key)
    phone, recovery = await turned_on(ana)
    secrets += recovery
    await try_log_in(world.identity, "ana@example.com", secrets[3])
    secrets.append(phone.next())
    heard(await world.log_in("ana@example.com", secrets[0], code=secrets[-1]))
    heard(await world.log_in("ana@example.com", secrets[0], code=recovery[0]))
    await ana.post("/me/password", {"present": secrets[0], "password": secrets[1]})
    await ana.delete("/me/second-factor", {"password": secrets[1], "code": recovery[1]})
    for _ in range(2):
        await world.ask("POST", "/auth/refresh", json={"refresh_token": ana.tokens["refresh_token"]})
    await world.ask("POST", "/auth/password/forgot", json={"email": "ana@example.com"})
    secrets.append(await world.letter_code("ana@example.com", "password"))
    await world.ask("POST", "/auth/password/reset", json={"token": secrets[-1], "password": secrets[2]})
    again = heard(await world.log_in("ana@example.com", secrets[2]))
    await again.post("/auth/logout")
    await world.sign_up("bea@example.com", "Bea's first password")
    secrets.append(little.id_token(sub="bea", email="bea@example.com"))
    body = {"id_token": secrets[-1]}
    await world.ask("POST", "/auth/providers/little/token", json=body)
    heard(await through(world, little, sub="bea", email="bea@example.com"))
    return [*secrets, "Bea's first password"]
