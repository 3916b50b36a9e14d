"""Brings a room's tables to the state that the code expects, by Alembic, in numbered steps.

Each database has two lines of migrations: `kit` (outbox, inbox, leases: the same in every room) and the room's own.
Files are called `0001_what_it_does.py`, the number being the revision, so that the newest revision is known without
loading Alembic, which a server never does itself (see `cli.migrating`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncConnection

from muelle.kit.db.database import Database
from muelle.kit.errors import Conflict

_ENVIRONMENT = Path(__file__).parent / "alembic"
_LOCK_KEY = 0x6D75656C6C65  # "muelle": one migration at a time on a shared PostgreSQL


class DatabaseIsNewer(Conflict):
    """The database "{database}" was written by a newer Muelle: {line} is at revision {found}, known is {known}."""

    hint = "Start the newer version again, or restore the backup that was made before the upgrade."


@dataclass(frozen=True)
class Line:
    """A line of migrations: its name and the folder with its steps."""

    name: str
    folder: Path

    @property
    def revisions(self) -> list[str]:
        return sorted(m[1] for path in self.folder.glob("*.py") if (m := re.match(r"(\d{4})_", path.name)))

    @property
    def head(self) -> str:
        return self.revisions[-1]

    @property
    def version_table(self) -> str:
        return f"{self.name}_revision"


KIT = Line("kit", Path(__file__).parent / "furniture")


@dataclass(frozen=True)
class Step:
    database: str
    line: str
    before: str | None
    after: str


async def is_behind(database: Database, room: Line) -> bool:
    """Whether `migrate` has anything to do here. A database of a newer version is refused, as it is there."""
    async with database.plain_connection() as connection:
        return any([await _known_revision(connection, database, line) != line.head for line in (KIT, room)])


async def migrate(database: Database, room: Line, *, target: str | None = None) -> list[Step]:
    """Upgrades both lines of a database (to `target`, for the room's line, in tests) and tells what was done."""
    async with database.plain_connection() as connection:
        if database.postgres:
            await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK_KEY})
            await connection.execute(text(f'CREATE SCHEMA IF NOT EXISTS "{database.name}"'))
        steps = []
        for line in (KIT, room):
            goal = target if target and line is room else line.head
            before = await _known_revision(connection, database, line)
            if before != goal:
                await connection.run_sync(_run_alembic, line, goal)
                steps.append(Step(database.name, line.name, before, goal))
        return steps


async def current_revision(connection: AsyncConnection, line: Line) -> str | None:
    tables = await connection.run_sync(lambda sync: sync.dialect.get_table_names(sync))
    if line.version_table not in tables:
        return None
    found = await connection.scalar(text(f'SELECT version_num FROM "{line.version_table}"'))  # noqa: S608 - our name
    return None if found is None else str(found)


async def _known_revision(connection: AsyncConnection, database: Database, line: Line) -> str | None:
    found = await current_revision(connection, line)
    if found is not None and found not in line.revisions:
        raise DatabaseIsNewer(database=database.name, line=line.name, found=found, known=line.head)
    return found


def _run_alembic(connection: Connection, line: Line, goal: str) -> None:
    from alembic import command  # noqa: PLC0415 - loaded only when there is something to do
    from alembic.config import Config  # noqa: PLC0415

    config = Config(attributes={"connection": connection, "version_table": line.version_table})
    config.set_main_option("script_location", str(_ENVIRONMENT).replace("%", "%%"))
    config.set_main_option("version_locations", str(line.folder).replace("%", "%%"))
    config.set_main_option("path_separator", "newline")
    command.upgrade(config, goal)
