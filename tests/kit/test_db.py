"""Databases: transactions that happen wholly or not at all, readers beside a writer, and migrations, on both kinds."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import closing
from contextvars import Context
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Column, Integer, MetaData, String, Table, event, inspect, select, text, update
from sqlalchemy.dialects.sqlite import dialect
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError, PendingRollbackError

import muelle.kit.bus.inbox
import muelle.kit.bus.outbox
import muelle.kit.loops  # noqa: F401 - with the two above: so that all the furniture is known
from muelle.kit.db import (
    Database,
    Instant,
    SlowCallInTransaction,
    aside,
    database,
    open_database,
    refuse_inside_transaction,
)
from muelle.kit.db.database import at_commit
from muelle.kit.db.guard import NestedTransaction, ReadingBesideTransaction
from muelle.kit.db.migrations import KIT, DatabaseIsNewer, Line, Step, current_revision, migrate
from muelle.kit.db.tables import furniture
from muelle.kit.db.troubles import DatabaseBusy, DatabaseReadOnly, DiskBroken, DiskFull, trouble

on_postgres = pytest.mark.needs("postgres")

metadata = MetaData()
boats = Table(
    "boats",
    metadata,
    Column("name", String(50), primary_key=True),
    Column("crew", Integer, nullable=False),
)

FIRST_STEP = """
import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "boats",
        sa.Column("name", sa.String(50), primary_key=True),
        sa.Column("crew", sa.Integer, nullable=False),
    )
"""

SECOND_STEP = """
import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    with op.batch_alter_table("boats") as table:
        table.add_column(sa.Column("colour", sa.String(20), nullable=False, server_default="grey"))
        table.create_check_constraint("crew_is_not_negative", "crew >= 0")
"""

FAILING_STEP = """
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.drop_table("boats")
    op.execute("SELECT * FROM nowhere")
