"""Somebody changes the audit database itself, with SQLite's own tools: one bit of one column of one row is enough."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from muelle.audit import room
from muelle.audit.chain import Verdict
from muelle.audit.store import entries
from muelle.audit.verbs import Verbs
from muelle.kit.bus import Envelope, Origin
from muelle.kit.db import Database, open_database
from muelle.kit.db.migrations import migrate
from muelle.kit.ids import new_id
from tests.world import SECRET_KEY

COLUMNS = [column.name for column in entries.c]
INTEGERS = {"seq", "at"}
ENTRIES = 6


def envelope(type: str, subject: str, **data: Any) -> Envelope:
    origin = Origin("somebody", "203.0.113.7", new_id())
    return Envelope(new_id(), type, "identity", subject, datetime.now(UTC), origin, {"account_id": subject} | data)


class Log:
    """An audit log of its own, on SQLite, and a way past it."""

    def __init__(self, folder: Path) -> None:
        self.runner = asyncio.Runner()
        self.file = folder / "audit.db"
        self.database: Database = open_database("audit", folder=folder)
        self.verbs = Verbs(self.database)
        self.runner.run(migrate(self.database, room.MIGRATIONS))

    def record(self, *envelopes: Envelope) -> None:
        async def take() -> None:
            async with self.database.transaction() as tx:
                for each in envelopes:
                    await self.verbs.record(tx, each)

        self.runner.run(take())

    def verify(self, expected_hash: str = "") -> Verdict:
        return self.runner.run(self.verbs.verify(expected_hash))

    def sql(self, statement: str, *values: Any) -> list[Any]:
        with sqlite3.connect(self.file, isolation_level=None) as connection:
            found = connection.execute(statement, values).fetchall()
        connection.close()
        return found

    def close(self) -> None:
        self.runner.run(self.database.close())
        self.runner.close()


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    log = Log(tmp_path)
    log.record(
        envelope("AccountOpened", "a" * 24, name="Ana"),
        envelope("AccountOpened", "b" * 24, name="Ángel 😀 \ufffd"),
        envelope("LoggedIn", "a" * 24),
        envelope("AccountDeleted", "a" * 24),
        envelope("LoggedIn", "b" * 24),
        envelope("LoggedOut", "a" * 24),
    )
    assert log.verify().whole
    yield log
    log.close()


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_one_changed_bit_in_the_file_is_found_and_named(log: Log, data: st.DataObject) -> None:
    seq = data.draw(st.integers(1, ENTRIES))
    column = data.draw(st.sampled_from(COLUMNS))
    ((kind, before),) = log.sql(f"SELECT typeof({column}), CAST({column} AS BLOB) FROM entries WHERE seq = ?", seq)  # noqa: S608 - our own columns
    if column in INTEGERS:
        number = int(before)
        flipped: Any = number ^ (1 << data.draw(st.integers(0, 62))) if data.draw(st.integers(0, 63)) else ~number
        put = "?"
        if column == "seq" and 1 <= flipped <= ENTRIES:
            return  # there is one already, and the database says so
    elif kind == "null":
        flipped, put = (
            data.draw(st.sampled_from([b"", b"\0", b"{}"])),
            data.draw(st.sampled_from(["?", "CAST(? AS TEXT)"])),
        )
    else:
        raw = bytearray(before)
        bit = data.draw(st.integers(0, len(raw) * 8 - 1))
        raw[bit // 8] ^= 1 << bit % 8
        flipped, put = bytes(raw), "CAST(? AS TEXT)"
    log.sql(f"UPDATE entries SET {column} = {put} WHERE seq = ?", flipped, seq)  # noqa: S608 - our own columns
    try:
        found = log.verify()
    finally:
        back = int(before) if column in INTEGERS else before
        keep = "NULL" if kind == "null" else "?" if column in INTEGERS else "CAST(? AS TEXT)"
        values = () if kind == "null" else (back,)
        log.sql(f"UPDATE entries SET {column} = {keep} WHERE seq = ?", *values, flipped if column == "seq" else seq)  # noqa: S608 - our own columns
    assert not found.whole, (seq, column, before, flipped)
    named = {f"entry {seq}:"} if column != "seq" else {f"entry {flipped}:", f"entry {seq + 1}:"}
    assert any(found.broken.startswith(name) for name in named), (found.broken, seq, column)
    assert log.verify().whole


@pytest.mark.parametrize("column", [name for name in COLUMNS if name not in INTEGERS])
def test_another_kind_of_value_with_the_same_bytes_is_found(log: Log, column: str) -> None:
    """One bit in a record's header makes a text a blob, and no byte of it changes."""
    log.sql(f"UPDATE entries SET {column} = CAST({column} AS BLOB) WHERE seq = 2")  # noqa: S608 - our own columns
    assert log.verify().broken.startswith("entry 2: ")


