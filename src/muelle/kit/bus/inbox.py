"""The inbox: each consumer takes each fact in once, however often it is delivered.

Inbox row, the handler's effect and the facts that it emits share one commit. A handler that fails does not sink its
batch: it is rolled back to a savepoint and its delivery is *parked*, to be tried again with growing pauses, and *dead*
after the last attempt, until somebody redrives it. Retrying from our own table rather than from the broker's queues is
the same on both drivers and both databases, and can be looked at.

An inbox row means "taken in": handled, or answered for by a row in `deliveries`. Rows are dropped after
`REMEMBERED_DAYS`; a fact older than that can no longer be told from a duplicate, and is parked as dead rather than
guessed about.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import structlog
from sqlalchemy import (
    CheckConstraint,
    Column,
    ColumnElement,
    Index,
    Integer,
    Row,
    String,
    Table,
    Text,
    delete,
    func,
    select,
    update,
)

from muelle.kit.bus.facts import Envelope, NoEnvelope, Origin, Subscription, origin
from muelle.kit.clock import Clock
from muelle.kit.db import Database, Instant, Transaction
from muelle.kit.db.tables import furniture
from muelle.kit.errors import Missing
from muelle.kit.ids import first_id_at
from muelle.kit.loops import Loop, pause_before_retry

REMEMBERED_DAYS = 30
LAST_ATTEMPT = 8
REDELIVERY_PERIOD_SECONDS = 10
"""How soon a delivery is seen that another process parked or redrove. For our own the loop is woken in time."""
REDELIVERY_LEASE_SECONDS = 60
REDELIVERY_BATCH = 100
CLEANING_PERIOD_SECONDS = 3600
LONGEST_ERROR = 500

inbox = Table(
    "inbox",
    furniture,
    Column("consumer", String(100), primary_key=True),
    Column("event_id", String(24), primary_key=True),
)

deliveries = Table(
    "deliveries",
    furniture,
    Column("consumer", String(100), primary_key=True),
    Column("event_id", String(24), primary_key=True),
    Column("type", String(100), nullable=False),
    Column("body", Text, nullable=False),
    Column("state", String(10), nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("next_at", Instant, nullable=False),
    Column("last_error", Text, nullable=False),
    CheckConstraint("state IN ('parked', 'dead')", name="delivery_state"),
    Index("deliveries_due", "state", "next_at"),
)

Handler = Callable[[Transaction, Envelope], Awaitable[None]]
"""Applies a fact inside the transaction that is handed in. It may come in any order relative to other facts."""

_log = structlog.get_logger("muelle.bus")


class NoSuchDelivery(Missing):
    """No parked or dead delivery of {event_id} to {consumer} is there."""


@dataclass(frozen=True)
class Consumer:
    subscription: Subscription
    handle: Handler

    @property
    def name(self) -> str:
        return self.subscription.consumer


class Inbox:
    """A room's intake: `take` for the bus, the loop `redelivery` for what failed."""

    def __init__(self, room: str, database: Database, clock: Clock, consumers: Sequence[Consumer]) -> None:
        self._database = database
        self._clock = clock
        self._consumers = {consumer.name: consumer for consumer in consumers}
        self.redelivery = Loop(f"{room}.redelivery", self._redeliver_due, REDELIVERY_PERIOD_SECONDS, clock)
        self.cleaning = Loop(f"{room}.inbox_cleaning", self._forget_old, CLEANING_PERIOD_SECONDS, clock)

    def serve(self, consumer: Consumer) -> None:
        """One more consumer, before the bus is started: for a room whose handlers need what stands on this inbox."""
        self._consumers[consumer.name] = consumer

    def takers(self) -> list[InboxTaker]:
        return [InboxTaker(self, consumer) for consumer in self._consumers.values()]

    async def take(self, consumer: Consumer, bodies: Sequence[bytes]) -> list[int]:
        envelopes, rejected = _parse(bodies)
        oldest = first_id_at(self._clock.now() - timedelta(days=REMEMBERED_DAYS))
        parked = False
        async with self._database.transaction() as tx:
            for id in await self._remember(tx, consumer, envelopes):
                envelope = envelopes[id]
                if id < oldest:
                    error = f"older than the {REMEMBERED_DAYS} days that the inbox remembers"
                    await self._set_aside(tx, consumer, envelope, "dead", error)
                    continue
                try:
                    async with tx.savepoint():
                        await _handle(consumer, tx, envelope)
                except Exception as problem:
                    await self._set_aside(tx, consumer, envelope, "parked", _words(problem))
                    parked = True
        if parked:
            self.redelivery.wake()
        return rejected

    async def _remember(self, tx: Transaction, consumer: Consumer, ids: Iterable[str]) -> list[str]:
        """Writes the ids down and returns the new ones in the order in which they came.

        They are written in their own order, so that two replicas that take the same facts do not lock each other out.
        """
        rows = [{"consumer": consumer.name, "event_id": id} for id in sorted(ids)]
        new = set(await tx.insert_new(inbox, rows, inbox.c.event_id))
        return [id for id in ids if id in new]

    async def set_aside(self, state: str = "", limit: int = 100) -> Sequence[Row[Any]]:
        """What is parked or dead, oldest first."""
        query = select(deliveries).order_by(deliveries.c.event_id, deliveries.c.consumer).limit(limit)
        async with self._database.reading() as reader:
            return await reader.all(query.where(deliveries.c.state == state) if state else query)

    async def counts(self) -> dict[str, int]:
        query = select(deliveries.c.state, func.count().label("number")).group_by(deliveries.c.state)
        async with self._database.reading() as reader:
            return {"parked": 0, "dead": 0} | {row.state: row.number for row in await reader.all(query)}

    async def redrive(self, consumer: str, event_id: str) -> None:
        """Tries again at once, with all attempts ahead of it."""
        this = deliveries.c.consumer == consumer, deliveries.c.event_id == event_id
        async with self._database.transaction() as tx:
            again = update(deliveries).where(*this).values(state="parked", attempts=0, next_at=self._clock.now())
            if not (await tx.run(again)).rowcount:
                raise NoSuchDelivery(consumer=consumer, event_id=event_id)
            tx.after_commit(self.redelivery.wake)

    async def _set_aside(self, tx: Transaction, consumer: Consumer, envelope: Envelope, state: str, error: str) -> None:
        _log.warning("delivery set aside", consumer=consumer.name, fact=envelope.id, state=state, error=error)
        row = {
            "consumer": consumer.name,
            "event_id": envelope.id,
            "type": envelope.type,
            "body": envelope.to_bytes().decode(),
            "state": state,
            "attempts": 1,
            "next_at": self._pause(1),
            "last_error": error,
        }
        await tx.insert_new(deliveries, [row], deliveries.c.event_id)  # it may lie there since before it was forgotten

    def _pause(self, attempts: int) -> datetime:
        return self._clock.now() + timedelta(seconds=pause_before_retry(attempts))

    async def _redeliver_due(self) -> bool:
        due = select(deliveries).where(deliveries.c.state == "parked", deliveries.c.next_at <= self._clock.now())
        async with self._database.reading() as reader:
            rows = await reader.all(due.order_by(deliveries.c.next_at).limit(REDELIVERY_BATCH))
        for row in rows:
            if row.attempts >= LAST_ATTEMPT:
                await self._put_back(row, row.attempts, "its last attempt did not come to an end")
            elif await self._claim(row):
                await self._redeliver(row)
        await self._come_back_when_due()
        return len(rows) == REDELIVERY_BATCH

    async def _come_back_when_due(self) -> None:
        """The first pauses are much shorter than the loop's period."""
        async with self._database.reading() as reader:
            parked = select(func.min(deliveries.c.next_at)).where(deliveries.c.state == "parked")
            earliest = await reader.scalar(parked)
        if earliest is not None:
            self.redelivery.wake_at(earliest)

    async def _claim(self, row: Row[Any]) -> bool:
        """Counts the attempt before it is made, so that a handler that kills the process is not tried for ever."""
        unchanged = *_same(row), deliveries.c.attempts == row.attempts, deliveries.c.state == "parked"
        until = self._clock.now() + timedelta(seconds=REDELIVERY_LEASE_SECONDS)
        async with self._database.transaction() as tx:
            claim = update(deliveries).where(*unchanged).values(attempts=row.attempts + 1, next_at=until)
            return bool((await tx.run(claim)).rowcount)

    async def _redeliver(self, row: Row[Any]) -> None:
        attempts = row.attempts + 1
        claimed = *_same(row), deliveries.c.attempts == attempts, deliveries.c.state == "parked"
        try:
            consumer = self._consumers[row.consumer]
            async with self._database.transaction() as tx:
                if (await tx.run(delete(deliveries).where(*claimed))).rowcount:
                    await _handle(consumer, tx, Envelope.from_bytes(row.body.encode()))
        except Exception as problem:
            await self._put_back(row, attempts, _words(problem))

    async def _put_back(self, row: Row[Any], attempts: int, error: str) -> None:
        state = "dead" if attempts >= LAST_ATTEMPT else "parked"
        _log.warning("redelivery failed", consumer=row.consumer, fact=row.event_id, attempts=attempts, state=state)
        unchanged = *_same(row), deliveries.c.attempts == attempts, deliveries.c.state == "parked"
        async with self._database.transaction() as tx:
            failed = update(deliveries).where(*unchanged)
            await tx.run(failed.values(state=state, next_at=self._pause(attempts), last_error=error))

    async def _forget_old(self) -> None:
        oldest = first_id_at(self._clock.now() - timedelta(days=REMEMBERED_DAYS))
        async with self._database.transaction() as tx:
            await tx.run(delete(inbox).where(inbox.c.consumer.in_(list(self._consumers)), inbox.c.event_id < oldest))


