"""What the machine does to a SQLite file, as sentences: a full disk, a broken one, a file that may only be read.

Told by SQLite's own codes, for its texts are for programmers. All of them are no mistake of ours and no caller's.
"""

from __future__ import annotations

import sqlite3

from muelle.kit.errors import Unavailable

_PRIMARY = 0xFF
"""SQLite says more in the upper bits than there is to tell here."""


class DiskFull(Unavailable):
    """The disk with the database "{database}" is full: nothing was written."""

    hint = "Make room on it, then send that again; `muelle doctor` tells how much is left."


class DatabaseBusy(Unavailable):
    """Another program has kept the database "{database}" to itself for too long."""

    hint = "Send it again in a moment. If it stays, see which program has the file open: `fuser -v {database}.db`."


class DiskBroken(Unavailable):
    """The disk with the database "{database}" fails to read or to write."""

    hint = "`dmesg` tells what is wrong with it. Make a copy of the home while it can still be read."


class DatabaseReadOnly(Unavailable):
    """The database "{database}" can be read, but not written."""

    hint = "See whose {database}.db and its folder are, and that their disk is not mounted read-only."


_TROUBLES: dict[int, type[Unavailable]] = {
    sqlite3.SQLITE_FULL: DiskFull,
    sqlite3.SQLITE_BUSY: DatabaseBusy,
    sqlite3.SQLITE_IOERR: DiskBroken,
    sqlite3.SQLITE_READONLY: DatabaseReadOnly,
}


def trouble(database: str, problem: BaseException) -> Unavailable | None:
    """What a driver's error means for whoever asked; None where it means a mistake of ours."""
    code = getattr(problem, "sqlite_errorcode", None)
    kind = None if code is None else _TROUBLES.get(code & _PRIMARY)
    return None if kind is None else kind(database=database)