"""


@pytest.fixture
def line(tmp_path: Path) -> Line:
    folder = tmp_path / "steps"
    folder.mkdir()
    (folder / "0001_boats.py").write_text(FIRST_STEP)
    return Line("harbour", folder)


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=on_postgres)])
def url(request: pytest.FixtureRequest) -> str:
    """Empty for SQLite."""
    return "" if request.param == "sqlite" else str(request.getfixturevalue("postgres_url"))


@pytest.fixture
async def bare(tmp_path: Path, url: str) -> AsyncIterator[Database]:
    """Without any tables."""
    database = open_database("harbour", folder=tmp_path, url=url)
    yield database
    await database.close()


@pytest.fixture
async def db(bare: Database, line: Line) -> Database:
    await migrate(bare, line)
    return bare


@pytest.fixture
async def sqlite(tmp_path: Path, line: Line) -> AsyncIterator[Database]:
    database = open_database("harbour", folder=tmp_path)
    await migrate(database, line)
    yield database
    await database.close()


async def launch(db: Database, name: str, crew: int = 0) -> None:
    async with db.transaction() as tx:
        await tx.run(boats.insert().values(name=name, crew=crew))


async def names(db: Database) -> list[str]:
    async with db.reading() as reader:
        return [row.name for row in await reader.all(select(boats).order_by(boats.c.name))]


# --- transactions


async def test_what_is_committed_is_there(db: Database) -> None:
    await launch(db, "Esperanza", crew=3)
    async with db.reading() as reader:
        assert await reader.all(select(boats)) == [("Esperanza", 3)]
        assert await reader.first(select(boats.c.crew)) == (3,)
        assert await reader.scalar(select(boats.c.crew)) == 3
        assert await reader.first(select(boats).where(boats.c.crew > 3)) is None


async def test_what_fails_leaves_nothing(db: Database) -> None:
    async def fail() -> None:
        async with db.transaction() as tx:
            await tx.run(boats.insert().values(name="Esperanza", crew=1))
            raise RuntimeError("after the first of two writes")

    with pytest.raises(RuntimeError, match="first of two"):
        await fail()
    assert await names(db) == []
    await launch(db, "Santa Ana")
    assert await names(db) == ["Santa Ana"]


async def test_a_statement_that_fails_leaves_nothing_of_its_transaction(db: Database) -> None:
    await launch(db, "Esperanza")

    async def launch_two() -> None:
        async with db.transaction() as tx:
            await tx.run(boats.insert().values(name="Santa Ana", crew=0))
            await tx.run(boats.insert().values(name="Esperanza", crew=0))

    with pytest.raises(IntegrityError):
        await launch_two()
    assert await names(db) == ["Esperanza"]


async def test_a_transaction_that_is_cancelled_leaves_nothing_and_blocks_nobody(db: Database) -> None:
    for turns in range(12):
        started = asyncio.create_task(launch(db, f"boat {turns}"))
        for _ in range(turns):
            await asyncio.sleep(0)
        started.cancel()
        await asyncio.gather(started, return_exceptions=True)
    before = await names(db)
    await asyncio.wait_for(launch(db, "last"), 5)
    assert set(await names(db)) == {*before, "last"}


async def test_a_savepoint_may_fail_alone(db: Database) -> None:
    async with db.transaction() as tx:
        await tx.run(boats.insert().values(name="Esperanza", crew=0))
        for _ in range(2):
            try:
                async with tx.savepoint():
                    await tx.run(boats.insert().values(name="Santa Ana", crew=0))
            except IntegrityError:
                continue
    assert await names(db) == ["Esperanza", "Santa Ana"]


async def test_a_reader_sees_only_what_is_committed(db: Database) -> None:
    elsewhere = Context()
    async with db.transaction() as tx:
        await tx.run(boats.insert().values(name="Esperanza", crew=0))
        assert await asyncio.create_task(names(db), context=elsewhere) == []
    assert await names(db) == ["Esperanza"]


async def test_a_guarded_update_tells_whether_it_was_still_true(db: Database) -> None:
    await launch(db, "Esperanza", crew=1)
    async with db.transaction() as tx:
        hire = update(boats).where(boats.c.crew == 1).values(crew=2)
        assert [(await tx.run(hire)).rowcount for _ in range(2)] == [1, 0]


async def test_inserting_what_is_new_tells_what_was_new(db: Database) -> None:
    await launch(db, "boat 7")
    rows = [{"name": f"boat {n}", "crew": n} for n in range(600)]
    async with db.transaction() as tx:
        new = await tx.insert_new(boats, [*rows, rows[3]], boats.c.name)
        assert await tx.insert_new(boats, [], boats.c.name) == []
    assert sorted(new) == sorted(row["name"] for row in rows if row["name"] != "boat 7")
    assert len(await names(db)) == 600


# --- what a transaction forbids, and what it does at its end


async def test_a_transaction_inside_another_is_refused(db: Database) -> None:
    async with db.transaction():
        with pytest.raises(NestedTransaction, match="harbour"):
            await launch(db, "Esperanza")
    await launch(db, "Esperanza")


async def test_a_reading_beside_ones_own_transaction_is_refused(db: Database, tmp_path: Path) -> None:
    async with db.transaction() as tx:
        with pytest.raises(ReadingBesideTransaction, match="harbour"):
            await names(db)
        assert await tx.all(select(boats)) == []
        other = open_database("other", folder=tmp_path)
        async with other.reading() as reader:
            assert await reader.scalar(text("SELECT 1")) == 1
        await other.close()
    assert await names(db) == []


async def test_a_slow_call_inside_a_transaction_is_refused(db: Database) -> None:
    async with db.transaction():
        with pytest.raises(SlowCallInTransaction, match=r'the engine was called .* "harbour"'):
            refuse_inside_transaction("the engine")
    refuse_inside_transaction("the engine")
    async with db.reading():
        refuse_inside_transaction("the engine")


async def test_a_task_of_a_transaction_may_call_slowly_once_it_is_over(db: Database) -> None:
    over = asyncio.Event()

    async def call() -> None:
        with pytest.raises(SlowCallInTransaction):
            refuse_inside_transaction("the engine")
        await over.wait()
        refuse_inside_transaction("the engine")

    async with db.transaction():
        task = asyncio.create_task(call())
        await asyncio.sleep(0)
    over.set()
    await task


async def test_after_commit_means_after_it_is_true_for_everybody(db: Database) -> None:
    order: list[str] = []
    event.listen(db._writer.sync_engine, "commit", lambda _: order.append("commit"))
    async with db.transaction() as tx:
        tx.after_commit(lambda: order.append("after"))
        await tx.run(boats.insert().values(name="Esperanza", crew=0))
    assert order == ["commit", "after"]


async def test_after_commit_means_not_at_all_without_a_commit(db: Database) -> None:
    called: list[str] = []

    async def fail() -> None:
        async with db.transaction() as tx:
            tx.after_commit(lambda: called.append("after"))
            raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        await fail()
    assert called == []


async def test_what_a_request_wants_written_at_commit_shares_the_transaction(db: Database) -> None:
    async def mark(tx: database.Transaction) -> None:
        await tx.run(boats.insert().values(name="the mark", crew=0))

    token = at_commit.set(mark)
    await launch(db, "Esperanza")
    with pytest.raises(IntegrityError):
        await launch(db, "Santa Ana")
    at_commit.reset(token)
    assert await names(db) == ["Esperanza", "the mark"]


async def test_what_is_written_aside_is_not_marked(db: Database) -> None:
    async def mark(tx: database.Transaction) -> None:
        await tx.run(boats.insert().values(name="the mark", crew=0))

    token = at_commit.set(mark)
    with aside():
        await launch(db, "Esperanza")
    assert at_commit.get() is mark
    at_commit.reset(token)
    assert await names(db) == ["Esperanza"]


# --- SQLite


async def test_fifty_transactions_at_once_write_one_after_the_other(db: Database) -> None:
    await launch(db, "Esperanza")
    inside = most = 0

    async def hire() -> None:
        nonlocal inside, most
        async with db.transaction() as tx:
            inside += 1
            most = max(most, inside)
            await tx.run(update(boats).values(crew=boats.c.crew + 1))
            inside -= 1

    await asyncio.gather(*(hire() for _ in range(50)))
    async with db.reading() as reader:
        assert await reader.scalar(select(boats.c.crew)) == 50
    assert db.postgres or most == 1


async def test_on_sqlite_a_transaction_may_read_and_then_write_what_it_read(sqlite: Database) -> None:
    await launch(sqlite, "Esperanza")

    async def hire() -> None:
        async with sqlite.transaction() as tx:
            crew = await tx.scalar(select(boats.c.crew))
            await asyncio.sleep(0)
            await tx.run(update(boats).values(crew=crew + 1))

    await asyncio.gather(*(hire() for _ in range(50)))
    async with sqlite.reading() as reader:
        assert await reader.scalar(select(boats.c.crew)) == 50


async def test_a_sqlite_file_survives_a_power_cut(sqlite: Database) -> None:
    async with sqlite.transaction() as tx:
        assert await tx.scalar(text("PRAGMA journal_mode")) == "wal"
        assert await tx.scalar(text("PRAGMA synchronous")) == 2
        assert await tx.scalar(text("PRAGMA foreign_keys")) == 1


async def test_a_full_disk_leaves_nothing_of_a_transaction(sqlite: Database) -> None:
    await _leave_room_for_pages(sqlite, 3)

    async def launch_many() -> None:
        async with sqlite.transaction() as tx:
            await tx.run(boats.insert().values(name="first", crew=0))
            for number in range(1000):
                try:
                    async with tx.savepoint():
                        await tx.run(boats.insert().values(name=f"boat {number} {'x' * 500}", crew=0))
                except DiskFull:
                    await tx.run(boats.insert().values(name="after the failure", crew=0))

    with pytest.raises(PendingRollbackError):
        await launch_many()
    assert await names(sqlite) == []
    await _leave_room_for_pages(sqlite, 1000)
    await launch(sqlite, "Esperanza")
    assert await names(sqlite) == ["Esperanza"]


async def test_what_was_to_be_written_is_not_told_in_errors(sqlite: Database) -> None:
    await launch(sqlite, "canary")
    with pytest.raises(IntegrityError) as refused:
        await launch(sqlite, "canary")
    assert "canary" not in str(refused.value)


async def test_a_reading_of_sqlite_cannot_write(sqlite: Database) -> None:
    async with sqlite.reading() as reader:
        with pytest.raises(OperationalError, match="readonly"):
            await reader.all(boats.insert().values(name="Esperanza", crew=0).returning(boats.c.name))


async def test_a_full_disk_is_told_as_such(sqlite: Database) -> None:
    await _leave_room_for_pages(sqlite, 1)
    with pytest.raises(DiskFull, match='"harbour" is full'):
        await launch(sqlite, "x" * 100_000)


async def test_a_file_that_cannot_be_written_is_told_as_such(sqlite: Database) -> None:
    async with sqlite.transaction() as tx:
        await tx.run(text("PRAGMA query_only=ON"))
    with pytest.raises(DatabaseReadOnly, match='"harbour" can be read, but not written'):
        await launch(sqlite, "Esperanza")


@pytest.mark.parametrize(
    ("code", "told"),
    [
        (sqlite3.SQLITE_IOERR_FSYNC, DiskBroken),
        (sqlite3.SQLITE_IOERR_READ, DiskBroken),
        (sqlite3.SQLITE_READONLY_DBMOVED, DatabaseReadOnly),
        (sqlite3.SQLITE_BUSY_SNAPSHOT, DatabaseBusy),
        (sqlite3.SQLITE_CONSTRAINT_UNIQUE, type(None)),
        (sqlite3.SQLITE_ERROR, type(None)),
    ],
)
def test_what_a_code_of_sqlite_means(code: int, told: type) -> None:
    problem = sqlite3.OperationalError("in its own words")
    problem.sqlite_errorcode = code
    assert type(trouble("harbour", problem)) is told


async def _leave_room_for_pages(db: Database, pages: int) -> None:
    async with db.transaction() as tx:
        now = await tx.scalar(text("PRAGMA page_count"))
        await tx.scalar(text(f"PRAGMA max_page_count={now + pages}"))


HOLDER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
connection.execute("INSERT INTO boats (name, crew) VALUES ('theirs', 0)")
print("held", flush=True)
sys.stdin.readline()
connection.execute("COMMIT")
"""


