"""Exactly once, whatever happens: facts come twice, late, in any order, handlers fail, the process dies anywhere.

Everything random here comes from a seed that is in the name of the test.
"""

from __future__ import annotations

import asyncio
import random
import shutil
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, event, select
from sqlalchemy.dialects.sqlite import insert

from muelle.kit.bus import ALL, Envelope, Inbox, Outbox, Subscription
from muelle.kit.bus.inbox import deliveries, inbox
from muelle.kit.bus.memory import Disorder, MemoryBus
from muelle.kit.clock import MovableClock
from muelle.kit.db import Database, Transaction, open_database
from muelle.kit.db.migrations import migrate
from tests.bus.harbour import (
    ARRIVED,
    LEFT,
    Harbour,
    ShipArrived,
    ShipLeft,
    cargo,
    envelope_at,
    harbour_line,
    log,
    open_harbour,
)
from tests.waiting import eventually

CUSTOMS = Subscription("customs", ARRIVED)
LEDGER = Subscription("ledger", LEFT)
DIARY = Subscription("diary", frozenset({ALL}))
SHIPS = [f"ship {n}" for n in range(20)]


class PowerCut(BaseException):
    """The process is gone: nothing that it would have done after this happens."""


# --- disorder itself


@pytest.mark.parametrize("seed", range(5))
async def test_disorder_comes_from_its_seed(seed: int, clock: MovableClock) -> None:
    first, again, other = [await _deliveries(Disorder(s, late=0), clock) for s in (seed, seed, seed + 1)]
    assert first == again
    assert first != other


async def test_disorder_doubles_some(clock: MovableClock) -> None:
    came = Counter(await _came(Disorder(1, duplicate=0.3, late=0), clock))
    assert set(came) == set(SHIPS)
    assert set(came.values()) == {1, 2}


async def test_disorder_delays_some(clock: MovableClock) -> None:
    batches = await _deliveries(Disorder(1, duplicate=0, late=0.3, late_seconds=0.001), clock)
    at_once = {ship for batch in batches[:2] for ship in batch}
    assert 0 < len(at_once) < len(SHIPS)
    assert {ship for batch in batches for ship in batch} == set(SHIPS)


async def test_disorder_reorders(clock: MovableClock) -> None:
    came = await _came(Disorder(1, duplicate=0, late=0), clock)
    assert came != SHIPS
    assert sorted(came) == sorted(SHIPS)


async def test_without_disorder_facts_come_once_and_in_order(clock: MovableClock) -> None:
    assert await _deliveries(None, clock) == [SHIPS]


@pytest.mark.parametrize("seed", range(10))
async def test_disorder_neither_loses_nor_doubles(seed: int, small_harbour: Harbour) -> None:
    harbour = small_harbour
    bus = MemoryBus([CUSTOMS, DIARY], Disorder(seed, late_seconds=0.001))
    for taker in harbour.inbox_of(CUSTOMS, DIARY).takers():
        bus.attach(taker)
    outbox = harbour.outbox(bus)
    await harbour.emit(outbox, *(ShipArrived(ship=ship) for ship in SHIPS))

    async def all_gone() -> bool:
        await outbox.relay.run_once()
        return await outbox.waiting() == 0

    await eventually(all_gone)
    await eventually(lambda: not bus._stragglers)
    for consumer in ("customs", "diary"):
        assert await harbour.counted(consumer) == dict.fromkeys(SHIPS, 1)
    await bus.stop()


# --- whatever is delivered, in whatever batches, each is taken once

