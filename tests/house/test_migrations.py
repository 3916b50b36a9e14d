"""Upgrades: from nothing and from every earlier revision, on both databases, to exactly the tables that the code has.

A new migration is tested by being there. Where it adds a constraint that the made-up rows below do not keep, they get a
value for it in `ALLOWED`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import CheckConstraint, Connection, MetaData, Table, inspect, select

from muelle.app import LINES
from muelle.audit.store import metadata as audit_tables
from muelle.identity.tables import metadata as identity_tables
from muelle.ingress.store import metadata as ingress_tables
from muelle.kit.db import Database, open_database
from muelle.kit.db.migrations import KIT, DatabaseIsNewer, Line, migrate
from muelle.kit.db.tables import furniture
from muelle.workloads.tables import metadata as workload_tables
from tests.servers.supply import Servers

TABLES: dict[str, list[MetaData]] = {
    "kit": [furniture],
    "identity": [furniture, identity_tables],
    "audit": [furniture, audit_tables],
    "workloads": [furniture, workload_tables],
    "ingress": [furniture, ingress_tables],
}
ALL_LINES = {"kit": KIT, **LINES}
ALLOWED: dict[str, Any] = {
    "accounts.role": "client",
    "accounts.role_why": "default",
    "accounts.state": "active",
    "deliveries.state": "parked",
    "answers.state": "running",
    "head.id": 1,
    "workloads.wish": "running",
    "deployments.state": "queued",
    "routes.route": "open",
}
"""What a made-up row holds where a constraint leaves it little choice."""

BEFORE = [(name, revision) for name, line in ALL_LINES.items() for revision in [None, *line.revisions]]


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.needs("postgres"))])
def address(request: pytest.FixtureRequest, servers: Servers) -> Iterator[str]:
    """Of a database that nobody else uses; none where it is a file."""
    with ExitStack() as stack:
        yield stack.enter_context(servers.postgres_url()) if request.param == "postgres" else ""


def test_every_room_has_its_tables_looked_at() -> None:
    assert set(TABLES) == set(ALL_LINES)


@pytest.mark.parametrize("name", ALL_LINES)
def test_revisions_are_numbered_without_a_gap(name: str) -> None:
    line = ALL_LINES[name]
    assert line.revisions == [f"{number:04}" for number in range(1, len(line.revisions) + 1)]


@pytest.mark.parametrize(("name", "before"), BEFORE, ids=lambda part: part or "nothing")
async def test_an_upgrade_ends_with_the_tables_of_the_code_and_keeps_every_row(
    tmp_path: Path, address: str, name: str, before: str | None
) -> None:
    line = ALL_LINES[name]
    async with opened(tmp_path, address, line) as database:
        kept: dict[str, dict[str, Any]] = {}
        if before is not None:
            await migrate(database, line, target=before)
            async with database.plain_connection() as connection:
                kept = await connection.run_sync(fill)
        steps = await migrate(database, line)
        assert [step.after for step in steps if step.line == line.name] == ([line.head] if before != line.head else [])
        async with database.plain_connection() as connection:
            assert await connection.run_sync(differences, name) == []
            assert await connection.run_sync(lost, kept) == []
        assert await migrate(database, line) == [], "doing it again does nothing"


async def test_replicas_that_start_together_upgrade_once(tmp_path: Path, address: str) -> None:
    line = ALL_LINES["identity"]
    async with opened(tmp_path, address, line) as one, opened(tmp_path, address, line) as other:
        steps = await asyncio.gather(migrate(one, line), migrate(other, line))
        assert sorted(len(done) for done in steps) == [0, 2]


async def test_an_upgrade_that_fails_leaves_nothing_half_done(tmp_path: Path, address: str) -> None:
    folder = tmp_path / "steps"
    folder.mkdir()
    line = Line("audit", folder)
    (folder / "0001_one.py").write_text(STEP.format(number="0001", before=None, then=""))
    (folder / "0002_two.py").write_text(STEP.format(number="0002", before="0001", then="raise RuntimeError('no')"))
    async with opened(tmp_path, address, line) as database:
        await migrate(database, line, target="0001")
        with pytest.raises(RuntimeError):
            await migrate(database, line)
        async with database.plain_connection() as connection:
            names = await connection.run_sync(lambda sync: set(inspect(sync).get_table_names()))
        assert "made_in_0001" in names
        assert "made_in_0002" not in names
        assert (await migrate(database, line, target="0001")) == []


async def test_a_database_of_a_newer_version_is_refused(tmp_path: Path, address: str) -> None:
    line = ALL_LINES["audit"]
    async with opened(tmp_path, address, line) as database:
        await migrate(database, line)
        async with database.plain_connection() as connection:
            await connection.exec_driver_sql("UPDATE audit_revision SET version_num = '9999'")
        with pytest.raises(DatabaseIsNewer, match="audit is at revision 9999, known is") as refused:
            await migrate(database, line)
    assert "restore the backup" in refused.value.advice


STEP = """
import sqlalchemy as sa
from alembic import op

