"""The lines of one workload: its segments, what is known of them, and how far each instance's lines are kept.

Everything here is done in threads, and may be done in several at once. Writing is under a lock; reading works on the
segments as they were when it began, none of which changes but by growing or by being dropped as a whole.

Beside the segments lies `state.json`, written when a segment is full: what is in the full ones, and the positions of
instances up to there. It saves reading everything at the next start; where it is missing, everything is read.
"""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from muelle.workloads.logbook import lines
from muelle.workloads.logbook.lines import STAMP_BYTES
from muelle.workloads.logbook.model import Entry, Kept, LogsUnwritable, Page, Position, Stream, Wanted
from muelle.workloads.logbook.segments import (
    SUFFIX,
    Run,
    Segment,
    backwards,
    chosen,
    forwards,
    measured,
    path_of,
    stamps_of,
)

STATE = "state.json"
MOST_INSTANCES = 100
"""Of how many instances of a workload the position is remembered: those that wrote last."""
PAGE_BYTES = 512 * 1024
"""A page that has more text than this ends, however few lines that is."""


@dataclass(frozen=True)
class Bounds:
    segment_bytes: int
    kept_bytes: int


class Gone(Exception):
    """The timeline was dropped: there is another one of that name by now, or none."""


class _DroppedMeanwhile(Exception):
    """A segment that was to be read has just been dropped."""


