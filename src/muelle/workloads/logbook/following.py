"""Followers of a workload: woken when lines are appended, and given those without going through the files.

What was appended last is kept in memory, once for all followers of a workload and only while there are any. Who is
further behind than that reads the files again: a slow follower costs as much memory as a quick one.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from itertools import islice

from muelle.workloads.logbook.model import Entry, Kept

RECENT_LINES = 1024
RECENT_CHARACTERS = 1024 * 1024


class Recent:
    """The last lines of a workload that is followed. Lives in the event loop."""

    def __init__(self) -> None:
        self.followers = 0
        self.over = False
        """The workload's lines were dropped for good."""
        self._kept: deque[Kept] = deque()
        self._characters = 0
        self._changed = asyncio.Event()

    @property
    def change(self) -> asyncio.Event:
        """Is set at the next change. To be taken before looking what there is, so that none is overlooked."""
        return self._changed

    def add(self, first: int, entries: Sequence[Entry]) -> None:
        if self._kept and self._kept[-1].cursor + 1 != first:
            self._forget()
        for place, entry in enumerate(entries):
            self._kept.append(Kept(first + place, entry))
            self._characters += len(entry.text)
        while len(self._kept) > RECENT_LINES or self._characters > RECENT_CHARACTERS:
            self._characters -= len(self._kept.popleft().entry.text)
        self._tell()

    def end(self) -> None:
        self.over = True
        self._tell()

    def after(self, cursor: int | None) -> tuple[Kept, ...] | None:
        """The lines after a cursor; None where only the files can tell."""
        if cursor is None or not self._kept or not self._kept[0].cursor <= cursor + 1 <= self._kept[-1].cursor + 1:
            return None
        return tuple(islice(self._kept, cursor + 1 - self._kept[0].cursor, None))

    def _forget(self) -> None:
        self._kept.clear()
        self._characters = 0

    def _tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
