"""The home: the folder with everything that is kept, and the lock that says who works in it."""

from __future__ import annotations

import fcntl
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from muelle.kit.errors import Conflict

LOCK = "muelle.lock"


class HomeTaken(Conflict):
    """{name} (process {pid}) already works in {home}."""

    hint = "Stop it (`kill {pid}`), or set MUELLE_HOME to another folder."


@dataclass(frozen=True)
class Holder:
    name: str
    pid: int
    url: str


class HomeLock:
    """Held as long as the process lives: the kernel lets go of it, however the process ends."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._file: IO[str] | None = None

    def take(self, holder: Holder) -> None:
        self._home.mkdir(parents=True, exist_ok=True, mode=0o700)
        file = open(self._home / LOCK, "a+", encoding="utf-8")  # noqa: SIM115 - open as long as it is held
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.close()
            present = _read(self._home / LOCK) or Holder("another muelle", 0, "")
            raise HomeTaken(name=present.name, pid=present.pid, home=self._home) from None
        file.truncate(0)
        file.write(json.dumps(asdict(holder)))
        file.flush()
        self._file = file

    def let_go(self) -> None:
        if self._file is not None:
            self._file.truncate(0)
            self._file.close()
            self._file = None


def holder_of(home: Path) -> Holder | None:
    """Who works in this home now, if anybody."""
    found = _read(home / LOCK)
    if found is None:
        return None
    try:
        with open(home / LOCK, encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return found
    return None



def _read(path: Path) -> Holder | None:
    try:
        return Holder(**json.loads(path.read_text("utf-8")))
    except (OSError, ValueError, TypeError):
        return None
