"""Letters: written with their cause, sent after it, retried, given up, never readable on the disk."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from pathlib import Path
from typing import Any

from sqlalchemy import select

from muelle.identity.letters import LAST_ATTEMPT, Letter, Letters
from muelle.identity.tables import letters
from muelle.kit.mail import Mail
from tests.identity.doors import quick_passwords
from tests.waiting import eventually
from tests.world import ONE, PASSWORD, World, installation


async def waiting(world: World) -> list[Any]:
    async with world.identity.identity.core.database.reading() as reader:
        return list(await reader.all(select(letters)))


def sender(world: World) -> Letters:
    return world.identity.identity.core.letters


async def test_a_letter_waits_for_a_mail_server_that_is_down(one: World) -> None:
    one.postbox.broken = True
    await one.sign_up("ana@example.com")
    (row,) = await eventually(lambda: tried(one, 1))
    assert row.next_at > one.clock.now()
    await sender(one).loop.run_once()
    assert await tried(one, 1)  # not again before its time
    one.postbox.broken = False
    one.clock.leap(minutes=5)
    await sender(one).loop.run_once()
    (mail,) = await eventually(lambda: one.postbox.mails)
    assert mail.id == row.id
    assert await eventually(lambda: nothing_waits(one))


async def tried(world: World, times: int) -> list[Any]:
    rows = await waiting(world)
    return rows if rows and all(row.attempts == times for row in rows) else []


async def nothing_waits(world: World) -> bool:
    return not await waiting(world)


async def test_a_letter_that_nobody_takes_is_given_up_in_the_end(one: World) -> None:
    one.postbox.broken = True
    await one.sign_up("ana@example.com")
    for attempt in range(1, LAST_ATTEMPT):
        await eventually(lambda attempt=attempt: tried(one, attempt))
        one.clock.leap(hours=1)
        await sender(one).loop.run_once()
    assert await eventually(lambda: nothing_waits(one))
    one.postbox.broken = False
    one.clock.leap(hours=1)
    await sender(one).loop.run_once()
    assert not one.postbox.mails


async def test_one_bad_letter_holds_up_no_other(one: World) -> None:
    one.postbox.broken = True
    await one.sign_up("ana@example.com")
    await eventually(lambda: tried(one, 1))
    one.postbox.broken = False
    await one.sign_up("bea@example.com")
    await eventually(lambda: one.postbox.to("bea@example.com"))
    assert not one.postbox.to("ana@example.com")


async def test_who_is_late_with_bad_news_disturbs_nobody(one: World) -> None:
    """A sender that took longer than its lease fails, while another has the letter: that one's claim stands."""
    core, failing = one.identity.identity.core, asyncio.Event()

    class Slow:
        async def send(self, mail: Mail) -> None:
            await failing.wait()
            raise OSError("too late")

    slow = Letters(core.database, Slow(), core.clock, core.vault)
    async with core.database.transaction() as tx:
        await slow.write(tx, Letter("verify", "ana@example.com", "x", "y"))
    running = asyncio.create_task(slow.loop.run_once())
    (first,) = await eventually(lambda: tried(one, 1))
    one.clock.leap(seconds=300)
    one.postbox.broken = True
    await sender(one).loop.run_once()
    (second,) = await eventually(lambda: tried(one, 2))
    failing.set()
    await running
    assert [(row.attempts, row.next_at) for row in await waiting(one)] == [(2, second.next_at)]
    assert first.id == second.id


async def test_nothing_secret_can_be_read_from_the_disk(tmp_path: Path) -> None:
    """Neither while a letter waits nor after it has gone, in none of the files of the home."""
    from tests.identity.doors import key_of
    from tests.identity.test_second_factor import turned_on

    secrets = ["the password itself"]
    async with installation(ONE, tmp_path / "home", passwords=quick_passwords()) as world:
        world.postbox.broken = True
        ana = await world.sign_up("ana@example.com", secrets[0])
        (row,) = await eventually(lambda: tried(world, 1))
        letter = json.loads(world.identity.identity.core.vault.open("letters", row.sealed))
        assert letter["to"] == "ana@example.com"
        (code,) = [line.strip() for line in letter["text"].splitlines() if line.startswith("    ")]
        secrets += [code, letter["subject"], ana.tokens["access_token"], ana.tokens["refresh_token"]]
        secrets.append((await key_of(ana)).key.rpartition("_")[2])
        phone, recovery = await turned_on(ana)
        secrets += recovery
        assert_absent(tmp_path / "home", secrets, phone)
        world.postbox.broken = False
        world.clock.leap(minutes=5)
        await sender(world).loop.run_once()
        await eventually(lambda: world.postbox.mails)
        await world.settled()
        assert_absent(tmp_path / "home", secrets, phone)
    assert_absent(tmp_path / "home", secrets, phone)


def assert_absent(home: Path, secrets: list[str], phone: Any) -> None:
    files = [file for file in home.rglob("*") if file.is_file()]
    assert any(b"ana@example.com" in file.read_bytes() for file in files)  # the search itself finds things
    for needle in [*(secret.encode() for secret in secrets), phone._secret]:
        assert not [file for file in files if needle in file.read_bytes()]


async def test_two_replicas_send_each_letter_once(twins: World) -> None:
    core = twins.identity.identity.core
    for part in range(10):
        async with core.database.transaction() as tx:
            for number in range(10):
                await core.letters.write(tx, Letter("verify", f"{part}-{number}@example.com", "Hello", "There"))
        for app in twins.apps:
            app.identity.core.letters.loop.wake()
    await eventually(lambda: len(twins.postbox.mails) >= 100)
    await eventually(lambda: nothing_waits(twins))
    assert set(Counter(mail.to for mail in twins.postbox.mails).values()) == {1}
    assert len(twins.postbox.mails) == 100


async def test_letters_go_out_after_the_commit_and_only_then(one: World) -> None:
    await one.sign_up("ana@example.com")
    await one.ask("POST", "/auth/signup", json={"email": "ana@example.com", "password": PASSWORD, "name": "A"})
    await one.ask("POST", "/auth/signup", json={"email": "bea@example.com", "password": "short", "name": "B"})
    await eventually(lambda: one.postbox.to("ana@example.com"))
    await one.sign_up("eva@example.com")
    await eventually(lambda: one.postbox.to("eva@example.com"))
    assert [mail.to for mail in one.postbox.mails] == ["ana@example.com", "eva@example.com"]