_batches = st.lists(st.lists(st.integers(0, 7), max_size=6), max_size=8)
_failures = st.dictionaries(st.integers(0, 7), st.integers(1, 3))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batches=_batches, failures=_failures)
async def test_what_comes_is_taken_once_in_the_end(
    small_harbour: Harbour, clock: MovableClock, batches: list[list[int]], failures: dict[int, int]
) -> None:
    harbour = small_harbour
    await _sweep(harbour.database)
    left = {f"ship {number}": times for number, times in failures.items()}
    envelopes = [envelope_at(clock.now(), f"ship {number}") for number in range(8)]

    async def fail(_tx: Transaction, envelope: Envelope) -> None:
        if left.get(envelope.subject, 0):
            left[envelope.subject] -= 1
            raise RuntimeError("not yet")

    room = harbour.inbox_of(CUSTOMS, hook=fail)
    (taker,) = room.takers()
    for batch in batches:
        assert await taker.take([envelopes[number].to_bytes() for number in batch]) == []
    for _ in range(4):
        await clock.advance(3600)
        await room.redelivery.run_once()
    delivered = {f"ship {number}" for batch in batches for number in batch}
    assert await harbour.counted("customs") == dict.fromkeys(delivered, 1)
    assert await room.counts() == {"parked": 0, "dead": 0}


# --- the process dies, anywhere


class CrashPoints:
    """Counts what a database is asked to do, and cuts the power at the n-th time; then it stays cut."""

    def __init__(self, at: int) -> None:
        self.at = at
        self.passed = 0

    def __call__(self, *_: object) -> None:
        self.passed += 1
        if self.at and self.passed >= self.at:
            raise PowerCut

    def watch(self, database: Database) -> None:
        event.listen(database._writer.sync_engine, "before_cursor_execute", self)
        event.listen(database._writer.sync_engine, "commit", self)


class Watched(Database):
    """A database that can also die just after a commit, before anybody has heard of it."""

    def __init__(self, database: Database, points: CrashPoints) -> None:
        super().__init__(database.name, database._writer, database._reader, postgres=False)
        self._points = points
        points.watch(self)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        async with super().transaction() as tx:
            yield tx
        self._points()


@dataclass
class Port:
    """A whole process: each ship that arrives is cleared by customs, which lets it leave, which the ledger books."""

    outbox: Outbox
    room: Inbox
    bus: MemoryBus
    harbour: Harbour

    @classmethod
    def start(cls, database: Database, clock: MovableClock, bus: MemoryBus, dice: random.Random | None = None) -> Port:
        harbour = Harbour(database, clock)
        outbox = harbour.outbox(bus)

        async def clear(tx: Transaction, envelope: Envelope) -> None:
            if dice is not None and dice.random() < 0.15:
                raise RuntimeError("customs is at lunch")
            await outbox.emit(tx, ShipLeft(ship=envelope.data["ship"], tons=envelope.data["tons"]))

        async def book(tx: Transaction, envelope: Envelope) -> None:
            row = insert(cargo).values(ship="all", tons=envelope.data["tons"])
            await tx.run(
                row.on_conflict_do_update(index_elements=["ship"], set_={"tons": cargo.c.tons + row.excluded.tons})
            )

        room = harbour.inbox(harbour.consumer(CUSTOMS, clear), harbour.consumer(LEDGER, book))
        for taker in room.takers():
            bus.attach(taker)
        return cls(outbox, room, bus, harbour)

    async def work(self, clock: MovableClock) -> bool:
        """One round of everything; whether all is quiet."""
        await self.outbox.relay.run_once()
        await clock.advance(3600)
        await self.room.redelivery.run_once()
        counts = await self.room.counts()
        assert counts["dead"] == 0
        return await self.outbox.waiting() == 0 and counts["parked"] == 0

    async def finish(self, clock: MovableClock) -> None:
        await eventually(lambda: self.work(clock))

    async def check_books(self, tons: dict[str, int]) -> None:
        """Each ship was cleared once and booked once, and the sum is right."""
        assert await self.harbour.counted("customs") == dict.fromkeys(tons, 1)
        assert await self.harbour.counted("ledger") == dict.fromkeys(tons, 1)
        async with self.harbour.database.reading() as reader:
            assert await reader.scalar(select(cargo.c.tons)) == sum(tons.values())


@pytest.fixture
async def fresh_file(tmp_path: Path, clock: MovableClock) -> Path:
    """A database file that is ready to be copied."""
    async with open_harbour(tmp_path, clock) as harbour:
        assert await migrate(harbour.database, harbour_line(tmp_path)) == []
    return tmp_path / "harbour.db"


