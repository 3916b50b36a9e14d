"""All SQL of the audit room."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ColumnElement,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Row,
    String,
    Table,
    Text,
    case,
    cast,
    func,
    literal,
    null,
    select,
    type_coerce,
    update,
)

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


async def entries_after(reader: Reading, seq: int) -> AsyncIterator[Entry]:
    """The oldest first, a thousand at a time, to the end; as they are, however broken. After 0 come all."""
    while True:
        part = select(*_as_they_are(reader, entries.c)).order_by(entries.c.seq).limit(VERIFIED_AT_ONCE)
        rows = await reader.all(part.where(entries.c.seq > seq) if seq else part)
        for row in rows:
            yield _entry_as_it_is(row)
        if not rows:
            return
        seq = rows[-1].seq


async def head_as_it_is(reader: Reading) -> Head | None:
    row = await reader.first(select(*_as_they_are(reader, head.c)).where(head.c.id == 1))
    return None if row is None else Head(row.seq, _text(row.hash))


def _entry(row: Row[Any]) -> Entry:
    return Entry(**row._mapping)


NO_TEXT = b"\xff"
"""Stands for a value that is of another kind than its column: no text has it."""


def _as_they_are(reader: Reading, columns: Iterable[Column[Any]]) -> list[ColumnElement[Any]]:
    """Columns to be read byte by byte: SQLite keeps whatever somebody writes into its file, PostgreSQL does not."""
    return [_as_it_is(column, loose=not reader.postgres).label(column.name) for column in columns]


def _as_it_is(column: Column[Any], *, loose: bool) -> ColumnElement[Any]:
    if isinstance(column.type, Instant):
        return type_coerce(column, BigInteger)
    if not loose or not isinstance(column.type, String):
        return column
    kind = func.typeof(column)
    is_text, is_nothing = kind == "text", kind == "null"
    return case((is_text, cast(column, LargeBinary)), (is_nothing, null()), else_=literal(NO_TEXT, LargeBinary))


def _entry_as_it_is(row: Row[Any]) -> Entry:
    values = {name: _text(value) for name, value in row._mapping.items()}
    return Entry(**values | {"at": _moment(row.at)})


def _text(value: Any) -> Any:
    return value.decode(errors="surrogateescape") if isinstance(value, bytes) else value


def _moment(micros: int) -> datetime:
    """A number that is no moment becomes one that was never hashed."""
    try:
        return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=micros)
    except (OverflowError, TypeError):
        return datetime.min.replace(tzinfo=UTC)
