"""The home: the folder with everything that is kept, and the locks that say who works in it."""

from __future__ import annotations

import fcntl
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from muelle.kit.errors import Conflict, Unavailable

TRIES = 5
BETWEEN_TRIES_SECONDS = 0.05


class HomeUnusable(Unavailable):
    """The home {home} cannot be used: {reason}."""

    hint = "See whose it is with `ls -ld {home}`, or set MUELLE_HOME to a folder of yours."


class HomeTaken(Conflict):
    """{who} already works in {home}."""

    hint = "{stop}, or set MUELLE_HOME to another folder."


@dataclass(frozen=True)
class Holder:
    name: str
    pid: int
    url: str

    def __str__(self) -> str:
        return f"{self.name} (process {self.pid})"


class HomeLock:
    """Held as long as the process lives: the kernel lets go of it, however the process ends.

    There is a lock for each room, because processes that serve different rooms may share a home.
    """

    def __init__(self, home: Path, rooms: Sequence[str]) -> None:
        self._home = home
        self._paths = [_path(home, room) for room in rooms]
        self._files: list[IO[str]] = []

    def take(self, holder: Holder) -> None:
        try:
            self._home.mkdir(parents=True, exist_ok=True, mode=0o700)
            for path in self._paths:
                self._files.append(self._take(path, holder))
        except OSError as error:
            self.let_go()
            raise HomeUnusable(home=self._home, reason=error.strerror) from error
        except HomeTaken:
            self.let_go()
            raise

    def let_go(self) -> None:
        for file in self._files:
            file.truncate(0)
            file.close()
        self._files = []

    def _take(self, path: Path, holder: Holder) -> IO[str]:
        file = open(path, "a+", encoding="utf-8")  # noqa: SIM115 - open as long as it is held
        for _ in range(TRIES):  # whoever only looks, as `holders_of` does, is through in a moment
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                time.sleep(BETWEEN_TRIES_SECONDS)
        else:
            file.close()
            present = _read(path)
            stop = f"Stop it (`kill {present.pid}`)" if present else "Stop it"
            raise HomeTaken(who=present or "Another muelle", home=self._home, stop=stop)
        file.truncate(0)
        file.write(json.dumps(asdict(holder)))
        file.flush()
        return file


def holders_of(home: Path, rooms: Sequence[str]) -> list[Holder]:
    """Who works in this home now."""
    found = (_holder(_path(home, room)) for room in rooms)
    return list(dict.fromkeys(holder for holder in found if holder is not None))


def _holder(path: Path) -> Holder | None:
    present = _read(path)
    try:
        with open(path, encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return present
    except OSError:
        return None
    return None


def _path(home: Path, room: str) -> Path:
    return home / f"{room}.lock"


def _read(path: Path) -> Holder | None:
    try:
        return Holder(**json.loads(path.read_text("utf-8")))
    except (OSError, ValueError, TypeError):
        return None
