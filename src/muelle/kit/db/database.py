"""`Database`: transactions and readings on SQLite (one writer, readers beside it) or PostgreSQL (a pool, a schema).

SQLite is a file per room in WAL mode with `synchronous=FULL`: what was committed survives a power cut. All writes of a
process go through one connection, one after the other, and begin with `BEGIN IMMEDIATE`, so that a transaction never
fails half way because somebody else was faster; another process (the command line beside a running server) is waited
for. On PostgreSQL each room has a schema of its own name, and a database of its own when the address says `{room}`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, nullcontext
from contextvars import ContextVar
from pathlib import Path
from sqlite3 import OperationalError
from typing import Any

from aiosqlite import Connection
from sqlalchemy import CursorResult, Executable, Row, Table, event, text
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.engine import ExceptionContext, make_url
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool, NullPool

from muelle.kit.db import one_trip
from muelle.kit.db.guard import refuse_beside_own_transaction, transaction_section
from muelle.kit.db.troubles import DatabaseReadOnly, trouble

SQLITE_READERS = 4
BUSY_SECONDS = 10
POSTGRES_CONNECTIONS = 10
POSTGRES_CONNECT_SECONDS = 10
POSTGRES_STATEMENT_SECONDS = 30
_BEGIN = "BEGIN IMMEDIATE"

AtCommit = Callable[["Transaction"], Awaitable[None]]
at_commit: ContextVar[AtCommit | None] = ContextVar("muelle_at_commit", default=None)
"""What a request wants written by each transaction that it commits (see `kit.http.idempotency`)."""


@contextmanager
def aside() -> Iterator[None]:
    """For notes that are taken beside a request, such as how often it was tried: they are no effect of it, and it may
    still be refused."""
    token = at_commit.set(None)
    try:
        yield
    finally:
        at_commit.reset(token)


class Reading:
    """Reads. Each statement sees what was committed when it began."""

    def __init__(self, connection: AsyncConnection, postgres: bool) -> None:
        self._connection = connection
        self.postgres = postgres

    async def all(self, statement: Executable, values: Mapping[str, Any] | None = None) -> Sequence[Row[Any]]:
        return (await self._connection.execute(statement, values)).all()

    async def first(self, statement: Executable, values: Mapping[str, Any] | None = None) -> Row[Any] | None:
        return (await self._connection.execute(statement, values)).first()

    async def scalar(self, statement: Executable, values: Mapping[str, Any] | None = None) -> Any:
        return (await self._connection.execute(statement, values)).scalar()


class Transaction(Reading):
    """Reads and writes that happen together or not at all."""

    def __init__(self, database: Database, connection: AsyncConnection) -> None:
        super().__init__(connection, database.postgres)
        self.database = database
        self.afterwards: list[Callable[[], object]] = []

    async def run(self, statement: Executable, values: Any = None) -> CursorResult[Any]:
        """Writes; `rowcount` of the answer tells a guarded update whether it was still true."""
        return await self._connection.execute(statement, values)

    async def insert_new(self, table: Table, rows: Sequence[Mapping[str, Any]], returning: Any) -> list[Any]:
        """Inserts what is not there yet and returns that column of the rows that were new."""
        if not rows:
            return []
        insert: Any = postgresql_insert if self.postgres else sqlite_insert
        statement = insert(table).on_conflict_do_nothing().returning(returning)
        return list((await self._connection.execute(statement, list(rows))).scalars())

    def after_commit(self, call: Callable[[], object]) -> None:
        """Calls, once it is true for everybody: to wake a loop, never to do the work itself."""
        self.afterwards.append(call)

    @asynccontextmanager
    async def savepoint(self) -> AsyncIterator[None]:
        """A part that may fail alone."""
        async with self._connection.begin_nested():
            yield


class Database:
    def __init__(
        self, name: str, writer: AsyncEngine, reader: AsyncEngine, *, postgres: bool, patient: AsyncEngine | None = None
    ) -> None:
        self.name = name
        self.postgres = postgres
        self._writer = writer
        self._reader = reader
        self._patient = patient or writer
        self._turn: asyncio.Lock | None = None if postgres else asyncio.Lock()

    @property
    def shared(self) -> bool:
        """Whether other processes may work on it beside us, so that work has to be claimed."""
        return self.postgres

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        with transaction_section(self.name):
            async with self._turn or nullcontext(), self._writer.begin() as connection:
                tx = Transaction(self, connection)
                yield tx
                mark = at_commit.get()
                if mark is not None:
                    await mark(tx)
        for call in tx.afterwards:
            call()

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[Reading]:
        refuse_beside_own_transaction(self.name)
        async with self._reader.connect() as connection:
            yield Reading(connection, self.postgres)

    @asynccontextmanager
    async def plain_connection(self) -> AsyncIterator[AsyncConnection]:
        """A bare connection inside a transaction: for migrations, which bring their statements and take their time."""
        async with self._turn or nullcontext(), self._patient.begin() as connection:
            yield connection

    async def check(self) -> str:
        """Says what it is, if it answers."""
        async with self.reading() as reader:
            await reader.scalar(text("SELECT 1" if self.postgres else "SELECT count(*) FROM sqlite_master"))
        return "PostgreSQL" if self.postgres else "SQLite"

    async def close(self) -> None:
        await self._writer.dispose()
        if self._reader is not self._writer:
            await self._reader.dispose()


def open_database(room: str, *, folder: Path, url: str = "") -> Database:
    """Opens a room's database: a file in the folder, or what the address says (`{room}` in it is filled in)."""
    return _open_postgres(room, url.replace("{room}", room)) if url else _open_sqlite(room, folder / f"{room}.db")


