"""What is going to happen in a pretended world, by the clock: one list, and one sleeper while there is something on it.

A thousand instances that just run cost nothing here. Whoever looks at the world settles it first, so that a look never
shows less than the clock says, whether the sleeper has had its turn or not.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from muelle.kit.clock import Clock


@dataclass(order=True, slots=True)
class Entry:
    due: datetime
    number: int
    act: Callable[[], None] | None = field(compare=False)
    """None: it was struck out."""

    def strike(self) -> None:
        self.act = None


class Agenda:
    def __init__(self) -> None:
        self.clock: Clock | None = None
        """The clock of the engine that was connected last."""
        self._entries: list[Entry] = []
        self._numbers = itertools.count()
        self._sleeper: asyncio.Task[None] | None = None
        self._sleeps_until: datetime | None = None

    def now(self) -> datetime:
        if self.clock is None:
            raise RuntimeError("no engine was ever connected to this world, so it has no clock")
        return self.clock.now()

    def after(self, seconds: float, act: Callable[[], None]) -> Entry:
        entry = Entry(self.now() + timedelta(seconds=seconds), next(self._numbers), act)
        heapq.heappush(self._entries, entry)
        self.wake_in_time()
        return entry

    def settle(self) -> None:
        """Does all that is due."""
        while self._entries and (self._entries[0].act is None or self._entries[0].due <= self.now()):
            entry = heapq.heappop(self._entries)
            if entry.act is not None:
                entry.act()
        self.wake_in_time()

    def wake_in_time(self) -> None:
        """Sees to it that somebody sleeps until the next entry, and nobody where there is none."""
        loop = _running_loop()
        if loop is None:
            return
        due = self._entries[0].due if self._entries else None
        asleep = self._sleeper if self._sleeper is not None and _lives(self._sleeper, loop) else None
        if due == self._sleeps_until and (asleep is not None or due is None):
            return
        if asleep is not None and asleep is not asyncio.current_task():
            asleep.cancel()
        self._sleeps_until = due
        self._sleeper = None if due is None else loop.create_task(self._sleep_until(due))

    async def _sleep_until(self, due: datetime) -> None:
        assert self.clock is not None  # noqa: S101 - there is an entry, so there was a clock to say when
        await self.clock.sleep(max(0.0, (due - self.now()).total_seconds()))
        self._sleeps_until = None
        self.settle()


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _lives(sleeper: asyncio.Task[None], loop: asyncio.AbstractEventLoop) -> bool:
    """One that slept in another event loop went with the Muelle that was killed."""
    return not sleeper.done() and sleeper.get_loop() is loop
