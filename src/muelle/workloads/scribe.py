"""The scribe: sees to it that what instances and builds say is kept in the log book."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

import structlog

from muelle.engines.protocol import LONGEST_LINE, Condition, Sighting
from muelle.kit.clock import Clock
from muelle.workloads.logbook import Collector, Entry, LogBook, Stream
from muelle.workloads.model import release_of

LAST_WORDS_SECONDS = 2.0
"""How long the removal of an instance waits for the rest of what it has said."""
JOURNAL_SECONDS = 0.05
LONGEST_JOURNAL_LINES = 20_000
"""Of one build: what it says beyond that is counted, and not kept."""

_log = structlog.get_logger("muelle.workloads")


class Scribe:
    def __init__(self, book: LogBook, collector: Collector, clock: Clock) -> None:
        self.book = book
        self._collector = collector
        self._clock = clock
        self._listening: dict[str, asyncio.Task[None]] = {}
        self._heard_out: set[str] = set()

    def attend(self, workload: str, sightings: Iterable[Sighting]) -> None:
        """Listens to each that runs, and to the end of each that has ended."""
        for sighting in sightings:
            name = sighting.name
            if sighting.condition is Condition.RUNNING:
                self._heard_out.discard(name)
            if sighting.condition is Condition.CREATED or name in self._listening or name in self._heard_out:
                continue
            if sighting.reason and sighting.started_at is None:
                continue  # it never ran, so it never said anything
            self._listening[name] = asyncio.create_task(self._listen(name, workload), name=f"listen to {name}")

    async def hear_out(self, name: str) -> None:
        """Waits until what it has said so far is kept: it is going to be removed."""
        if task := self._listening.get(name):
            await asyncio.wait([task], timeout=LAST_WORDS_SECONDS)
            task.cancel()
        self._heard_out.discard(name)

    async def forget(self, timelines: Iterable[str]) -> None:
        for timeline in timelines:
            await self.book.drop(timeline)

    async def close(self) -> None:
        for task in self._listening.values():
            task.cancel()
        await asyncio.gather(*self._listening.values(), return_exceptions=True)
        await self.book.close()

    @asynccontextmanager
    async def journal(self, timeline: str) -> AsyncIterator[Journal]:
        """Keeps what a build says, as it comes."""
        journal = Journal(self.book, timeline, self._clock)
        writing = asyncio.create_task(journal.write_now_and_then(), name=f"journal {timeline}")
        try:
            yield journal
        finally:
            writing.cancel()
            await asyncio.gather(writing, return_exceptions=True)
            await journal.flush()

    async def _listen(self, name: str, workload: str) -> None:
        try:
            await self._collector.collect(name, workload, release_of(name))
            self._heard_out.add(name)
        except Exception as problem:
            _log.warning("not listened to", instance=name, error=f"{type(problem).__name__}: {problem}")
        finally:
            self._listening.pop(name, None)


class Journal:
    """Takes a build's lines from wherever they are said, and writes them down a little later."""

    def __init__(self, book: LogBook, timeline: str, clock: Clock) -> None:
        self._book = book
        self._timeline = timeline
        self._clock = clock
        self._waiting: list[Entry] = []
        self._said = 0

    def say(self, text: str) -> None:
        self._said += 1
        if self._said > LONGEST_JOURNAL_LINES + 1:
            return
        if self._said > LONGEST_JOURNAL_LINES:
            text = "… and more lines than are kept of a build."
        self._waiting.append(Entry(self._clock.now(), 0, "", Stream.MUELLE, text[:LONGEST_LINE]))

    async def flush(self) -> None:
        """Returns when all that was said is kept."""
        batch, self._waiting = self._waiting, []
        await self._book.append(self._timeline, batch)

    async def write_now_and_then(self) -> None:
        while True:
            await self._clock.sleep(JOURNAL_SECONDS)
            await self.flush()