def _open_sqlite(room: str, path: Path) -> Database:
    path.parent.mkdir(parents=True, exist_ok=True)
    url = f"sqlite+aiosqlite:///{path}"
    writer = create_async_engine(
        url,
        poolclass=AsyncAdaptedQueuePool,
        pool_size=1,
        max_overflow=0,
        pool_reset_on_return=None,
        hide_parameters=True,
    )
    reader = create_async_engine(
        url,
        poolclass=AsyncAdaptedQueuePool,
        pool_size=SQLITE_READERS,
        max_overflow=0,
        isolation_level="AUTOCOMMIT",
        skip_autocommit_rollback=True,
        hide_parameters=True,
    )
    _prepare_sqlite(writer, "PRAGMA synchronous=FULL", "PRAGMA foreign_keys=ON")
    _prepare_sqlite(reader, "PRAGMA query_only=ON")
    event.listen(writer.sync_engine, "connect", lambda connection, _record: connection.run_async(_use_wal))
    event.listen(writer.sync_engine, "begin", lambda connection: connection.exec_driver_sql(_BEGIN))
    event.listen(writer.sync_engine, "handle_error", _notice_lost_transaction)
    event.listen(writer.sync_engine, "reset", _roll_back_what_is_left)
    event.listen(writer.sync_engine, "handle_error", lambda context: trouble(room, context.original_exception))
    event.listen(reader.sync_engine, "handle_error", lambda context: _trouble_of_a_reader(room, context))
    return Database(room, writer, reader, postgres=False)


def _prepare_sqlite(engine: AsyncEngine, *pragmas: str) -> None:
    def on_connect(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # the driver begins nothing by itself
        cursor = connection.cursor()
        for pragma in (f"PRAGMA busy_timeout={BUSY_SECONDS * 1000}", *pragmas):
            cursor.execute(pragma)
        cursor.close()

    event.listen(engine.sync_engine, "do_connect", one_trip.connect)
    event.listen(engine.sync_engine, "connect", on_connect)


async def _use_wal(driver: Connection) -> None:
    """Unlike any other statement, this one does not wait for another process that opens the same new file."""
    until = asyncio.get_running_loop().time() + BUSY_SECONDS
    while True:
        try:
            await driver.execute("PRAGMA journal_mode=WAL")
        except OperationalError:
            if asyncio.get_running_loop().time() > until:
                raise
            await asyncio.sleep(0.02)
        else:
            return


def _notice_lost_transaction(context: ExceptionContext) -> None:
    """A full disk makes SQLite roll back the whole transaction, unasked: nothing more may be written on its connection.

    What would follow, the record of the failure say, would otherwise be committed by itself, statement by statement.
    """
    connection = context.connection
    if connection is None or connection.invalidated or context.statement == _BEGIN:
        return
    driver: Any = connection.connection.driver_connection
    if not driver.in_transaction:
        context.is_disconnect = True
        context.invalidate_pool_on_disconnect = False


def _trouble_of_a_reader(room: str, context: ExceptionContext) -> Exception | None:
    """Readers are never to write: where one tries, that is a mistake of ours."""
    told = trouble(room, context.original_exception)
    return None if isinstance(told, DatabaseReadOnly) else told


def _roll_back_what_is_left(connection: Any, _record: Any, state: Any) -> None:
    """In place of a rollback after each commit, which would be one more trip to the connection's thread."""
    if not state.terminate_only and connection.driver_connection.in_transaction:
        connection.rollback()


def _open_postgres(room: str, url: str) -> Database:
    address = make_url(url).set(drivername="postgresql+asyncpg")
    settings = {
        "server_settings": {"search_path": room, "application_name": f"muelle-{room}"},
        "timeout": POSTGRES_CONNECT_SECONDS,
    }
    writer = create_async_engine(
        address,
        pool_size=POSTGRES_CONNECTIONS,
        max_overflow=0,
        pool_pre_ping=True,
        hide_parameters=True,
        connect_args={**settings, "command_timeout": POSTGRES_STATEMENT_SECONDS},
    )
    reader = writer.execution_options(isolation_level="AUTOCOMMIT")
    patient = create_async_engine(address, poolclass=NullPool, hide_parameters=True, connect_args=settings)
    return Database(room, writer, reader, postgres=True, patient=patient)