async def test_a_crash_at_any_point_loses_nothing_and_doubles_nothing(
    fresh_file: Path, tmp_path: Path, clock: MovableClock
) -> None:
    points = await _live_and_die(fresh_file, tmp_path / "whole", clock, at=0)
    assert points > 25, "statements, commits and their aftermath"
    for at in range(1, points + 1):
        await _live_and_die(fresh_file, tmp_path / f"crash-{at}", clock, at)


async def _live_and_die(fresh_file: Path, folder: Path, clock: MovableClock, at: int) -> int:
    """A life that ends at that point, and the next one, which has to bring everything to its end."""
    folder.mkdir()
    shutil.copy(fresh_file, folder / "harbour.db")
    points = CrashPoints(at)
    database = Watched(open_database("harbour", folder=folder), points)
    first = Port.start(database, clock, MemoryBus([CUSTOMS, LEDGER]))
    emitted = False
    try:
        await first.harbour.emit(first.outbox, ShipArrived(ship="Esperanza", tons=3), ShipArrived(ship="Ana", tons=4))
        emitted = True
        while not await first.work(clock):
            pass
    except PowerCut:
        assert at
    await database.close()

    again = open_database("harbour", folder=folder)
    second = Port.start(again, clock, MemoryBus([CUSTOMS, LEDGER]))
    if not emitted and not await second.outbox.waiting():
        await second.harbour.emit(second.outbox, ShipArrived(ship="Esperanza", tons=3), ShipArrived(ship="Ana", tons=4))
    await second.finish(clock)
    await second.check_books({"Esperanza": 3, "Ana": 4})
    await again.close()
    return points.passed


@pytest.mark.parametrize("seed", range(6))
async def test_many_crashes_in_great_disorder_lose_nothing_and_double_nothing(
    seed: int, fresh_file: Path, tmp_path: Path, clock: MovableClock
) -> None:
    dice = random.Random(seed)
    tons = {f"ship {n}": dice.randint(1, 50) for n in range(12)}
    to_emit = list(tons)
    crashes = 0
    for life in range(20):
        database = open_database("harbour", folder=tmp_path)
        CrashPoints(at=dice.randint(3, 60)).watch(database)
        disorder = Disorder(seed * 100 + life, late_seconds=0.001)
        port = Port.start(database, clock, MemoryBus([CUSTOMS, LEDGER], disorder), dice)
        try:
            for ship in to_emit[:2]:
                await port.harbour.emit(port.outbox, ShipArrived(ship=ship, tons=tons[ship]))
                to_emit.remove(ship)
            for _ in range(3):
                await port.work(clock)
        except PowerCut:
            crashes += 1
        await port.bus.stop()
        await database.close()

    database = open_database("harbour", folder=tmp_path)
    port = Port.start(database, clock, MemoryBus([CUSTOMS, LEDGER], Disorder(seed)))
    await port.finish(clock)
    await port.bus.stop()
    await port.check_books(tons)
    await database.close()
    assert not to_emit
    assert crashes > 2, "the power did fail"


async def _deliveries(disorder: Disorder | None, clock: MovableClock) -> list[list[str]]:
    """What a consumer gets, batch by batch, when the relay sends until everything is accepted."""
    batches: list[list[str]] = []

    class Recorder:
        subscription = DIARY

        async def take(self, bodies: Sequence[bytes]) -> list[int]:
            batches.append([Envelope.from_bytes(body).subject for body in bodies])
            return []

    bus = MemoryBus([DIARY], disorder)
    bus.attach(Recorder())
    waiting = {envelope.id: envelope for envelope in (envelope_at(clock.now(), ship) for ship in SHIPS)}
    while waiting:
        for id in await bus.publish(list(waiting.values())):
            del waiting[id]
        await asyncio.sleep(0)
    await eventually(lambda: not bus._stragglers)
    return batches


async def _came(disorder: Disorder, clock: MovableClock) -> list[str]:
    return [ship for batch in await _deliveries(disorder, clock) for ship in batch]


async def _sweep(database: Database) -> None:
    tables: list[Any] = [inbox, deliveries, log]
    async with database.transaction() as tx:
        for table in tables:
            await tx.run(delete(table))