async def test_another_process_that_is_writing_is_waited_for(sqlite: Database, tmp_path: Path) -> None:
    holder = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        HOLDER,
        str(tmp_path / "harbour.db"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert holder.stdin is not None
    assert holder.stdout is not None
    assert await holder.stdout.readline() == b"held\n"
    ours = asyncio.create_task(launch(sqlite, "ours"))
    assert await names(sqlite) == [], "readers do not wait"
    done, _ = await asyncio.wait([ours], timeout=0.1)
    assert not done
    holder.stdin.write(b"\n")
    await ours
    await holder.wait()
    assert await names(sqlite) == ["ours", "theirs"]


async def test_another_process_that_writes_for_too_long_is_told(
    tmp_path: Path, line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "BUSY_SECONDS", 0)
    ours = open_database("harbour", folder=tmp_path)
    await migrate(ours, line)
    with closing(sqlite3.connect(tmp_path / "harbour.db", isolation_level=None)) as theirs:
        theirs.execute("BEGIN IMMEDIATE")
        with pytest.raises(DatabaseBusy, match='kept the database "harbour" to itself'):
            await launch(ours, "Esperanza")
    await launch(ours, "Esperanza")
    assert await names(ours) == ["Esperanza"]
    await ours.close()


MIGRATOR = """
import asyncio, sys
from pathlib import Path
from muelle.kit.db import open_database
from muelle.kit.db.migrations import Line, migrate

async def main(folder):
    database = open_database("harbour", folder=folder)
    print("ready", flush=True)
    sys.stdin.readline()
    print(len(await migrate(database, Line("harbour", folder / "steps"))), flush=True)
    await database.close()

asyncio.run(main(Path(sys.argv[1])))
"""


async def test_two_processes_may_migrate_a_new_file_at_once(tmp_path: Path, line: Line) -> None:
    processes = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-c", MIGRATOR, str(tmp_path), stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        for _ in range(2)
    ]
    for process in processes:
        assert process.stdout is not None
        assert await process.stdout.readline() == b"ready\n"
    told = await asyncio.gather(*(process.communicate(b"\n") for process in processes))
    assert sorted(out for out, _ in told) == [b"0\n", b"2\n"]
    assert [process.returncode for process in processes] == [0, 0]


