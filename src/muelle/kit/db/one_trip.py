"""SQLite statements in one trip to the connection's thread.

SQLite waits for the disk, so each connection lives in a thread of its own, and each thing that is asked of it is a trip
there and back, which costs more than most statements do. SQLAlchemy's cursor makes four for a statement: it opens the
cursor, executes, fetches and closes. This one makes one.
"""

from __future__ import annotations

import sqlite3
from collections import deque
from collections.abc import Sequence
from typing import Any, NamedTuple

import aiosqlite
from sqlalchemy.dialects.sqlite.aiosqlite import AsyncAdapt_aiosqlite_connection, AsyncAdapt_aiosqlite_cursor
from sqlalchemy.util import await_


class Answer(NamedTuple):
    """All there is to know of a statement once its cursor is closed."""

    description: Any = None
    rowcount: int = -1
    lastrowid: int | None = None
    rows: Sequence[Any] = ()


class OneTripCursor(AsyncAdapt_aiosqlite_cursor):
    __slots__ = ("_answer", "arraysize")

    def __init__(self, adapt_connection: Any) -> None:
        self._adapt_connection = adapt_connection
        self._connection = adapt_connection._connection
        self._rows = deque()
        self._answer = Answer()
        self.arraysize = 1

    @property
    def description(self) -> Any:
        return self._answer.description

    @property
    def rowcount(self) -> int:
        return self._answer.rowcount

    @property
    def lastrowid(self) -> Any:
        return self._answer.lastrowid

    async def _execute_async(self, operation: Any, parameters: Any) -> Any:
        await self._ask(sqlite3.Connection.execute, operation, parameters or ())

    async def _executemany_async(self, operation: Any, seq_of_parameters: Any) -> Any:
        await self._ask(sqlite3.Connection.executemany, operation, seq_of_parameters)

    async def _ask(self, how: Any, operation: Any, parameters: Any) -> None:
        driver: Any = self._connection
        async with self._adapt_connection._execute_mutex:
            self._answer = await driver._execute(_ask, how, driver._conn, operation, parameters)
        self._rows = deque(self._answer.rows)

    async def _async_soft_close(self) -> None: ...

    def close(self) -> None:
        self._rows.clear()


class OneTripConnection(AsyncAdapt_aiosqlite_connection):
    __slots__ = ()
    _cursor_cls = OneTripCursor


def connect(dialect: Any, _record: Any, place: Any, options: Any) -> OneTripConnection:
    """For SQLAlchemy's `do_connect`."""
    connection: Any = aiosqlite.connect(*place, **options)
    connection._thread.daemon = True  # as SQLAlchemy has it
    return OneTripConnection(dialect.dbapi, await_(connection))


def _ask(how: Any, connection: sqlite3.Connection, operation: Any, parameters: Any) -> Answer:
    """Runs in the connection's thread."""
    cursor = how(connection, operation, parameters)
    try:
        rows = cursor.fetchall() if cursor.description else ()
        return Answer(cursor.description, cursor.rowcount, cursor.lastrowid, rows)
    finally:
        cursor.close()
