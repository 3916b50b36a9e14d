"""A room to try the bus with: it emits facts, and its consumers write down what they took, one row for each time."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar, Protocol

from sqlalchemy import Column, Integer, MetaData, String, Table, select

from muelle.kit.bus import Bus, Consumer, Envelope, Fact, Inbox, Origin, Outbox, Subscription
from muelle.kit.bus.facts import Taker
from muelle.kit.bus.memory import MemoryBus
from muelle.kit.bus.rabbit import RabbitBus
from muelle.kit.clock import Clock
from muelle.kit.db import Database, Transaction, open_database
from muelle.kit.db.migrations import Line, migrate
from muelle.kit.ids import new_id, new_id_at
from tests.waiting import eventually

STEP = """
import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "log",
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("consumer", sa.String(100), nullable=False),
        sa.Column("type", sa.String(100), nullable=False),
        sa.Column("ship", sa.String(100), nullable=False),
    )
    op.create_table(
        "cargo", sa.Column("ship", sa.String(100), primary_key=True), sa.Column("tons", sa.Integer, nullable=False)
    )
"""

rooms = MetaData()
log = Table(
    "log",
    rooms,
    Column("number", Integer, primary_key=True),
    Column("consumer", String(100)),
    Column("type", String(100)),
    Column("ship", String(100)),
)
cargo = Table("cargo", rooms, Column("ship", String(100), primary_key=True), Column("tons", Integer))


class ShipArrived(Fact):
    subject: ClassVar[str] = "ship"
    ship: str
    tons: int = 0


class ShipLeft(Fact):
    subject: ClassVar[str] = "ship"
    ship: str
    tons: int = 0


ARRIVED = frozenset({"ShipArrived"})
LEFT = frozenset({"ShipLeft"})
Hook = Callable[[Transaction, Envelope], Awaitable[None]]


@dataclass
class Harbour:
    """The room: a database with its outbox, and as many consumers as a test wants."""

    database: Database
    clock: Clock
    process: str = field(default_factory=new_id)

    def outbox(self, bus: Bus) -> Outbox:
        return Outbox("harbour", self.database, bus, self.clock, self.process)

    def inbox(self, *consumers: Consumer) -> Inbox:
        return Inbox("harbour", self.database, self.clock, consumers)

    def inbox_of(self, *subscriptions: Subscription, hook: Hook | None = None) -> Inbox:
        return self.inbox(*(self.consumer(subscription, hook) for subscription in subscriptions))

    def consumer(self, subscription: Subscription, hook: Hook | None = None) -> Consumer:
        """Writes down that it took a fact; calls the hook, after that and in the same transaction."""

        async def handle(tx: Transaction, envelope: Envelope) -> None:
            row = {"consumer": subscription.consumer, "type": envelope.type, "ship": envelope.data["ship"]}
            await tx.run(log.insert(), row)
            if hook is not None:
                await hook(tx, envelope)

        return Consumer(subscription, handle)

    async def emit(self, outbox: Outbox, *facts: Fact) -> None:
        async with self.database.transaction() as tx:
            await outbox.emit(tx, *facts)

    async def taken(self, consumer: str | None = None) -> list[str]:
        query = select(log.c.ship).order_by(log.c.number)
        async with self.database.reading() as reader:
            rows = await reader.all(query.where(log.c.consumer == consumer) if consumer else query)
        return [row.ship for row in rows]

    async def counted(self, consumer: str) -> Counter[str]:
        """How many times the consumer took each ship's fact."""
        return Counter(await self.taken(consumer))


@asynccontextmanager
async def open_harbour(folder: Path, clock: Clock, url: str = "", name: str = "harbour") -> AsyncIterator[Harbour]:
    database = open_database(name, folder=folder, url=url)
    try:
        await migrate(database, harbour_line(folder))
        yield Harbour(database, clock)
    finally:
        await database.close()


def harbour_line(folder: Path) -> Line:
    steps = folder / "harbour_steps"
    steps.mkdir(exist_ok=True)
    (steps / "0001_log_cargo.py").write_text(STEP)
    return Line("harbour", steps)


def envelope_at(moment: datetime, ship: str = "Esperanza", **changes: Any) -> Envelope:
    fact = ShipArrived(ship=ship)
    parts: dict[str, Any] = {
        "id": new_id_at(moment),
        "type": "ShipArrived",
        "room": "harbour",
        "subject": ship,
        "at": moment,
        "origin": Origin("ana", "127.0.0.1", "r1"),
        "data": fact.model_dump(mode="json"),
    }
    return Envelope(**(parts | changes))


class Wiring(Protocol):
    """How the processes of a test are joined: `join` starts one with these takers, `part` ends it."""

    async def join(self, takers: Iterable[Taker] = ()) -> Bus: ...

    async def part(self, bus: Bus, takers: Iterable[Taker] = ()) -> None: ...

    async def close(self) -> None: ...


class InProcess:
    """Every process uses the one bus."""

    def __init__(self, subscriptions: Sequence[Subscription]) -> None:
        self.bus = MemoryBus(subscriptions)

    async def join(self, takers: Iterable[Taker] = ()) -> Bus:
        for taker in takers:
            self.bus.attach(taker)
        return self.bus

    async def part(self, bus: Bus, takers: Iterable[Taker] = ()) -> None:
        for taker in takers:
            self.bus.detach(taker)

    async def close(self) -> None:
        await self.bus.stop()


class OverRabbit:
    """Every process has a connection of its own."""

    def __init__(self, url: str, namespace: str, subscriptions: Sequence[Subscription], clock: Clock) -> None:
        self._make = lambda: RabbitBus(url, subscriptions, clock, namespace)
        self._buses: list[RabbitBus] = []

    async def join(self, takers: Iterable[Taker] = ()) -> Bus:
        bus = self._make()
        for taker in takers:
            bus.attach(taker)
        self._buses.append(bus)
        await bus.start()
        await eventually(bus.check, 20)
        return bus

    async def part(self, bus: Bus, takers: Iterable[Taker] = ()) -> None:
        await bus.stop()

    async def close(self) -> None:
        for bus in self._buses:
            await bus.stop()


def fresh_namespace() -> str:
    return f"test-{uuid.uuid4().hex[:8]}"