# --- PostgreSQL


@on_postgres
async def test_rooms_share_a_postgres_in_schemas_of_their_own(tmp_path: Path, line: Line, postgres_url: str) -> None:
    harbour, shipyard = [open_database(room, folder=tmp_path, url=postgres_url) for room in ("harbour", "shipyard")]
    for room in (harbour, shipyard):
        assert [step.line for step in await migrate(room, line)] == ["kit", "harbour"]
    await launch(harbour, "Esperanza")
    assert (await names(harbour), await names(shipyard)) == (["Esperanza"], [])
    async with harbour.reading() as reader:
        assert await reader.scalar(select(text("count(*) FROM shipyard.boats"))) == 0
    for room in (harbour, shipyard):
        await room.close()


@on_postgres
async def test_a_room_has_a_database_of_its_own_where_the_address_says_so(
    tmp_path: Path, line: Line, postgres_url: str
) -> None:
    server, _, name = postgres_url.rpartition("/")
    room = open_database(name, folder=tmp_path, url=f"{server}/{{room}}")
    await migrate(room, line)
    async with room.reading() as reader:
        assert await reader.scalar(text("SELECT current_database()")) == name
    await room.close()


@on_postgres
async def test_a_connection_that_the_server_closed_is_replaced(tmp_path: Path, line: Line, postgres_url: str) -> None:
    room = open_database("harbour", folder=tmp_path, url=postgres_url)
    await migrate(room, line)
    await launch(room, "before")
    other = open_database("other", folder=tmp_path, url=postgres_url)
    async with other.reading() as reader:
        await reader.all(
            text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND application_name = 'muelle-harbour'"
            )
        )
    await launch(room, "after")
    assert await names(room) == ["after", "before"]
    for each in (room, other):
        await each.close()


