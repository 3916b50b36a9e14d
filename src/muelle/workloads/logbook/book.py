"""`LogBook`: the timelines of all workloads in a folder, for an event loop: what touches files does so in threads.

Only one process may write to a folder. Writing is not forced to the disk line by line: what was written survives the
end of this process, however it ends, and a power cut may take the last seconds.
"""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import AsyncGenerator, Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from muelle.kit.clock import Clock
from muelle.workloads.logbook.following import Recent
from muelle.workloads.logbook.model import Entry, Kept, Page, Position, Skipped, Stream, Wanted
from muelle.workloads.logbook.timeline import Bounds, Gone, Timeline

SEGMENT_BYTES = 2**20
KEPT_BYTES_PER_WORKLOAD = 16 * 2**20
WRITERS = 2
READERS = 2
"""Threads: reading, which may be a search through everything, never keeps writing waiting."""
LARGEST_PAGE = 5_000
FOLLOWED_AT_ONCE = 1_000

_WORKLOAD = re.compile(r"[A-Za-z0-9_-]{1,100}")

Answer = TypeVar("Answer")
Appended = Callable[[int, Sequence[Entry]], None]


class LogBook:
    def __init__(
        self,
        folder: Path,
        clock: Clock,
        segment_bytes: int = SEGMENT_BYTES,
        kept_bytes_per_workload: int = KEPT_BYTES_PER_WORKLOAD,
    ) -> None:
        self._folder = folder
        self._clock = clock
        self._bounds = Bounds(segment_bytes, kept_bytes_per_workload)
        self._timelines: dict[str, Timeline] = {}
        self._recent: dict[str, Recent] = {}
        self._lock = threading.Lock()
        self._beyond = 0
        """Higher than any cursor of a timeline that was dropped."""
        self._writers = ThreadPoolExecutor(WRITERS, "logbook-writing")
        self._readers = ThreadPoolExecutor(READERS, "logbook-reading")

    async def append(self, workload: str, entries: Sequence[Entry]) -> int | None:
        """Adds lines, all of them or (LogsUnwritable) none; returns the last one's cursor.

        Once begun it is brought to its end, also where the task that waits for it is cancelled.
        """
        if not entries:
            return None
        loop = asyncio.get_running_loop()

        def told(first: int, kept: Sequence[Entry]) -> None:
            with suppress(RuntimeError):  # the loop has ended, and with it all who might want to know
                loop.call_soon_threadsafe(self._tell, workload, first, kept)

        work = loop.run_in_executor(self._writers, self._append, workload, entries, told)
        return await asyncio.shield(work)

    async def read(
        self,
        workload: str,
        after: int | None = None,
        limit: int = 200,
        *,
        before: int | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        contains: str = "",
        stream: Stream | None = None,
        release: int | None = None,
    ) -> Page:
        """The first lines after a cursor, of those that are asked for; at most LARGEST_PAGE. `contains` is plain text
        in whatever case."""
        wanted = Wanted(since, until, contains, stream, release)
        limit = max(1, min(limit, LARGEST_PAGE))
        return await self._ask(workload, lambda timeline: timeline.read(after, limit, before, wanted)) or Page(
            upto=after
        )

    async def tail(
        self,
        workload: str,
        count: int = 200,
        *,
        before: int | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        contains: str = "",
        stream: Stream | None = None,
        release: int | None = None,
    ) -> Page:
        """The last lines, of those that are asked for, oldest first. Read from the end: the rest costs nothing."""
        wanted = Wanted(since, until, contains, stream, release)
        count = max(1, min(count, LARGEST_PAGE))
        return await self._ask(workload, lambda timeline: timeline.tail(count, before, wanted)) or Page()

    async def follow(self, workload: str, after: int | None = None) -> AsyncGenerator[Kept | Skipped, None]:
        """The lines after a cursor (None: all that are kept), and then those that come, each once and in order.

        Ends when the workload's lines are dropped.
        """
        async with aclosing(self.batches(workload, after)) as batches:
            async for batch in batches:
                for item in batch:
                    yield item

    async def batches(
        self, workload: str, after: int | None = None
    ) -> AsyncGenerator[tuple[Kept | Skipped, ...], None]:
        """As `follow`, with all that is there at a time in one piece."""
        with self._following(workload) as recent:
            while True:
                change = recent.change
                found: tuple[Kept | Skipped, ...] | None = recent.after(after)
                if found is None:
                    page = await self.read(workload, after, FOLLOWED_AT_ONCE)
                    found = (*((Skipped(page.skipped),) if page.skipped else ()), *page.entries)
                    after = page.upto
                else:
                    after = next((kept.cursor for kept in reversed(found) if isinstance(kept, Kept)), after)
                if found:
                    yield found
                elif recent.over:
                    return
                else:
                    await change.wait()

    async def last(self, workload: str) -> int | None:
        """The last cursor: `follow(workload, await book.last(workload))` tells only what is new."""
        return await self._ask(workload, lambda timeline: timeline.segments()[-1].end - 1)

    async def position(self, workload: str, instance: str) -> Position | None:
        """How far an instance's lines are kept; None where nothing is known of it."""
        return await self._ask(workload, lambda timeline: timeline.position(instance))

    async def size(self, workload: str = "") -> int:
        """How many bytes a workload's lines take, or those of all."""
        if workload:
            return await self._ask(workload, lambda timeline: sum(s.size for s in timeline.segments())) or 0
        return await self._in_thread(self._readers, self._total)

    async def bound(self, workloads: Collection[str], kept_bytes: int) -> None:
        """Drops the oldest segments of these workloads until all of them together take no more than that."""
        await self._in_thread(self._writers, lambda: self._bound(workloads, kept_bytes))

    async def drop(self, workload: str) -> None:
        """Drops all lines of a workload that is gone for good. Followers come to their end."""
        await asyncio.shield(self._in_thread(self._writers, lambda: self._drop(workload)))
        if recent := self._recent.pop(workload, None):
            recent.end()

    async def close(self) -> None:
        """Lets what is being written come to its end."""
        await asyncio.to_thread(self._shut)

    def _shut(self) -> None:
        for threads in (self._writers, self._readers):
            threads.shutdown(wait=True, cancel_futures=True)

    # --- in threads

    def _append(self, workload: str, entries: Sequence[Entry], told: Appended) -> int:
        while True:
            with suppress(Gone):  # dropped between the two: what comes now begins anew
                return self._timeline(workload).append(entries, told)

    def _timeline(self, workload: str) -> Timeline:
        folder = self._path(workload)
        with self._lock:
            if workload not in self._timelines:
                self._timelines[workload] = Timeline(folder, self._bounds, self._first_cursor)
            return self._timelines[workload]

    def _first_cursor(self) -> int:
        """Microseconds since 1970, so that it is higher than any cursor that a timeline of that name had before."""
        return max(int(self._clock.now().timestamp() * 1_000_000), self._beyond)

    def _known(self, workload: str) -> Timeline | None:
        """Nobody who asks for what does not exist leaves a trace."""
        if workload in self._timelines or self._path(workload).is_dir():
            return self._timeline(workload)
        return None

    def _path(self, workload: str) -> Path:
        if not _WORKLOAD.fullmatch(workload):
            raise ValueError(f"{workload!r} is no workload's id")
        return self._folder / workload

    def _drop(self, workload: str) -> None:
        timeline = self._known(workload)
        if timeline is not None:
            with suppress(Gone):
                timeline.segments()
            with self._lock:
                self._beyond = max(self._beyond, timeline.drop())
                self._timelines.pop(workload, None)

    def _bound(self, workloads: Collection[str], kept_bytes: int) -> None:
        found = []
        for timeline in filter(None, map(self._known, workloads)):
            with suppress(Gone):
                timeline.segments()
                found.append(timeline)
        while sum(timeline.size for timeline in found) > kept_bytes:
            filled = [timeline for timeline in found if timeline.oldest]
            if not filled:
                return
            min(filled, key=lambda timeline: timeline.oldest).drop_oldest()

    def _total(self) -> int:
        return sum(_size(path) for path in self._folder.glob("*/*.log"))

    # --- in the event loop

    async def _ask(self, workload: str, question: Callable[[Timeline], Answer]) -> Answer | None:
        def answer() -> Answer | None:
            timeline = self._known(workload)
            with suppress(Gone):
                return None if timeline is None else question(timeline)
            return None

        return await self._in_thread(self._readers, answer)

    async def _in_thread(self, threads: ThreadPoolExecutor, work: Callable[[], Answer]) -> Answer:
        return await asyncio.get_running_loop().run_in_executor(threads, work)

    def _tell(self, workload: str, first: int, entries: Sequence[Entry]) -> None:
        if recent := self._recent.get(workload):
            recent.add(first, entries)

    @contextmanager
    def _following(self, workload: str) -> Iterator[Recent]:
        recent = self._recent.setdefault(workload, Recent())
        recent.followers += 1
        try:
            yield recent
        finally:
            recent.followers -= 1
            if not recent.followers and self._recent.get(workload) is recent:
                del self._recent[workload]


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:  # dropped meanwhile
        return 0