class Timeline:
    def __init__(self, folder: Path, bounds: Bounds, fresh: Callable[[], int]) -> None:
        """`fresh` gives the first cursor of a timeline that has no files."""
        self._folder = folder
        self._bounds = bounds
        self._fresh = fresh
        self._lock = threading.Lock()
        self._segments: tuple[Segment, ...] = ()
        self._positions: dict[str, Position] = {}
        self._origin = 0
        """The first cursor that there ever was here."""
        self._gone = False

    @property
    def size(self) -> int:
        return sum(segment.size for segment in self._segments)

    @property
    def oldest(self) -> bytes:
        """The stamp of what `drop_oldest` would drop; empty where nothing is left to drop."""
        return next((segment.latest for segment in self._segments if segment.lines), b"")

    def segments(self) -> tuple[Segment, ...]:
        """What there is now: at least one, the last of which is written to."""
        if not self._segments:
            with self._lock:
                self._open()
        return self._segments

    def append(self, entries: Sequence[Entry], told: Callable[[int, Sequence[Entry]], None]) -> int:
        """All of them or, when it raises, none; returns the last cursor. Calls `told` before the next may append."""
        kept = [lines.as_kept(entry) for entry in entries]
        data = b"".join(map(lines.write, kept))
        with self._lock:
            self._open()
            last = self._segments[-1]
            if last.size and last.size + len(data) > self._bounds.segment_bytes:
                last = self._begin_segment()
            last = self._write(last, data)
            moments = [entry.at for entry in kept]
            earliest, latest = lines.stamp(min(moments)), lines.stamp(max(moments))
            grown = replace(
                last,
                lines=last.lines + len(kept),
                size=last.size + len(data),
                earliest=min(last.earliest or earliest, earliest),
                latest=max(last.latest, latest),
            )
            self._segments = (*self._segments[:-1], grown)
            self._note(kept)
            told(last.end, kept)
            self._trim()
            return grown.end - 1

    def read(self, after: int | None, limit: int, before: int | None, wanted: Wanted) -> Page:
        """The first lines after a cursor that are wanted, and before another one."""
        while True:
            segments = self.segments()
            oldest, end = segments[0].first, segments[-1].end
            start = oldest if after is None else min(after + 1, end)
            stop = end if before is None else max(min(before, end), start)
            skipped = 0 if after is None else max(0, oldest - max(start, self._origin))
            found: list[Kept] = []
            more, room = False, PAGE_BYTES
            try:
                for kept in self._forwards(segments, start, stop, wanted):
                    if len(found) >= limit or room <= 0:
                        more = True
                        break
                    found.append(kept)
                    room -= len(kept.entry.text)
            except _DroppedMeanwhile:
                if not found:
                    continue
                more = True
            last = found[-1].cursor if more else stop - 1
            return Page(tuple(found), last if more else None, last, skipped)

    def tail(self, count: int, before: int | None, wanted: Wanted) -> Page:
        """The last lines that are wanted, oldest first."""
        segments = self.segments()
        end = segments[-1].end
        stop = end if before is None else min(before, end)
        found: list[Kept] = []
        for run in self._runs_backwards(segments, stop, wanted):
            if len(found) >= count:
                break
            found += reversed(list(chosen(run, wanted, run.first, stop)))
        del found[count:]
        return Page(tuple(reversed(found)), None, stop - 1)

    def position(self, instance: str) -> Position | None:
        self.segments()
        with self._lock:
            known = self._positions.get(instance)
            return known and Position(known.at, Counter(known.seen))

    def drop_oldest(self) -> None:
        """Drops the oldest segment, also where it is the only one: its successor's name then tells the next cursor."""
        with self._lock:
            if self._gone or not self.oldest:
                return
            if len(self._segments) == 1:
                self._begin_segment().path.touch(mode=0o600)
            self._forget_oldest()

    def drop(self) -> int:
        """Drops everything, and returns the cursor that would have been next."""
        with self._lock:
            self._gone = True
            shutil.rmtree(self._folder, ignore_errors=True)
            return self._segments[-1].end if self._segments else 0

    def _forwards(self, segments: Sequence[Segment], start: int, stop: int, wanted: Wanted) -> Iterator[Kept]:
        since, until = stamps_of(wanted)
        for segment in segments:
            if segment.end <= start or not segment.may_hold(since, until):
                continue
            if segment.first >= stop:
                return
            try:
                for run in forwards(segment, start):
                    if run.first >= stop:
                        return
                    yield from chosen(run, wanted, start, stop)
            except FileNotFoundError:
                if segment not in self._segments:
                    raise _DroppedMeanwhile from None  # whoever reads has to be told how many lines that were

    def _runs_backwards(self, segments: Sequence[Segment], stop: int, wanted: Wanted) -> Iterator[Run]:
        since, until = stamps_of(wanted)
        for segment in reversed(segments):
            if segment.first < stop and segment.may_hold(since, until):
                with suppress(FileNotFoundError):
                    yield from (run for run in backwards(segment) if run.first < stop)

    def _open(self) -> None:
        """Finds out what there is, the first time; the lock is held."""
        if self._gone:
            raise Gone
        if self._segments:
            return
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        state = _State.read(self._folder / STATE)
        self._positions = state.positions
        firsts = sorted(int(p.stem) for p in self._folder.glob(f"*{SUFFIX}") if p.stem.isdigit())
        found = [state.known(self._folder, first) or self._measure(first, firsts[-1]) for first in firsts]
        if not found or found[-1].end < state.upto:
            start = state.upto or self._fresh()
            found.append(Segment(path_of(self._folder, start), start))
        self._origin = state.origin or found[0].first
        for segment in found:
            if segment.first >= state.upto and segment.lines:
                self._note([lines.read(line) for run in forwards(segment, segment.first) for line in run.lines()])
        self._segments = tuple(found)

    def _measure(self, first: int, last: int) -> Segment:
        return measured(path_of(self._folder, first), first, mend=first == last)

    def _begin_segment(self) -> Segment:
        """Declares the last segment full, and begins the next."""
        start = self._segments[-1].end
        full = {segment.first: segment for segment in self._segments}
        _State(start, self._origin, full, self._positions).write(self._folder)
        fresh = Segment(path_of(self._folder, start), start)
        self._segments = (*self._segments, fresh)
        return fresh

    def _write(self, segment: Segment, data: bytes) -> Segment:
        """Writes at the end of a segment; of the next one, where somebody has cut this one off or taken it away."""
        try:
            if not _append(segment.path, segment.size, data):
                segment = self._begin_segment()
                self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
                _append(segment.path, 0, data)
        except OSError as error:
            raise LogsUnwritable(workload=self._folder.name, reason=error.strerror) from error
        return segment

    def _note(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            if entry.stream is not Stream.MUELLE:
                self._positions.setdefault(entry.instance, Position(entry.at)).note(entry)
        if len(self._positions) > MOST_INSTANCES:
            by_age = sorted(self._positions, key=lambda name: self._positions[name].at)
            for name in by_age[:-MOST_INSTANCES]:
                del self._positions[name]

    def _trim(self) -> None:
        while len(self._segments) > 1 and self.size > self._bounds.kept_bytes:
            self._forget_oldest()

    def _forget_oldest(self) -> None:
        oldest, *rest = self._segments
        self._segments = tuple(rest)
        oldest.path.unlink(missing_ok=True)


def _append(path: Path, size: int, data: bytes) -> bool:
    """Writes after the first `size` bytes, or writes nothing: what an earlier failure left behind them is cut off.

    False where the file is shorter than that.
    """
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except FileNotFoundError:  # not even its folder is there
        return False
    try:
        there = os.fstat(handle).st_size
        if there < size:
            return False
        try:
            if there > size:
                os.ftruncate(handle, size)
            done = 0
            while done < len(data):
                done += os.pwrite(handle, memoryview(data)[done:], size + done)
        except OSError:
            with suppress(OSError):
                os.ftruncate(handle, size)
            raise
        return True
    finally:
        os.close(handle)


@dataclass(frozen=True)
class _State:
    """What is known without reading the segments before the cursor `upto`."""

    upto: int
    origin: int
    segments: dict[int, Segment]
    positions: dict[str, Position]

    @classmethod
    def read(cls, path: Path) -> _State:
        try:
            told = json.loads(path.read_bytes())
            segments = {int(first): _segment(path.parent, int(first), *row) for first, row in told["segments"].items()}
            positions = {
                name: Position(lines.moment_of(at.encode()), Counter(seen))
                for name, (at, seen) in told["positions"].items()
            }
            return cls(int(told["upto"]), int(told["origin"]), segments, positions)
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return cls(0, 0, {}, {})

    def write(self, folder: Path) -> None:
        """Without it the next start takes longer; that is no reason to lose lines."""
        told: dict[str, Any] = {
            "upto": self.upto,
            "origin": self.origin,
            "segments": {s.first: [s.lines, s.size, s.earliest.decode(), s.latest.decode()] for s in self._all()},
            "positions": {name: [lines.stamp(p.at).decode(), p.seen] for name, p in self.positions.items()},
        }
        with suppress(OSError):
            new = folder / f"{STATE}.new"
            new.write_text(json.dumps(told))
            new.replace(folder / STATE)

    def known(self, folder: Path, first: int) -> Segment | None:
        """What was written down about a segment, if it is still of that size."""
        segment = self.segments.get(first)
        try:
            return segment if segment and path_of(folder, first).stat().st_size == segment.size else None
        except OSError:
            return None

    def _all(self) -> list[Segment]:
        return [segment for segment in self.segments.values() if segment.lines]


def _segment(folder: Path, first: int, count: int, size: int, earliest: str, latest: str) -> Segment:
    if len(earliest) != STAMP_BYTES or len(latest) != STAMP_BYTES:
        raise ValueError("no stamps")
    return Segment(path_of(folder, first), first, count, size, earliest.encode(), latest.encode())
