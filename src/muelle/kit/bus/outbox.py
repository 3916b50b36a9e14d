"""The outbox: facts are written down in the transaction of the change and relayed after it.

A row is in the outbox as long as not every consumer is sure to get the fact, and no longer. It is born leased to the
process that wrote it, whose own relay sends it at once, woken by the commit; a relay that finds somebody else's row
past its lease takes it over. Two relays may then send the same fact, which the inbox sees through: no election needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import BigInteger, Column, Integer, Row, String, Table, Text, delete, func, select, update

from muelle.kit.bus.facts import Bus, Envelope, Fact, origin
from muelle.kit.clock import Clock
from muelle.kit.db import Database, Instant, Transaction
from muelle.kit.db.tables import furniture
from muelle.kit.ids import new_id_at
from muelle.kit.loops import Loop

BATCH = 256
LEASE_SECONDS = 15
PERIOD_SECONDS = 10
"""How soon a fact is seen that another process left behind. Our own wake the relay when they are committed."""
OFFERED_AGAIN_SECONDS = 2
"""After what time a fact is offered again that nobody took, although the bus answers."""
LONGEST_PAUSE_SECONDS = 5.0

outbox = Table(
    "outbox",
    furniture,
    Column("seq", BigInteger().with_variant(Integer(), "sqlite"), primary_key=True, autoincrement=True),
    Column("event_id", String(24), nullable=False),
    Column("body", Text, nullable=False),
    Column("owner", String(24), nullable=False),
    Column("lease_until", Instant, nullable=False),
)


class Outbox:
    """A room's facts on their way out. `emit` inside a transaction; the loop `relay` does the rest."""

    def __init__(self, room: str, database: Database, bus: Bus, clock: Clock, process: str) -> None:
        self._room = room
        self._database = database
        self._bus = bus
        self._clock = clock
        self._owner = process
        self.relay = Loop(f"{room}.relay", self._relay_once, PERIOD_SECONDS, clock, longest_pause=LONGEST_PAUSE_SECONDS)

    async def emit(self, tx: Transaction, *facts: Fact) -> None:
        if not facts:
            return
        now = self._clock.now()
        envelopes = [
            Envelope(
                id=new_id_at(now),
                type=type(fact).__name__,
                room=self._room,
                subject=str(getattr(fact, fact.subject)),
                at=now,
                origin=origin.get(),
                data=fact.model_dump(mode="json"),
            )
            for fact in facts
        ]
        await tx.run(
            outbox.insert(),
            [
                {
                    "event_id": envelope.id,
                    "body": envelope.to_bytes().decode(),
                    "owner": self._owner,
                    "lease_until": now + timedelta(seconds=LEASE_SECONDS),
                }
                for envelope in envelopes
            ],
        )
        tx.after_commit(self.relay.wake)

    async def waiting(self) -> int:
        async with self._database.reading() as reader:
            return int(await reader.scalar(select(func.count()).select_from(outbox)))

    async def _relay_once(self) -> bool:
        """Sends what waits; says to go on as long as it gets anywhere, so that a few stuck rows hold up no others."""
        rows = await self._claim()
        if not rows:
            return False
        accepted = await self._bus.publish([Envelope.from_bytes(row.body.encode()) for row in rows])
        done = [row.seq for row in rows if row.event_id in accepted]
        if done:
            async with self._database.transaction() as tx:
                await tx.run(delete(outbox).where(outbox.c.seq.in_(done)))
        if not done:
            self.relay.wake_at(self._clock.now() + timedelta(seconds=OFFERED_AGAIN_SECONDS))
        return bool(done) and (len(rows) == BATCH or len(done) < len(rows))

    async def _claim(self) -> Sequence[Row[Any]]:
        """Our own rows as they are, and strangers' rows past their lease, which become ours by a guarded update."""
        ours = select(outbox).where(outbox.c.owner == self._owner).order_by(outbox.c.seq).limit(BATCH)
        if not self._database.shared:
            ours = select(outbox).order_by(outbox.c.seq).limit(BATCH)  # nobody else is there: whatever waits is ours
        now = self._clock.now()
        left_behind = outbox.c.owner != self._owner, outbox.c.lease_until < now
        async with self._database.reading() as reader:
            rows = await reader.all(ours)
            if rows or not self._database.shared:
                return rows
            if not await reader.scalar(select(outbox.c.seq).where(*left_behind).limit(1)):
                return []
        async with self._database.transaction() as tx:
            oldest = select(outbox.c.seq).where(*left_behind).order_by(outbox.c.seq).limit(BATCH)
            claim = update(outbox).where(outbox.c.seq.in_(oldest.with_for_update(skip_locked=True)))
            lease_until = now + timedelta(seconds=LEASE_SECONDS)
            return (await tx.run(claim.values(owner=self._owner, lease_until=lease_until).returning(outbox))).all()
