"""A first start upgrades its databases in another process, which ends with it and says what went wrong."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from muelle.cli.migrating import NotUpgraded, UpgradeKilled, upgrade_apart
from muelle.kit.db import open_database
from muelle.kit.db.migrations import Line, is_behind
from tests.cli.machine import Machine
from tests.waiting import eventually

STOPS_WITHIN_SECONDS = 5.0

LOOK = """
import asyncio, sys
from muelle import config
from muelle.app import ROOMS
from muelle.cli.run import _started

async def main():
    application, first = await _started(config.load(), ROOMS)
    await application.stop()
    print("first" if first else "again", *(name for name in sys.modules if name in ("alembic", "mako")))

asyncio.run(main())
"""

STEP_THAT_WAITS = """
import os, pathlib, signal

revision = "0001"
down_revision = None


def upgrade():
    pathlib.Path({note!r}).write_text(str(os.getpid()))
    signal.pause()
"""

STEP_THAT_DIES = """
import os, signal

revision = "0001"
down_revision = None


def upgrade():
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def line(tmp_path: Path) -> Line:
    folder = tmp_path / "steps"
    folder.mkdir()
    return Line("harbour", folder)


def test_a_first_start_does_not_load_what_upgrades_databases(machine: Machine) -> None:
    told = [
        subprocess.run(
            [sys.executable, "-c", LOOK], env=machine.environment({}), capture_output=True, text=True, check=True
        ).stdout
        for _ in range(2)
    ]
    assert told == ["first\n", "again\n"]


def test_why_an_upgrade_fails_is_told_once_and_the_start_ends(machine: Machine) -> None:
    assert machine.quick("migrate").code == 0
    with sqlite3.connect(machine.home / "identity.db") as database:
        database.execute("DELETE FROM identity_revision")  # so that it is made once more, which cannot be
    refused = machine.quick("up")
    assert (refused.code, refused.out) == (1, "")
    assert refused.err.count("muelle: The database cannot do that: table accounts already exists.") == 1
    assert len(refused.err.splitlines()) == 2, refused.err


def test_a_room_by_itself_makes_no_database_of_another(machine: Machine) -> None:
    shared = {
        "MUELLE_RABBIT_URL": "amqp://nobody@127.0.0.1:1/",
        "MUELLE_SECRET_KEY": "long enough to be a secret key, and no secret",
    }
    running = machine.start("serve", "identity", **shared)
    try:
        asyncio.run(eventually(lambda: upgraded(machine, "identity"), 30))
        assert not (machine.home / "audit.db").exists()
    finally:
        running.discard()


def test_ctrl_c_in_the_middle_of_an_upgrade_ends_both(machine: Machine) -> None:
    running = machine.start("up")
    upgrade = asyncio.run(eventually(lambda: upgrade_of(running.process.pid), 30))
    os.kill(upgrade, signal.SIGSTOP)  # so that it does not come to its end meanwhile
    code, seconds = running.end(signal.SIGINT)
    assert (code, running.out) == (0, "")
    assert seconds < STOPS_WITHIN_SECONDS
    with pytest.raises(ProcessLookupError):
        os.kill(upgrade, 0)
    running.discard()
    with machine.running() as again:
        assert "First log-in" in again.out


async def test_what_ends_us_ends_the_upgrade(tmp_path: Path, line: Line) -> None:
    note = tmp_path / "pid"
    (line.folder / "0001_waits.py").write_text(STEP_THAT_WAITS.format(note=str(note)))
    upgrading = asyncio.create_task(upgrade_apart(tmp_path, "", {"harbour": line}))
    process = int(await eventually(lambda: note.exists() and note.read_text(), 30))
    assert os.getsid(process) == process, "Ctrl-C would reach it before us"
    upgrading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await upgrading
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)
    database = open_database("harbour", folder=tmp_path)
    assert await is_behind(database, line), "nothing of it is there"
    await database.close()


async def test_an_upgrade_that_is_killed_is_told(tmp_path: Path, line: Line) -> None:
    (line.folder / "0001_dies.py").write_text(STEP_THAT_DIES)
    with pytest.raises(UpgradeKilled, match="ended by signal 9"):
        await upgrade_apart(tmp_path, "", {"harbour": line})


async def test_an_upgrade_that_fails_has_told_why(
    tmp_path: Path, line: Line, capfd: pytest.CaptureFixture[str]
) -> None:
    (line.folder / "0001_nothing.py").write_text('revision = "0001"\ndown_revision = None\ndef upgrade(): ...\n')
    await upgrade_apart(tmp_path, "", {"harbour": line})
    (line.folder / "0001_nothing.py").rename(line.folder / "0000_nothing.py")
    with pytest.raises(NotUpgraded) as failed:
        await upgrade_apart(tmp_path, "", {"harbour": line})
    assert failed.value.code == 1
    told = capfd.readouterr().err
    assert 'muelle: The database "harbour" was written by a newer Muelle: harbour is at revision 0001' in told
    assert "        Start the newer version again" in told


def upgrade_of(server: int) -> int:
    """The process in which the server upgrades its databases, or 0."""
    children = Path(f"/proc/{server}/task/{server}/children").read_text().split()
    found = [int(child) for child in children if b"muelle.cli.migrating" in Path(f"/proc/{child}/cmdline").read_bytes()]
    return found[0] if found else 0


def upgraded(machine: Machine, room: str) -> bool:
    with sqlite3.connect(f"file:{machine.home / room}.db?mode=ro", uri=True) as database:
        return bool(database.execute(f"SELECT 1 FROM {room}_revision").fetchone())  # noqa: S608 - our name
