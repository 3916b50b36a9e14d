"""What the command line remembers of a log-in: one file that only its owner can read, replaced as a whole."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from muelle import config

EARLY_SECONDS = 30
"""So long before its end, an access token is renewed."""


@dataclass(frozen=True)
class Remembered:
    server: str
    access_token: str
    refresh_token: str
    good_until: float

    @property
    def is_fresh(self) -> bool:
        return datetime.now(UTC).timestamp() + EARLY_SECONDS < self.good_until


def key_in_force() -> str:
    return os.environ.get(config.API_KEY_VARIABLE, "").strip()


def server_in_force() -> str:
    return os.environ.get(config.SERVER_VARIABLE, "").strip()


def recall() -> Remembered | None:
    """What was remembered, if it can still be read."""
    try:
        found = json.loads(_file().read_text("utf-8"))
        server, access, refresh = (str(found[name]) for name in ("server", "access_token", "refresh_token"))
        return Remembered(server, access, refresh, float(found["good_until"]))
    except (OSError, ValueError, TypeError, KeyError):
        return None


def remember(server: str, tokens: dict[str, Any]) -> Remembered:
    good_until = datetime.now(UTC).timestamp() + tokens["expires_in"]
    remembered = Remembered(server, tokens["access_token"], tokens["refresh_token"], good_until)
    fresh = _folder() / f".session.{os.getpid()}"
    with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        json.dump(asdict(remembered), file)
    fresh.replace(_file())
    return remembered


def forget() -> None:
    _file().unlink(missing_ok=True)


@contextmanager
def renewing() -> Iterator[None]:
    """One command at a time: a refresh token works once, and using it twice closes the session."""
    with open(_folder() / "session.lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _folder() -> Path:
    folder = _file().parent
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder


def _file() -> Path:
    base = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(base) / "muelle" / "session.json"
