"""A segment: a file of lines, named by the cursor of its first, and never changed but at its end.

It is read in blocks, forwards or backwards; each gives a `Run`, the whole lines of a block. Nothing here keeps a file
open, so that a thousand workloads need no more handles than one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from muelle.workloads.logbook import lines
from muelle.workloads.logbook.lines import STAMP_BYTES
from muelle.workloads.logbook.model import Kept, Wanted

BLOCK_BYTES = 64 * 1024
SUFFIX = ".log"


@dataclass(frozen=True)
class Segment:
    path: Path
    first: int
    """The cursor of its first line, if it has one."""
    lines: int = 0
    size: int = 0
    earliest: bytes = b""
    latest: bytes = b""
    """Stamps of the earliest and the latest moment in it: not of its first and last line, since clocks are set back."""

    @property
    def end(self) -> int:
        """The cursor after its last line's."""
        return self.first + self.lines

    def may_hold(self, since: bytes, until: bytes) -> bool:
        """Whether it can have lines from a time, as far as that is known without reading."""
        return bool(self.lines) and (not since or since <= self.latest) and (not until or self.earliest < until)


@dataclass(frozen=True)
class Run:
    """Whole lines that follow each other. Their number is known without taking them apart."""

    first: int
    data: bytes
    count: int

    @property
    def end(self) -> int:
        return self.first + self.count

    def lines(self) -> list[bytes]:
        return self.data.split(b"\n")[:-1]


def path_of(folder: Path, first: int) -> Path:
    return folder / f"{first}{SUFFIX}"


def measured(path: Path, first: int, *, mend: bool) -> Segment:
    """Reads through a file to say what is in it. To mend it is to cut off a last line that was not written to its end,
    as a kill in the middle of a write leaves it."""
    size = path.stat().st_size
    count, whole, earliest, latest = 0, 0, b"", b""
    for run in forwards(Segment(path, first, size=size), first):
        count += run.count
        whole += len(run.data)
        stamps = [line[:STAMP_BYTES] for line in run.lines()]
        earliest = min([*stamps, earliest]) if earliest else min(stamps)
        latest = max(latest, *stamps)
    if mend and whole < size:
        with open(path, "r+b") as file:
            file.truncate(whole)
    return Segment(path, first, count, whole, earliest, latest)


def forwards(segment: Segment, start: int) -> Iterator[Run]:
    """The runs from the one on that holds the line with cursor `start`."""
    cursor, left, rest = segment.first, segment.size, b""
    with open(segment.path, "rb") as file:
        while left and (block := file.read(min(BLOCK_BYTES, left))):
            left -= len(block)
            cut = block.rfind(b"\n") + 1
            if not cut:
                rest += block
                continue
            run = Run(cursor, rest + block[:cut], block.count(b"\n"))
            rest = block[cut:]
            cursor = run.end
            if cursor > start:
                yield run


def backwards(segment: Segment) -> Iterator[Run]:
    """All runs, the last first; within each the lines stand in their order."""
    cursor, place, rest = segment.end, segment.size, b""
    with open(segment.path, "rb") as file:
        while place:
            begin = max(0, place - BLOCK_BYTES)
            file.seek(begin)
            data = file.read(place - begin) + rest
            place = begin
            cut = data.find(b"\n") + 1 if begin else 0
            rest, data = data[:cut], data[cut:]
            if data:
                count = data.count(b"\n")
                cursor -= count
                yield Run(cursor, data, count)


def chosen(run: Run, wanted: Wanted, first: int, end: int) -> Iterator[Kept]:
    """The lines of a run that are wanted, of those with cursors from `first` to before `end`.

    Time is compared, and text looked for in the run as a whole, before any line is read.
    """
    since, until = stamps_of(wanted)
    folded: list[str] | None = None
    if wanted.contains:
        needle, whole = wanted.contains.casefold(), run.data.decode(errors="replace").casefold()
        if needle not in whole:
            return
        folded = whole.split("\n")
    for place, line in enumerate(run.lines()):
        cursor = run.first + place
        if cursor < first or (folded is not None and needle not in folded[place]):
            continue
        if cursor >= end:
            return
        moment = line[:STAMP_BYTES]
        if (since and moment < since) or (until and moment >= until):
            continue
        entry = lines.read(line)
        if wanted.takes(entry):
            yield Kept(cursor, entry)


def stamps_of(wanted: Wanted) -> tuple[bytes, bytes]:
    """From when and until when, to be compared with lines; empty where it does not matter."""
    since = lines.stamp(wanted.since) if wanted.since else b""
    return since, lines.stamp(wanted.until) if wanted.until else b""
