"""What a pretended instance has printed. Readers hold a place in it, no copy of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import datetime

from muelle.engines.protocol import LONGEST_LINE, Line, Stream

MOST_LINES = 200_000
"""Of an instance; then the older half is dropped, as log files are rotated."""
LINES_IN_A_TURN = 500
"""After so many lines a reader lets others have a turn."""


class Record:
    __slots__ = ("_dropped", "_lines", "_waiting")

    def __init__(self) -> None:
        self._lines: list[tuple[datetime, Stream, str]] = []
        self._dropped = 0
        self._waiting: list[asyncio.Future[None]] | None = None

    def add(self, at: datetime, stream: Stream, text: str) -> None:
        for start in range(0, len(text) or 1, LONGEST_LINE):
            self._lines.append((at, stream, text[start : start + LONGEST_LINE]))
        if len(self._lines) > MOST_LINES:
            self._dropped += MOST_LINES // 2
            del self._lines[: MOST_LINES // 2]
        self.ring()

    def ring(self) -> None:
        """Wakes the readers: there is more, or there will never be more."""
        waiting, self._waiting = self._waiting, None
        for reader in waiting or ():
            if not reader.done():
                reader.set_result(None)

    async def read(self, since: datetime | None, goes_on: Callable[[], bool]) -> AsyncIterator[Line]:
        """The lines from that moment on, as long as it goes on."""
        place = 0
        while True:
            while place - self._dropped < len(self._lines):
                place = max(place, self._dropped)
                at, stream, text = self._lines[place - self._dropped]
                place += 1
                if since is None or at >= since:
                    yield Line(at, stream, text)
                if place % LINES_IN_A_TURN == 0:
                    await asyncio.sleep(0)
            if not goes_on():
                return
            await self._more()

    async def _more(self) -> None:
        waiter = asyncio.get_running_loop().create_future()
        self._waiting = [*(self._waiting or ()), waiter]
        await waiter
