"""Two rooms made of the real kit: the speaker tells numbered facts, the listener writes each number down.

Each number is told in the transaction that writes it into `told`, so that the table says which facts must arrive. The
listener guards against nothing: a fact that is handled twice leaves two rows.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import ClassVar

import structlog
from sqlalchemy import Column, Integer, MetaData, Table, select

from muelle.kit.bus import Bus, Consumer, Envelope, Fact, Inbox, Outbox, Subscription
from muelle.kit.clock import SystemClock
from muelle.kit.db import Database, Transaction
from muelle.kit.db.migrations import Line
from muelle.kit.ids import new_id
from muelle.kit.loops import Loop

LINE = Line("bench", Path(__file__).parent / "steps")
SUBSCRIPTION = Subscription("listener.count", frozenset({"Counted"}))
AT_ONCE = 50
AGAIN_SECONDS = 0.5

tables = MetaData()
told = Table("told", tables, Column("number", Integer, primary_key=True))
heard = Table("heard", tables, Column("place", Integer, primary_key=True), Column("number", Integer))

_log = structlog.get_logger("bench")


class Counted(Fact):
    subject: ClassVar[str] = "number"
    number: int


class Speaker:
    """Tells the numbers from 1 on, evenly in time and whether or not the earlier ones are through."""

    def __init__(self, database: Database, bus: Bus, facts: int, per_second: float) -> None:
        self.moments: dict[int, float] = {}
        self._database = database
        self._outbox = Outbox("speaker", database, bus, SystemClock(), new_id())
        self._facts = facts
        self._per_second = per_second
        self._free = asyncio.Semaphore(AT_ONCE)

    @property
    def loops(self) -> Sequence[Loop]:
        return [self._outbox.relay]

    async def speak(self) -> None:
        """Returns when every number is told. One that was told before a kill is not told again."""
        while missing := await self._missing():
            async with asyncio.TaskGroup() as telling:
                async for number, due in evenly(missing, self._per_second):
                    telling.create_task(self._tell(number, due))

    async def _missing(self) -> list[int]:
        async with self._database.reading() as reader:
            known = {row.number for row in await reader.all(select(told.c.number))}
        return [number for number in range(1, self._facts + 1) if number not in known]

    async def _tell(self, number: int, due: float) -> None:
        """Counts from the moment at which it was due: waiting for our own slowness is part of the time."""
        self.moments[number] = due
        try:
            async with self._free, self._database.transaction() as tx:
                await tx.run(told.insert(), {"number": number})
                await self._outbox.emit(tx, Counted(number=number))
        except Exception as problem:  # it is found missing, and told again
            _log.warning("not told", number=number, error=f"{type(problem).__name__}: {problem}")
            await asyncio.sleep(AGAIN_SECONDS)


class Listener:
    def __init__(self, database: Database) -> None:
        self.moments: dict[int, float] = {}
        self.inbox = Inbox("listener", database, SystemClock(), [Consumer(SUBSCRIPTION, self._hear)])

    @property
    def loops(self) -> Sequence[Loop]:
        return [self.inbox.redelivery, self.inbox.cleaning]

    async def _hear(self, tx: Transaction, envelope: Envelope) -> None:
        number = envelope.read(Counted).number
        await tx.run(heard.insert(), {"number": number})
        tx.after_commit(lambda: self._note(number))

    def _note(self, number: int) -> None:
        self.moments[number] = time.perf_counter()


async def evenly(numbers: Sequence[int], per_second: float) -> AsyncIterator[tuple[int, float]]:
    """Each number when it is due, with that moment; late ones at once, so that a delay leaves no gap."""
    began = time.perf_counter()
    for place, number in enumerate(numbers):
        due = began + place / per_second
        if (pause := due - time.perf_counter()) > 0:
            await asyncio.sleep(pause)
        yield number, due
