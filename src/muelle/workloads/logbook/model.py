"""What a logbook holds, as values."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from hashlib import blake2b

from muelle.kit.errors import Unavailable


class LogsUnwritable(Unavailable):
    """The logs of the workload {workload} cannot be written: {reason}."""

    hint = "See whether the disk is full, and whose the folder of the logs is."


class Stream(StrEnum):
    OUT = "out"
    ERR = "err"
    MUELLE = "muelle"
    """Said by Muelle about the program."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A line. Line ends within its text, should there be any, are kept as spaces."""

    at: datetime
    release: int
    instance: str
    stream: Stream
    text: str


@dataclass(frozen=True, slots=True)
class Kept:
    cursor: int
    entry: Entry


@dataclass(frozen=True, slots=True)
class Skipped:
    """So many lines that a follower had not seen yet are not kept any more."""

    lines: int


@dataclass(frozen=True)
class Page:
    entries: tuple[Kept, ...] = ()
    next: int | None = None
    """The `after` of the next page; None where nothing more was kept when this one was read."""
    upto: int | None = None
    """The cursor up to which was looked: what `follow` goes on from. None where there never was a line."""
    skipped: int = 0
    """How many lines after the cursor that was asked from are not kept any more."""


@dataclass(frozen=True)
class Wanted:
    """Which lines, where not all of them."""

    since: datetime | None = None
    until: datetime | None = None
    """Before this moment."""
    contains: str = ""
    stream: Stream | None = None
    release: int | None = None

    def takes(self, entry: Entry) -> bool:
        """Looks at all but the moment, which is compared before a line is read."""
        return (
            (self.stream is None or entry.stream is self.stream)
            and (self.release is None or entry.release == self.release)
            and (not self.contains or self.contains.casefold() in entry.text.casefold())
        )


@dataclass
class Position:
    """How far the lines of an instance are kept: up to a moment, and which lines of that moment itself."""

    at: datetime
    seen: Counter[str] = field(default_factory=Counter)
    """Lines of that moment by `mark`: an engine may tell them again, and two may be alike."""

    def note(self, entry: Entry) -> None:
        if entry.at > self.at:
            self.at = entry.at
            self.seen = Counter()
        if entry.at == self.at:
            self.seen[mark(entry.stream, entry.text)] += 1


def mark(stream: Stream, text: str) -> str:
    return blake2b(f"{stream}\t{text}".encode(errors="replace"), digest_size=8).hexdigest()
