"""Upgrades databases in a process of its own, so that a server's first start leaves it as small as any other.

What upgrades them, once loaded, would stay in the server's memory for as long as it runs. The process is told on its
stdin what to do, because an address may bear a password, and anybody on the machine can see arguments.
"""

from __future__ import annotations

import asyncio
import json
import sys
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import Mapping
from pathlib import Path

from muelle.cli import told_in_sentences
from muelle.kit import logs
from muelle.kit.db import open_database
from muelle.kit.db.migrations import Line, migrate
from muelle.kit.errors import Unavailable

NOT_FROM_THE_PRESENT_FOLDER = "-P"
"""Where somebody starts a server is not where its code comes from."""


class UpgradeKilled(Unavailable):
    """The upgrade of the databases was ended by signal {signal}."""

    hint = "Start again: nothing of it was written by halves. `dmesg` may tell whether memory ran out."


class NotUpgraded(Exception):
    """The upgrade failed, and has said why."""

    def __init__(self, code: int) -> None:
        self.code = code
        super().__init__(f"the upgrade of the databases ended with code {code}")


async def upgrade_apart(home: Path, url: str, lines: Mapping[str, Line]) -> None:
    """Upgrades these rooms' databases and returns once it is done. Cancelled, it ends that process as a power cut does.

    The process is in a session of its own, so that Ctrl-C reaches it through us alone, and not before us.
    """
    work = {
        "home": str(home),
        "url": url,
        "lines": {room: [line.name, str(line.folder)] for room, line in lines.items()},
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, NOT_FROM_THE_PRESENT_FOLDER, "-m", __name__),
        stdin=PIPE,
        stdout=DEVNULL,
        start_new_session=True,
    )
    try:
        await process.communicate(json.dumps(work).encode())
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    code = await process.wait()
    if code < 0:
        raise UpgradeKilled(signal=-code)
    if code:
        raise NotUpgraded(code)


def main() -> None:
    """That process, from its beginning to its end."""
    logs.quiet()
    work = json.load(sys.stdin)
    lines = {room: Line(name, Path(folder)) for room, (name, folder) in work["lines"].items()}
    asyncio.run(_upgrade(Path(work["home"]), work["url"], lines))


async def _upgrade(home: Path, url: str, lines: Mapping[str, Line]) -> None:
    for room, line in lines.items():
        database = open_database(room, folder=home, url=url)
        try:
            await migrate(database, line)
        finally:
            await database.close()


if __name__ == "__main__":
    told_in_sentences(main)
