"""All SQL of the audit room."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from sqlalchemy import BigInteger, CheckConstraint, Column, Index, Integer, MetaData, Row, String, Table, Text, select, update

from muelle.audit.chain import Entry, Head
from muelle.kit.db import Instant, Reading, Transaction
from muelle.kit.http import Cursor

VERIFIED_AT_ONCE = 1000

metadata = MetaData()

entries = Table(
    "entries",
    metadata,
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("event_id", String(24), nullable=False),
    Column("at", Instant, nullable=False),
    Column("room", String(40), nullable=False),
    Column("type", String(100), nullable=False),
    Column("subject", String(100), nullable=False),
    Column("actor", String(100), nullable=False),
    Column("address", String(64), nullable=False),
    Column("request_id", String(64), nullable=False),
    Column("salt", String(32), nullable=True),
    Column("details", Text, nullable=True),
    Column("details_hash", String(64), nullable=False),
    Column("hash", String(64), nullable=False),
    Index("entries_by_subject", "subject", "seq"),
    Index("entries_by_actor", "actor", "seq"),
)

head = Table(
    "head",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("seq", BigInteger, nullable=False),
    Column("hash", String(64), nullable=False),
    CheckConstraint("id = 1", name="one_head"),
)


async def lock_head(tx: Transaction) -> Head:
    """The head, with nobody else appending until the transaction ends."""
    row = await tx.first(select(head).with_for_update())
    assert row is not None, "the first migration makes the head"  # noqa: S101
    return Head(row.seq, row.hash)


async def read_head(reader: Reading) -> Head:
    row = await reader.first(select(head))
    assert row is not None, "the first migration makes the head"  # noqa: S101
    return Head(row.seq, row.hash)


async def append(tx: Transaction, entry: Entry) -> None:
    await tx.run(entries.insert().values({column.name: getattr(entry, column.name) for column in entries.c}))
    await tx.run(update(head).values(seq=entry.seq, hash=entry.hash))


async def is_recorded(reader: Reading, type: str, subject: str) -> bool:
    these = entries.c.subject == subject, entries.c.type == type
    return await reader.scalar(select(entries.c.seq).where(*these).limit(1)) is not None


async def erase_details(tx: Transaction, subject: str) -> None:
    kept = entries.c.subject == subject, entries.c.details.is_not(None)
    await tx.run(update(entries).where(*kept).values(details=None, salt=None))


async def list_entries(
    reader: Reading, cursor: Cursor, *, subject: str = "", actor: str = "", type: str = ""
) -> list[Entry]:
    """The newest first."""
    query = select(entries).order_by(entries.c.seq.desc()).limit(cursor.limit + 1)
    if cursor.after:
        query = query.where(entries.c.seq < int(cursor.after))
    for column, value in ((entries.c.subject, subject), (entries.c.actor, actor), (entries.c.type, type)):
        if value:
            query = query.where(column == value)
    return [_entry(row) for row in await reader.all(query)]


async def all_entries(reader: Reading, up_to: int) -> AsyncIterator[Entry]:
    """The oldest first, a thousand at a time."""
    last = 0
    while True:
        part = select(entries).where(entries.c.seq > last, entries.c.seq <= up_to).order_by(entries.c.seq)
        rows = await reader.all(part.limit(VERIFIED_AT_ONCE))
        for row in rows:
            yield _entry(row)
        if len(rows) < VERIFIED_AT_ONCE:
            return
        last = rows[-1].seq


def _entry(row: Row[Any]) -> Entry:
    return Entry(**row._mapping)