@on_postgres
async def test_two_migrations_at_once_do_the_work_once(tmp_path: Path, line: Line, postgres_url: str) -> None:
    rooms = [open_database("harbour", folder=tmp_path, url=postgres_url) for _ in range(4)]
    steps = await asyncio.gather(*(migrate(room, line) for room in rooms))
    assert sorted(len(done) for done in steps) == [0, 0, 0, 2]
    for room in rooms:
        await room.close()


@on_postgres
async def test_a_migration_may_take_longer_than_a_statement_may(
    tmp_path: Path, line: Line, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "POSTGRES_STATEMENT_SECONDS", 1)
    slow = FIRST_STEP + '    op.execute("SELECT pg_sleep(1.2)")\n'
    (line.folder / "0001_boats.py").write_text(slow)
    room = open_database("harbour", folder=tmp_path, url=postgres_url)
    assert len(await migrate(room, line)) == 2
    async with room.reading() as reader:
        with pytest.raises((TimeoutError, DBAPIError)):
            await reader.all(text("SELECT pg_sleep(1.2)"))
    await room.close()


# --- migrations


async def test_an_empty_database_gets_everything_and_then_nothing(bare: Database, line: Line) -> None:
    assert await migrate(bare, line) == [
        Step("harbour", "kit", None, KIT.head),
        Step("harbour", "harbour", None, "0001"),
    ]
    assert await migrate(bare, line) == []