def test_bytes_that_are_no_text_do_not_pass_for_the_sign_for_that(log: Log) -> None:
    log.sql("UPDATE entries SET details = CAST(replace(details, '\ufffd', CAST(x'ff' AS TEXT)) AS TEXT) WHERE seq = 2")
    assert log.verify().broken == "entry 2: its details were changed"


def test_removed_rows_are_found(log: Log) -> None:
    for seq, named in ((1, "entry 2: entry 1 is missing"), (3, "entry 4: entry 3 is missing"), (6, "the head says 6")):
        ((*row,),) = log.sql("SELECT * FROM entries WHERE seq = ?", seq)
        log.sql("DELETE FROM entries WHERE seq = ?", seq)
        assert log.verify().broken.startswith(named)
        log.sql(f"INSERT INTO entries VALUES ({', '.join('?' * len(row))})", *row)  # noqa: S608 - our own columns
    log.sql("DELETE FROM entries")
    assert not log.verify().whole


@pytest.mark.parametrize("seq", [-1, 0, 7, 8, 2**62])
def test_rows_put_in_before_or_after_are_found(log: Log, seq: int) -> None:
    copied = ", ".join(COLUMNS[1:])
    log.sql(f"INSERT INTO entries (seq, {copied}) SELECT ?, {copied} FROM entries WHERE seq = 6", seq)  # noqa: S608 - our own columns
    assert log.verify().broken.startswith(f"entry {seq}: ")


def test_swapped_rows_are_found(log: Log) -> None:
    log.sql("UPDATE entries SET seq = CASE seq WHEN 2 THEN -5 WHEN 5 THEN -2 ELSE seq END")
    log.sql("UPDATE entries SET seq = -seq WHERE seq < 0")
    assert log.verify().broken == "entry 2: it was changed"


def test_a_cut_tail_is_found_by_the_noted_head(log: Log) -> None:
    noted = log.verify().head.hash
    ((hash,),) = log.sql("SELECT hash FROM entries WHERE seq = 4")
    log.sql("DELETE FROM entries WHERE seq > 4")
    assert log.verify().broken.startswith("the head says 6 entries, there are 4")
    log.sql("UPDATE head SET seq = 4, hash = ?", hash)
    assert log.verify().whole  # the chain itself cannot know
    assert "was cut off" in log.verify(noted).broken
    assert log.verify(f" {hash.upper()}\n").whole  # as people copy it


def test_erased_details_of_a_living_account_are_found(log: Log) -> None:
    log.sql("UPDATE entries SET details = NULL, salt = NULL WHERE seq = 5")
    assert log.verify().broken == "entry 5: its details are gone, though the account was not deleted"
    log.sql("UPDATE entries SET type = 'AccountDeleted' WHERE seq = 5")
    assert not log.verify().whole


def test_a_head_that_is_gone_or_changed_is_found(log: Log) -> None:
    for statement in (
        "UPDATE head SET seq = 5",
        "UPDATE head SET seq = -6",
        "UPDATE head SET hash = CAST(x'ff' AS TEXT)",
        "DELETE FROM head",
    ):
        log.sql(statement)
        assert "head" in log.verify().broken


def test_one_changed_bit_of_the_file_itself_is_found(log: Log) -> None:
    """Not by SQL this time: in the bytes on the disk."""
    log.sql("PRAGMA wal_checkpoint(TRUNCATE)")
    log.runner.run(log.database.close())
    whole = log.file.read_bytes()
    rows = (b"somebody203.0.113.7", b"identityLoggedOut", b"LoggedOut" + b"a" * 24, "Ángel".encode())
    places = [whole.index(row) + skipped for row in rows for skipped in (0, 4)]
    for place in places:
        for bit in (0, 6):
            changed = bytearray(whole)
            changed[place] ^= 1 << bit
            log.file.write_bytes(changed)
            found = log.verify()
            log.runner.run(log.database.close())
            assert found.broken.startswith("entry "), (place, bit)
    log.file.write_bytes(whole)
    assert log.verify().whole


def test_the_command_line_says_which_entry_and_fails(tmp_path: Path) -> None:
    home = tmp_path / "home"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MUELLE_")}
    environment |= {"MUELLE_HOME": str(home), "MUELLE_SECRET_KEY": SECRET_KEY}

    def muelle(*words: str) -> tuple[int, str]:
        words = (sys.executable, "-m", "muelle", *words)
        run = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=60, check=False)
        return run.returncode, run.stdout + run.stderr

    home.mkdir()
    log = Log(home)
    log.record(envelope("AccountOpened", "a" * 24), envelope("LoggedIn", "a" * 24), envelope("LoggedOut", "a" * 24))
    head = log.verify().head.hash
    code, said = muelle("audit", "verify", "--expect", head)
    assert (code, head in said, "3 entries" in said) == (0, True, True), said
    log.sql("UPDATE entries SET actor = 'nobody__' WHERE seq = 2")
    log.close()
    code, said = muelle("audit", "verify")
    assert (code, "entry 2: it was changed" in said) == (1, True), said
