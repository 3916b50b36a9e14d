"""`Collector`: brings what an instance writes from its engine into the logbook, each line once.

How far it is stands in the logbook itself: a collector that starts again, after whatever happened, asks the engine for
lines from the last moment that is kept, and passes over those of that moment that it has.

A program that writes without end harms nobody but itself. Lines beyond a number per second, of the program's own clock,
are counted and not kept; beyond a number per second of ours, reading itself waits, and with it the engine. By the
program's clock, because what an engine kept while Muelle was away comes all at once, and is worth as much as ever.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Self

import structlog

from muelle.engines.protocol import Engine, Line, NoSuchInstance
from muelle.kit.clock import Clock
from muelle.kit.loops import pause_before_retry
from muelle.workloads.logbook.book import LogBook
from muelle.workloads.logbook.lines import as_kept
from muelle.workloads.logbook.model import Entry, LogsUnwritable, Position, Stream, mark

LONGEST_PAUSE_SECONDS = 10.0
"""Between two tries, where an engine fails or a disk is full."""

_log = structlog.get_logger("muelle.logbook")


@dataclass(frozen=True)
class Pace:
    batch_lines: int = 256
    batch_characters: int = 256 * 1024
    batch_seconds: float = 0.05
    """How long a line waits for others at most."""
    kept_lines_per_second: int = 5_000
    kept_characters_per_second: int = 1024 * 1024
    read_lines_per_second: int = 20_000


@dataclass(frozen=True)
class Where:
    workload: str
    release: int
    instance: str


class Collector:
    def __init__(self, engine: Engine, book: LogBook, clock: Clock, pace: Pace | None = None) -> None:
        self._engine = engine
        self._book = book
        self._clock = clock
        self._pace = pace or Pace()

    async def collect(self, instance: str, workload: str, release: int) -> None:
        """Returns when the instance has ended, or is not there, and all that it wrote is kept.

        Whatever else happens, it tries again. It may be cancelled at any time, and begun again.
        """
        where = Where(workload, release, instance)
        failures = 0
        while True:
            intake = _Intake(self._book, self._clock, self._pace, where)
            try:
                async with intake:
                    await self._take_in(intake, where)
                return
            except NoSuchInstance:
                return
            except Exception as problem:  # whatever it is: what a program says must not be lost by it
                failures = 1 if intake.any else failures + 1
                if failures == 1:
                    _log.warning("logs interrupted", instance=instance, error=f"{type(problem).__name__}: {problem}")
            await self._clock.sleep(pause_before_retry(failures, LONGEST_PAUSE_SECONDS))

    async def _take_in(self, intake: _Intake, where: Where) -> None:
        position = await self._book.position(where.workload, where.instance)
        known = _Known(position)
        lines = self._engine.logs(where.instance, position.at if position else None)
        try:
            async for line in lines:
                await intake.take(line, repeated=known.has(line))
        finally:
            await _close(lines)


async def _close(lines: AsyncIterator[Line]) -> None:
    """What tells lines holds on to a connection: it is let go of now, and not when memory is cleaned up."""
    close = getattr(lines, "aclose", None)
    if close is not None:
        with suppress(Exception):
            await close()


class _Known:
    """Which of the first lines that an engine tells are kept already. Of equal ones, as many as there are."""

    def __init__(self, position: Position | None) -> None:
        self._at: datetime | None = position.at if position else None
        self._seen: Counter[str] = position.seen if position else Counter()

    def has(self, line: Line) -> bool:
        if self._at is None:
            return False
        if line.at > self._at:
            self._at = None  # from here on all is new
            return False
        if line.at < self._at:
            return True
        entry = as_kept(Entry(line.at, 0, "", Stream(line.stream.value), line.text))
        name = mark(entry.stream, entry.text)
        self._seen[name] -= 1
        return self._seen[name] >= 0


class _Intake:
    """Gathers lines, and appends them together. Taking waits while what was taken before is being written."""

    def __init__(self, book: LogBook, clock: Clock, pace: Pace, where: Where) -> None:
        self.any = False
        self._book = book
        self._clock = clock
        self._pace = pace
        self._where = where
        self._batch: list[Entry] = []
        self._characters = 0
        self._begun = asyncio.Event()
        self._writing = asyncio.Lock()
        self._allowance = _Allowance(pace, where)
        self._read = 0
        self._second_began = clock.now()

    async def __aenter__(self) -> Self:
        self._flushing = asyncio.create_task(self._flush_in_time(), name=f"logs of {self._where.instance}")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, _: TracebackType | None
    ) -> None:
        """Keeps what it has, unless it is told to stop: then the engine is asked for it again the next time."""
        told_to_stop = problem is not None and not isinstance(problem, Exception)
        if not told_to_stop:
            self._batch += self._allowance.close()
            await self._flush()
        self._flushing.cancel()
        await asyncio.gather(self._flushing, return_exceptions=True)

    async def take(self, line: Line, *, repeated: bool) -> None:
        """One that is repeated is kept already; reading it takes time all the same."""
        if not repeated:
            self.any = True
            kept = self._allowance.take(line)
            self._batch += kept
            self._characters += sum(len(entry.text) for entry in kept)
            self._begun.set()
            if len(self._batch) >= self._pace.batch_lines or self._characters >= self._pace.batch_characters:
                await self._flush()
        self._read += 1
        if self._read % self._pace.batch_lines == 0:
            await self._give_way()

    async def _give_way(self) -> None:
        """To others each time, and to the next second when enough was read in this one."""
        await asyncio.sleep(0)
        if self._flushing.done():
            self._flushing.result()
        passed = (self._clock.now() - self._second_began).total_seconds()
        if self._read < self._pace.read_lines_per_second and 0 <= passed < 1:
            return
        if 0 <= passed < 1:
            await self._clock.sleep(1 - passed)
        self._read = 0
        self._second_began = self._clock.now()

    async def _flush_in_time(self) -> None:
        while True:
            await self._begun.wait()
            self._begun.clear()
            await self._clock.sleep(self._pace.batch_seconds)
            if self._allowance.dropped:
                self._begun.set()  # until it is told that there were more
                if self._allowance.is_quiet():
                    self._batch += self._allowance.close()
            await self._flush()

    async def _flush(self) -> None:
        async with self._writing:
            batch, self._batch, self._characters = self._batch, [], 0
            failures = 0
            while True:
                try:
                    await self._book.append(self._where.workload, batch)
                    return
                except LogsUnwritable as problem:
                    failures += 1
                    if failures == 1:
                        _log.warning("logs wait to be written", instance=self._where.instance, error=problem.message)
                    await self._clock.sleep(pause_before_retry(failures, LONGEST_PAUSE_SECONDS))


class _Allowance:
    """Lets through so many lines in each second of the program's own clock, and says how many more there were."""

    def __init__(self, pace: Pace, where: Where) -> None:
        self.dropped = 0
        self._pace = pace
        self._where = where
        self._second = -1
        self._lines = 0
        self._characters = 0
        self._last: datetime | None = None
        self._quiet = True

    def take(self, line: Line) -> list[Entry]:
        """What is to be kept now that this line was written."""
        told: list[Entry] = []
        second = int(line.at.timestamp())
        if second > self._second:
            told = self.close()
            self._second, self._lines, self._characters = second, 0, 0
        self._quiet = False
        pace = self._pace
        if self._lines >= pace.kept_lines_per_second or self._characters >= pace.kept_characters_per_second:
            self.dropped += 1
            self._last = line.at
            return told
        self._lines += 1
        self._characters += len(line.text)
        told.append(self._entry(line.at, Stream(line.stream.value), line.text))
        return told

    def is_quiet(self) -> bool:
        """Whether nothing was written since this was asked the last time."""
        before, self._quiet = self._quiet, True
        return before

    def close(self) -> list[Entry]:
        """Says what was dropped, if anything was."""
        dropped, self.dropped = self.dropped, 0
        if not dropped or self._last is None:
            return []
        lines = "1 line was" if dropped == 1 else f"{dropped} lines were"
        text = f"{lines} dropped: more than {self._pace.kept_lines_per_second} in a second, or too long"
        return [self._entry(self._last, Stream.MUELLE, text)]

    def _entry(self, at: datetime, stream: Stream, text: str) -> Entry:
        return Entry(at, self._where.release, self._where.instance, stream, text)