@dataclass(frozen=True)
class InboxTaker:
    """A consumer as a bus driver sees it."""

    inbox: Inbox
    consumer: Consumer

    @property
    def subscription(self) -> Subscription:
        return self.consumer.subscription

    async def take(self, bodies: Sequence[bytes]) -> list[int]:
        return await self.inbox.take(self.consumer, bodies)


def _parse(bodies: Sequence[bytes]) -> tuple[dict[str, Envelope], list[int]]:
    """The envelopes by id (a batch may hold one twice), and the places of what is none."""
    envelopes: dict[str, Envelope] = {}
    rejected = []
    for place, body in enumerate(bodies):
        try:
            envelope = Envelope.from_bytes(body)
        except NoEnvelope:
            rejected.append(place)
        else:
            envelopes[envelope.id] = envelope
    return envelopes, rejected


async def _handle(consumer: Consumer, tx: Transaction, envelope: Envelope) -> None:
    """Runs the handler on behalf of whoever caused the fact, so that what it emits says so too."""
    token = origin.set(Origin(f"{consumer.name}", "", envelope.origin.request_id))
    try:
        await consumer.handle(tx, envelope)
    finally:
        origin.reset(token)


def _same(row: Row[Any]) -> tuple[ColumnElement[bool], ...]:
    return deliveries.c.consumer == row.consumer, deliveries.c.event_id == row.event_id


def _words(problem: Exception) -> str:
    """What went wrong, in letters that every database can keep."""
    words = f"{type(problem).__name__}: {problem}"[:LONGEST_ERROR]
    return words.replace("\0", "").encode(errors="replace").decode()