revision = "{number}"
down_revision = {before!r}


def upgrade() -> None:
    op.create_table("made_in_{number}", sa.Column("id", sa.Integer, primary_key=True))
    {then}
"""


@asynccontextmanager
async def opened(folder: Path, address: str, line: Line) -> AsyncIterator[Database]:
    database = open_database(line.name, folder=folder, url=address)
    try:
        yield database
    finally:
        await database.close()


def differences(connection: Connection, name: str) -> list[Any]:
    """How the tables there differ from those that the code has, as Alembic sees it and in what it overlooks."""
    versions = {line.version_table for line in ALL_LINES.values()}
    context = MigrationContext.configure(
        connection,
        opts={"compare_type": True, "include_name": lambda found, kind, _: kind != "table" or found not in versions},
    )
    found: list[Any] = compare_metadata(context, together(TABLES[name]))
    there = inspect(connection)
    for table in (table for metadata in TABLES[name] for table in metadata.sorted_tables):
        key = set(there.get_pk_constraint(table.name)["constrained_columns"])
        if key != {column.name for column in table.primary_key}:
            found.append(f"the primary key of {table.name}")
        checks = {check["name"] for check in there.get_check_constraints(table.name)}
        if checks != {check.name for check in table.constraints if isinstance(check, CheckConstraint)}:
            found.append(f"the checks of {table.name}: there are {sorted(map(str, checks))}")
    return found


def together(parts: list[MetaData]) -> MetaData:
    whole = MetaData()
    for table in (table for part in parts for table in part.sorted_tables):
        table.to_metadata(whole)
    return whole


def fill(connection: Connection) -> dict[str, dict[str, Any]]:
    """Puts a row into each table that has none, and tells what each then holds."""
    there = MetaData()
    there.reflect(connection)
    for table in there.sorted_tables:
        if connection.execute(select(table)).first() is None:
            connection.execute(table.insert().values({column.name: made_up(table, column) for column in table.c}))
    return {table.name: first_row(connection, table) for table in there.sorted_tables}


def lost(connection: Connection, kept: dict[str, dict[str, Any]]) -> list[str]:
    """What is not there any more, or not the same, though its column is."""
    there = MetaData()
    there.reflect(connection)
    gone = []
    for name, before in kept.items():
        after = first_row(connection, there.tables[name]) if name in there.tables else {}
        versioned = name.endswith("_revision")
        gone += [f"{name}.{key}" for key in before if not versioned and key in after and after[key] != before[key]]
        gone += [name] if name in there.tables and not after else []
    return gone


def first_row(connection: Connection, table: Table) -> dict[str, Any]:
    row = connection.execute(select(table)).first()
    return {} if row is None else dict(row._mapping)


def made_up(table: Table, column: Any) -> Any:
    if (known := ALLOWED.get(f"{table.name}.{column.name}")) is not None:
        return known
    for key in column.foreign_keys:  # every row refers to the one row of the other table
        return made_up(key.column.table, key.column)
    kind = column.type.python_type
    return {int: 1, bool: True, bytes: b"kept", str: f"kept {column.name}"[: getattr(column.type, "length", None)]}[
        kind
    ]
