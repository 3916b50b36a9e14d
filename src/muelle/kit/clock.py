"""Time, handed in: everything that asks what time it is, or waits, does so through a `Clock`.

`SystemClock` is the real one. `MovableClock` stands still until a test moves it, and wakes whoever waited for the
moment it reaches; no test has to sleep.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    def now(self) -> datetime:
        """The present moment, in UTC."""
        ...

    async def sleep(self, seconds: float) -> None: ...

    async def wait(self, event: asyncio.Event, seconds: float) -> bool:
        """Waits until the event is set (True) or the time is over (False)."""
        ...


class SystemClock:
    def now(self) -> datetime:
        return datetime.now(UTC)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def wait(self, event: asyncio.Event, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await event.wait()
        except TimeoutError:
            return False
        return True


class MovableClock:
    def __init__(self, start: datetime = datetime(2026, 1, 1, tzinfo=UTC)) -> None:
        self._now = start
        self._sleepers: list[tuple[datetime, int, asyncio.Future[None]]] = []
        self._order = itertools.count()

    def now(self) -> datetime:
        return self._now

    async def sleep(self, seconds: float) -> None:
        future = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._now + timedelta(seconds=seconds), next(self._order), future))
        await future

    async def wait(self, event: asyncio.Event, seconds: float) -> bool:
        waiting = [asyncio.ensure_future(event.wait()), asyncio.ensure_future(self.sleep(seconds))]
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waiting:
                task.cancel()
        return event.is_set()

    async def advance(self, seconds: float) -> None:
        """Moves on, waking each sleeper at its own moment; returns when those that woke have had a turn."""
        goal = self._now + timedelta(seconds=seconds)
        while self._sleepers and self._sleepers[0][0] <= goal:
            due, _, future = heapq.heappop(self._sleepers)
            self._now = max(self._now, due)
            if not future.done():
                future.set_result(None)
                await _give_way()
        self._now = goal
        await _give_way()

    def jump(self, seconds: float) -> None:
        """Sets the clock, forward or back, without waking anybody: what a wrong time server does."""
        self._now += timedelta(seconds=seconds)


async def _give_way() -> None:
    """Lets whoever woke act and wait again: a few turns of the loop, since a wait stands on tasks of its own."""
    for _ in range(10):
        await asyncio.sleep(0)
