"""Lines for logbooks, and an engine that tells them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

from muelle.engines.protocol import EngineUnavailable, Line, NoSuchInstance
from muelle.engines.protocol import Stream as Output
from muelle.workloads.logbook import Entry, Kept, Stream

START = datetime(2026, 1, 1, tzinfo=UTC)
WEB = "muelle-web-1-1"


def entry(text: str, seconds: float = 0, release: int = 1, instance: str = WEB, stream: Stream = Stream.OUT) -> Entry:
    return Entry(START + timedelta(seconds=seconds), release, instance, stream, text)


def entries(count: int, first: int = 0) -> list[Entry]:
    """Numbered ones, a second apart."""
    return [entry(f"line {number}", number) for number in range(first, first + count)]


def texts(kept: tuple[Kept, ...] | list[Kept]) -> list[str]:
    return [one.entry.text for one in kept]


class Telling:
    """As much of an engine as collectors know: it keeps lines, tells them from a moment on, and fails when it is told
    to."""

    def __init__(self) -> None:
        self.written: dict[str, list[Line]] = {}
        self.ended: set[str] = set()
        self.asked: list[datetime | None] = []
        self.fails_after: int | None = None
        self.told = 0
        self._changed = asyncio.Event()

    def write(self, text: str, seconds: float, instance: str = WEB, output: Output = Output.OUT) -> None:
        line = Line(START + timedelta(seconds=seconds), output, text)
        self.written.setdefault(instance, []).append(line)
        self._tell()

    def end(self, instance: str = WEB) -> None:
        self.ended.add(instance)
        self._tell()

    async def logs(self, name: str, since: datetime | None = None) -> AsyncIterator[Line]:
        self.asked.append(since)
        if name not in self.written:
            raise NoSuchInstance(name=name)
        place = 0
        while True:
            changed = self._changed
            while place < len(self.written[name]):
                line = self.written[name][place]
                place += 1
                if since is not None and line.at < since:
                    continue
                if self.fails_after is not None:
                    self.fails_after -= 1
                    if self.fails_after < 0:
                        self.fails_after = None
                        raise EngineUnavailable(engine="telling", reason="the wire is cut")
                self.told += 1
                yield line
            if name in self.ended:
                return
            await changed.wait()

    def _tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