async def test_a_newer_version_upgrades_and_keeps_what_is_there(db: Database, line: Line) -> None:
    await launch(db, "Esperanza", crew=3)
    (line.folder / "0002_colour.py").write_text(SECOND_STEP)
    assert await migrate(db, line) == [Step("harbour", "harbour", "0001", "0002")]
    async with db.reading() as reader:
        assert await reader.all(text("SELECT name, crew, colour FROM boats")) == [("Esperanza", 3, "grey")]
    with pytest.raises(IntegrityError):
        await launch(db, "Flying Dutchman", crew=-1)


async def test_a_migration_goes_no_further_than_it_is_told(bare: Database, line: Line) -> None:
    (line.folder / "0002_colour.py").write_text(SECOND_STEP)
    assert (await migrate(bare, line, target="0001"))[-1] == Step("harbour", "harbour", None, "0001")
    assert await migrate(bare, line) == [Step("harbour", "harbour", "0001", "0002")]


async def test_a_step_that_fails_leaves_nothing(db: Database, line: Line) -> None:
    await launch(db, "Esperanza")
    (line.folder / "0002_colour.py").write_text(SECOND_STEP)
    (line.folder / "0003_fails.py").write_text(FAILING_STEP)
    with pytest.raises(Exception, match="nowhere"):
        await migrate(db, line)
    assert await names(db) == ["Esperanza"]
    async with db.plain_connection() as connection:
        assert await current_revision(connection, line) == "0001"


async def test_a_database_from_a_newer_version_is_refused_and_said_what_to_do(db: Database, line: Line) -> None:
    (line.folder / "0002_colour.py").write_text(SECOND_STEP)
    await migrate(db, line)
    (line.folder / "0002_colour.py").unlink()
    with pytest.raises(DatabaseIsNewer) as refused:
        await migrate(db, line)
    assert refused.value.message == (
        'The database "harbour" was written by a newer Muelle: harbour is at revision 0002, known is 0001.'
    )
    assert refused.value.advice == (
        "Start the newer version again, or restore the backup that was made before the upgrade."
    )
    async with db.plain_connection() as connection:
        assert await current_revision(connection, line) == "0002"


async def test_the_furniture_in_the_code_is_what_migrations_make(db: Database) -> None:
    async with db.plain_connection() as connection:

        def columns(sync: object) -> dict[str, list[tuple[str, bool]]]:
            inspector = inspect(sync)
            return {
                table: [(column["name"], column["nullable"]) for column in inspector.get_columns(table)]  # type: ignore[union-attr]
                for table in furniture.tables
            }

        made = await connection.run_sync(columns)
    assert {"outbox", "inbox", "deliveries", "leases"} <= set(made)
    for name, table in furniture.tables.items():
        assert made[name] == [(column.name, column.nullable) for column in table.columns], name


# --- moments


@given(st.datetimes(timezones=st.sampled_from([UTC, timezone(timedelta(hours=-11)), timezone(timedelta(minutes=345))])))
def test_a_moment_comes_back_as_it_was(moment: datetime) -> None:
    kept = Instant().process_bind_param(moment, dialect())
    assert Instant().process_result_value(kept, dialect()) == moment


@given(st.datetimes(timezones=st.just(UTC)), st.datetimes(timezones=st.just(UTC)))
def test_moments_keep_their_order(one: datetime, other: datetime) -> None:
    kept = [Instant().process_bind_param(moment, dialect()) for moment in (one, other)]
    assert (one < other) == (kept[0] < kept[1])  # type: ignore[operator]
