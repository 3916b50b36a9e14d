"""Traps that others fell into, each as a test that falls into it again where we do."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aio_pika
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text
from sqlalchemy.exc import PendingRollbackError
from structlog.testing import capture_logs

from muelle.kit.bus import ALL, Consumer, Envelope, Outbox, Subscription, rabbit
from muelle.kit.bus.facts import NoEnvelope, Taker
from muelle.kit.bus.inbox import LAST_ATTEMPT, REDELIVERY_PERIOD_SECONDS, REMEMBERED_DAYS
from muelle.kit.bus.memory import MemoryBus
from muelle.kit.bus.outbox import LEASE_SECONDS, PERIOD_SECONDS
from muelle.kit.bus.rabbit import BadBrokerAddress, BrokerUnavailable, RabbitBus
from muelle.kit.clock import MovableClock, SystemClock
from muelle.kit.db import Transaction
from muelle.kit.ids import new_id
from tests.bus.harbour import ARRIVED, Harbour, ShipArrived, cargo, envelope_at, open_harbour
from tests.bus.proxy import Proxy
from tests.waiting import eventually

CUSTOMS = Subscription("customs", ARRIVED)
DIARY = Subscription("diary", frozenset({ALL}))
ONE_DAY = 86400.0

on_rabbit = pytest.mark.needs("rabbitmq")
on_postgres = pytest.mark.needs("postgres")


class Recorder:
    """A taker that keeps what it takes, and waits for leave to go on while `held`."""

    def __init__(self, subscription: Subscription = DIARY) -> None:
        self.subscription = subscription
        self.bodies: list[bytes] = []
        self.batches = 0
        self.may_go_on = asyncio.Event()
        self.may_go_on.set()

    async def take(self, bodies: Sequence[bytes]) -> list[int]:
        self.batches += 1
        await self.may_go_on.wait()
        self.bodies += bodies
        return [place for place, body in enumerate(bodies) if not body.startswith(b"{")]


class Broken(Recorder):
    """A taker whose database is away until it is mended."""

    def __init__(self) -> None:
        super().__init__()
        self.mended = False

    async def take(self, bodies: Sequence[bytes]) -> list[int]:
        self.batches += 1
        if not self.mended:
            raise ConnectionError("the database is away")
        self.bodies += bodies
        return []


@pytest.fixture
def broker(rabbit_url: str, rabbit_namespace: str) -> SimpleNamespace:
    return SimpleNamespace(url=rabbit_url, namespace=rabbit_namespace)


@asynccontextmanager
async def connected(
    broker: Any, *takers: Taker, subscriptions: Iterable[Subscription] = (), url: str = "", wait: bool = True
) -> AsyncIterator[RabbitBus]:
    wanted = [*subscriptions] or [taker.subscription for taker in takers]
    bus = RabbitBus(url or broker.url, wanted, SystemClock(), broker.namespace)
    for taker in takers:
        bus.attach(taker)
    await bus.start()
    try:
        if wait:
            await eventually(bus.check, 30)
        yield bus
    finally:
        await bus.stop()


@asynccontextmanager
async def channel_to(url: str) -> AsyncIterator[aio_pika.abc.AbstractChannel]:
    """The broker, without our bus between."""
    connection = await aio_pika.connect(url)
    async with connection, connection.channel() as channel:
        yield channel


async def messages_in(url: str, queue: str) -> int:
    async with channel_to(url) as channel:
        return (await channel.declare_queue(queue, passive=True)).declaration_result.message_count or 0


def some(number: int) -> list[Envelope]:
    now = SystemClock().now()
    return [envelope_at(now, f"ship {n}") for n in range(number)]


# --- the five of the list


@on_rabbit
async def test_a_dead_broker_is_noticed_though_the_connection_claims_to_be_open(own_rabbit: Any) -> None:
    taker = Recorder()
    before, after = some(2)
    here = SimpleNamespace(url=own_rabbit.url, namespace="muelle")
    async with connected(here, taker) as bus:
        assert await bus.publish([before]) == {before.id}
        await eventually(lambda: len(taker.bodies) == 1)
        await eventually(lambda: own_rabbit.has_written_down("muelle.diary"))

        await asyncio.to_thread(own_rabbit.kill)
        await eventually(lambda: _is_unavailable(bus))
        with pytest.raises(BrokerUnavailable):
            await bus.publish([after])

        await asyncio.to_thread(own_rabbit.start)
        await eventually(bus.check, 30)
        assert await bus.publish([after]) == {after.id}
        await eventually(lambda: after.to_bytes() in taker.bodies)


@on_rabbit
async def test_a_consumer_notices_that_its_queue_was_taken_away(broker: Any) -> None:
    taker = Recorder()
    async with connected(broker, taker) as bus:
        async with channel_to(broker.url) as channel:
            await channel.queue_delete(f"{broker.namespace}.diary")
        (envelope,) = some(1)

        async def published() -> bool:
            return bool(await bus.publish([envelope]))

        await eventually(published)
        await eventually(lambda: taker.bodies)


@on_rabbit
async def test_headers_hold_no_floats(broker: Any) -> None:
    moment = datetime.fromisoformat("2026-03-01T12:34:56.789123+00:00")
    envelope = envelope_at(moment, "Esperanza", data={"ship": "Esperanza", "tons": 0.1 + 0.2})
    async with connected(broker, subscriptions=[DIARY]) as bus:
        assert await bus.publish([envelope]) == {envelope.id}
    async with channel_to(broker.url) as channel:
        message = await (await channel.get_queue(f"{broker.namespace}.diary")).get()
        await message.ack()
    ours = {name: value for name, value in message.headers.items() if not name.startswith("x-")}
    assert ours
    assert {type(value) for value in ours.values()} <= {int, str}
    assert Envelope.from_bytes(message.body) == envelope


@on_rabbit
async def test_a_batch_of_an_old_connection_is_dropped_and_taken_once(broker: Any, small_harbour: Harbour) -> None:
    harbour = small_harbour
    taker = Slow(harbour.inbox_of(CUSTOMS).takers()[0])
    async with Proxy(broker.url) as proxy, connected(broker, taker, url=proxy.url) as bus:
        (envelope,) = some(1)
        assert await bus.publish([envelope]) == {envelope.id}
        await eventually(lambda: taker.taking)
        proxy.cut()
        await eventually(lambda: _is_unavailable(bus))
        taker.may_go_on.set()

        await eventually(lambda: taker.times == 2)
        await eventually(lambda: _is_empty(broker, "customs"))
        assert await harbour.counted("customs") == {"ship 0": 1}
        assert proxy.connections == 2


async def test_a_fact_older_than_the_inbox_remembers_is_not_guessed_about(
    harbour: Harbour, clock: MovableClock
) -> None:
    inbox = harbour.inbox_of(CUSTOMS)
    (taker,) = inbox.takers()
    body = envelope_at(clock.now()).to_bytes()
    await taker.take([body])
    await clock.advance((REMEMBERED_DAYS - 1) * ONE_DAY)
    await inbox.cleaning.run_once()
    await taker.take([body])
    assert await inbox.counts() == {"parked": 0, "dead": 0}, "so far it is known to be a duplicate"

    await clock.advance(2 * ONE_DAY)
    await inbox.cleaning.run_once()
    await taker.take([body])
    assert await harbour.taken() == ["Esperanza"]
    assert await inbox.counts() == {"parked": 0, "dead": 1}


async def test_a_forgotten_fact_that_lies_among_the_dead_does_not_sink_its_batch(
    harbour: Harbour, clock: MovableClock
) -> None:
    inbox = harbour.inbox_of(CUSTOMS)
    (taker,) = inbox.takers()
    old = envelope_at(clock.now() - timedelta(days=REMEMBERED_DAYS + 1), "old").to_bytes()
    for _ in range(2):
        await taker.take([old, envelope_at(clock.now(), "young").to_bytes()])
        await inbox.cleaning.run_once()
    assert await harbour.taken() == ["young", "young"]
    assert await inbox.counts() == {"parked": 0, "dead": 1}


@on_rabbit
async def test_publishing_is_pipelined(broker: Any) -> None:
    async with connected(broker, subscriptions=[DIARY]) as bus:

        async def seconds_each(batches: list[list[Envelope]]) -> float:
            began = time.perf_counter()
            for batch in batches:
                assert len(await bus.publish(batch)) == len(batch)
            return (time.perf_counter() - began) / sum(len(batch) for batch in batches)

        alone = together = float("inf")  # the best of some rounds, since others use this machine too
        for _ in range(6):
            alone = min(alone, await seconds_each([[envelope] for envelope in some(40)]))
            together = min(together, await seconds_each([some(256)]))
    assert alone / together > 1.5, f"{alone * 1e6:.0f} µs alone, {together * 1e6:.0f} µs in a batch"


# --- outbox and relay


async def test_a_change_that_is_rolled_back_leaves_no_fact(harbour: Harbour) -> None:
    outbox = harbour.outbox(MemoryBus([]))

    async def change() -> None:
        async with harbour.database.transaction() as tx:
            await outbox.emit(tx, ShipArrived(ship="Esperanza"))
            raise RuntimeError("thought better of it")

    with pytest.raises(RuntimeError, match="thought better"):
        await change()
    assert await outbox.waiting() == 0


async def test_emitting_nothing_emits_nothing(harbour: Harbour) -> None:
    outbox = harbour.outbox(MemoryBus([]))
    await harbour.emit(outbox)
    assert await outbox.waiting() == 0


async def test_a_commit_wakes_the_relay(harbour: Harbour) -> None:
    bus = MemoryBus([CUSTOMS])
    (taker,) = harbour.inbox_of(CUSTOMS).takers()
    bus.attach(taker)
    outbox = harbour.outbox(bus)
    outbox.relay.start()
    await eventually(lambda: outbox.relay.outcome.runs)
    await harbour.emit(outbox, ShipArrived(ship="Esperanza"))  # the clock stands still: no period wakes it
    await eventually(lambda: _has(harbour, 1))
    await outbox.relay.stop()


@on_postgres
async def test_rows_that_commit_out_of_order_are_not_skipped(
    tmp_path: Path, clock: MovableClock, postgres_url: str
) -> None:
    async with open_harbour(tmp_path, clock, postgres_url) as harbour:
        bus = MemoryBus([CUSTOMS])
        bus.attach(harbour.inbox_of(CUSTOMS).takers()[0])
        outbox = harbour.outbox(bus)
        started, may_commit = asyncio.Event(), asyncio.Event()

        async def slow() -> None:
            async with harbour.database.transaction() as tx:
                await outbox.emit(tx, ShipArrived(ship="first number, last commit"))
                started.set()
                await may_commit.wait()

        task = asyncio.create_task(slow())
        await started.wait()
        await harbour.emit(outbox, ShipArrived(ship="second number, first commit"))
        await outbox.relay.run_once()
        assert await harbour.taken() == ["second number, first commit"]
        may_commit.set()
        await task
        await outbox.relay.run_once()
        assert await harbour.taken() == ["second number, first commit", "first number, last commit"]
        assert await outbox.waiting() == 0


@on_postgres
async def test_what_a_dead_process_left_behind_is_relayed_by_another_after_its_lease(
    tmp_path: Path, clock: MovableClock, postgres_url: str
) -> None:
    async with open_harbour(tmp_path, clock, postgres_url) as harbour:
        bus = MemoryBus([CUSTOMS])
        bus.attach(harbour.inbox_of(CUSTOMS).takers()[0])
        died = harbour.outbox(bus)
        await harbour.emit(died, ShipArrived(ship="Esperanza"))
        other = Outbox("harbour", harbour.database, bus, clock, new_id())
        await other.relay.run_once()
        assert await harbour.taken() == [], "the first may still be sending it"
        await clock.advance(LEASE_SECONDS + 1)
        await other.relay.run_once()
        assert await harbour.taken() == ["Esperanza"]
        assert await other.waiting() == 0


@on_postgres
async def test_two_relays_may_send_the_same_fact_but_it_is_taken_once(
    tmp_path: Path, clock: MovableClock, postgres_url: str
) -> None:
    async with open_harbour(tmp_path, clock, postgres_url) as harbour:
        bus = MemoryBus([CUSTOMS])
        bus.attach(harbour.inbox_of(CUSTOMS).takers()[0])
        relays = [harbour.outbox(bus), harbour.outbox(bus)]
        ships = [f"ship {n}" for n in range(50)]
        await harbour.emit(relays[0], *(ShipArrived(ship=ship) for ship in ships))
        await asyncio.gather(*(outbox.relay.run_once() for outbox in relays))
        assert await relays[0].waiting() == 0
        assert await harbour.counted("customs") == dict.fromkeys(ships, 1)


async def test_a_fact_that_nobody_took_is_offered_again_before_the_period_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("muelle.kit.bus.outbox.OFFERED_AGAIN_SECONDS", 0.05)
    async with open_harbour(tmp_path, SystemClock()) as harbour:
        bus = MemoryBus([CUSTOMS])
        outbox = harbour.outbox(bus)
        outbox.relay.start()
        await harbour.emit(outbox, ShipArrived(ship="Esperanza"))
        await eventually(lambda: outbox.relay.outcome.runs >= 2)
        bus.attach(harbour.inbox_of(CUSTOMS).takers()[0])
        await eventually(lambda: _has(harbour, 1), PERIOD_SECONDS / 2)
        await outbox.relay.stop()


async def test_a_delivery_that_failed_is_tried_again_when_it_is_due_and_not_when_the_period_is_over(
    tmp_path: Path,
) -> None:
    tries: list[str] = []

    async def refuse_twice(_tx: Transaction, envelope: Envelope) -> None:
        tries.append(envelope.id)
        if len(tries) < 3:
            raise RuntimeError("not yet")

    async with open_harbour(tmp_path, SystemClock()) as harbour:
        inbox = harbour.inbox_of(CUSTOMS, hook=refuse_twice)
        inbox.redelivery.start()
        await inbox.takers()[0].take([envelope_at(harbour.clock.now()).to_bytes()])
        await eventually(lambda: _has(harbour, 1), REDELIVERY_PERIOD_SECONDS / 2)
        assert len(tries) == 3
        await inbox.redelivery.stop()


async def test_a_few_stuck_facts_hold_up_no_others(small_harbour: Harbour) -> None:
    harbour = small_harbour
    bus = MemoryBus([CUSTOMS, Subscription("absent", frozenset({"ShipLeft"}))])
    bus.attach(harbour.inbox_of(CUSTOMS).takers()[0])
    outbox = harbour.outbox(bus)
    await harbour.emit(outbox, *(ShipArrived(ship=f"ship {n}") for n in range(300)))
    while await outbox.relay.run_once():
        pass
    assert len(await harbour.taken()) == 300, "one call for each batch, without a pause between"


@on_rabbit
async def test_a_fact_without_its_consumers_queue_stays_in_the_outbox(broker: Any, small_harbour: Harbour) -> None:
    harbour = small_harbour
    async with connected(broker, subscriptions=[CUSTOMS]) as bus:
        outbox = harbour.outbox(bus)
        async with channel_to(broker.url) as channel:
            await channel.queue_delete(f"{broker.namespace}.customs")
        await harbour.emit(outbox, ShipArrived(ship="Esperanza"))
        await outbox.relay.run_once()
        assert await outbox.waiting() == 1

        async with connected(broker, *harbour.inbox_of(CUSTOMS).takers()):
            await outbox.relay.run_once()
            assert await outbox.waiting() == 0
            await eventually(lambda: _has(harbour, 1))


@on_rabbit
async def test_a_fact_that_the_broker_does_not_confirm_stays_in_the_outbox(
    broker: Any, small_harbour: Harbour, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rabbit, "CONFIRM_SECONDS", 0.2)
    harbour = small_harbour
    async with Proxy(broker.url) as proxy, connected(broker, *harbour.inbox_of(CUSTOMS).takers(), url=proxy.url) as bus:
        outbox = harbour.outbox(bus)
        await harbour.emit(outbox, ShipArrived(ship="Esperanza"))
        proxy.hold()
        await outbox.relay.run_once()
        assert await outbox.waiting() == 1
        assert await harbour.taken() == []

        proxy.let_flow()
        await outbox.relay.run_once()
        assert await outbox.waiting() == 0
        await eventually(lambda: _is_empty(broker, "customs"))
        assert await harbour.taken() == ["Esperanza"], "it came twice"


@on_rabbit
async def test_a_fact_is_durable_in_the_broker(broker: Any) -> None:
    (envelope,) = some(1)
    async with connected(broker, subscriptions=[DIARY]) as bus:
        assert await bus.publish([envelope]) == {envelope.id}
    async with channel_to(broker.url) as channel:
        message = await (await channel.get_queue(f"{broker.namespace}.diary")).get()
        await message.ack()
    assert message.delivery_mode == aio_pika.DeliveryMode.PERSISTENT
    assert (message.message_id, message.content_type) == (envelope.id, "application/json")


# --- consuming


@on_rabbit
async def test_what_cannot_be_read_goes_to_the_dead_and_the_rest_is_acknowledged(
    broker: Any, small_harbour: Harbour
) -> None:
    harbour = small_harbour
    good = [envelope.to_bytes() for envelope in some(4)]
    bodies = [good[0], b"\xff\xfe", good[1], b"[]", good[2], good[3], b'{"id": 7}']
    async with connected(broker, subscriptions=[CUSTOMS]), channel_to(broker.url) as channel:
        for body in bodies:
            await channel.default_exchange.publish(aio_pika.Message(body), f"{broker.namespace}.customs")
    async with connected(broker, *harbour.inbox_of(CUSTOMS).takers()) as bus:
        await eventually(lambda: _has(harbour, 4))
        await eventually(lambda: _is_empty(broker, "customs"))
        await eventually(lambda: _has_in(broker, "dead", 3))
        assert f"3 messages in {broker.namespace}.dead" in await bus.check()
        assert await harbour.counted("customs") == {f"ship {n}": 1 for n in range(4)}


@on_rabbit
async def test_nothing_is_acknowledged_before_it_is_taken(broker: Any) -> None:
    async with connected(broker, Broken()) as bus:
        assert len(await bus.publish(some(5))) == 5
    assert await messages_in(broker.url, f"{broker.namespace}.diary") == 5
    taker = Recorder()
    async with connected(broker, taker):
        await eventually(lambda: len(taker.bodies) == 5)
        await eventually(lambda: _is_empty(broker, "diary"))


@on_rabbit
async def test_a_room_whose_database_is_away_for_long_does_not_bury_its_facts(
    broker: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rabbit, "DELIVERY_LIMIT", 2)
    monkeypatch.setattr(rabbit, "LONGEST_PAUSE_SECONDS", 0.001)
    taker = Broken()
    async with connected(broker, taker) as bus:
        assert len(await bus.publish(some(1))) == 1
        await eventually(lambda: taker.batches > 10)
        taker.mended = True
        await eventually(lambda: taker.bodies)
        assert await messages_in(broker.url, f"{broker.namespace}.dead") == 0


@on_rabbit
async def test_a_message_that_kills_whoever_takes_it_is_buried(broker: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rabbit, "DELIVERY_LIMIT", 2)
    async with connected(broker, subscriptions=[DIARY]) as bus:
        assert len(await bus.publish(some(1))) == 1
    for _ in range(3):
        taker = Broken()
        async with connected(broker, taker):
            await eventually(lambda taker=taker: taker.batches)  # type: ignore[misc]
    await eventually(lambda: _has_in(broker, "dead", 1))


@on_rabbit
async def test_stopping_lets_a_batch_that_is_being_taken_finish(broker: Any) -> None:
    taker = Recorder()
    taker.may_go_on.clear()
    async with connected(broker, taker) as bus:
        assert len(await bus.publish(some(1))) == 1
        await eventually(lambda: taker.batches)
        stopping = asyncio.create_task(bus.stop())
        await asyncio.sleep(0)
        taker.may_go_on.set()
        await stopping
        assert len(taker.bodies) == 1
    assert await messages_in(broker.url, f"{broker.namespace}.diary") == 0


@on_rabbit
async def test_stopping_takes_what_was_delivered_already(broker: Any) -> None:
    taker = Recorder()
    taker.may_go_on.clear()
    async with connected(broker, taker) as bus:
        assert len(await bus.publish(some(1))) == 1
        await eventually(lambda: taker.batches)
        assert len(await bus.publish(some(5))) == 5
        assert bus._link is not None
        leaving, arrived = bus._link.leaving, bus._link._intakes[0]._arrived
        await eventually(lambda: arrived.qsize() == 5)
        stopping = asyncio.create_task(bus.stop())
        await eventually(leaving.is_set)
        taker.may_go_on.set()
        await stopping
        assert len(taker.bodies) == 6
    assert await messages_in(broker.url, f"{broker.namespace}.diary") == 0


@on_rabbit
async def test_stopping_waits_no_longer_than_it_says(broker: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rabbit, "FINISH_SECONDS", 0.1)
    taker = Recorder()
    taker.may_go_on.clear()
    async with connected(broker, taker) as bus:
        assert len(await bus.publish(some(1))) == 1
        await eventually(lambda: taker.batches)
        async with asyncio.timeout(2):
            await bus.stop()
    assert await messages_in(broker.url, f"{broker.namespace}.diary") == 1


@on_rabbit
async def test_a_consumer_is_not_handed_what_only_an_earlier_version_wanted(broker: Any) -> None:
    earlier, later = Subscription("crane", frozenset({ALL})), Subscription("crane", ARRIVED)
    taker = Recorder(later)
    async with connected(broker, subscriptions=[earlier]):
        pass
    now = SystemClock().now()
    async with connected(broker, taker) as bus:
        old, new = envelope_at(now, "old", type="ShipSank"), envelope_at(now, "new")
        await bus.publish([old, new])
        await eventually(lambda: _is_empty(broker, "crane"))
        assert taker.bodies == [new.to_bytes()]


async def test_a_handler_that_kills_the_process_is_not_tried_for_ever(harbour: Harbour, clock: MovableClock) -> None:
    tries = 0

    class PowerCut(BaseException):
        pass

    async def die(_tx: Transaction, _envelope: Envelope) -> None:
        nonlocal tries
        tries += 1
        raise RuntimeError("at first it only fails") if tries == 1 else PowerCut

    inbox = harbour.inbox_of(CUSTOMS, hook=die)
    await inbox.takers()[0].take([envelope_at(clock.now()).to_bytes()])
    for _ in range(LAST_ATTEMPT + 3):
        await clock.advance(3600)
        try:
            await inbox.redelivery.run_once()
        except PowerCut:
            inbox = harbour.inbox_of(CUSTOMS, hook=die)
    assert await inbox.counts() == {"parked": 0, "dead": 1}
    assert tries == LAST_ATTEMPT


async def test_an_error_that_no_database_can_store_is_stored_in_other_letters(
    harbour: Harbour, clock: MovableClock
) -> None:
    async def fail(_tx: Transaction, _envelope: Envelope) -> None:
        raise RuntimeError("\0 and \ud800 and " + "long " * 1000)

    inbox = harbour.inbox(Consumer(CUSTOMS, fail))
    envelope = envelope_at(clock.now(), "\0 \ud800 ⚓")
    assert await inbox.takers()[0].take([envelope.to_bytes()]) == []
    (parked,) = await inbox.set_aside("parked")
    assert parked.last_error.startswith("RuntimeError:  and ? and long")
    assert Envelope.from_bytes(parked.body.encode()) == envelope


async def test_a_statement_that_fails_in_one_handler_does_not_spoil_the_transaction(
    harbour: Harbour, clock: MovableClock
) -> None:
    async def load(tx: Transaction, envelope: Envelope) -> None:
        await tx.run(cargo.insert(), {"ship": "always the same", "tons": 1})

    inbox = harbour.inbox_of(CUSTOMS, hook=load)
    await inbox.takers()[0].take([envelope_at(clock.now(), f"ship {n}").to_bytes() for n in range(3)])
    assert await harbour.taken() == ["ship 0"]
    assert await inbox.counts() == {"parked": 2, "dead": 0}


async def test_a_full_disk_in_the_middle_of_a_batch_leaves_nothing_of_it(
    small_harbour: Harbour, clock: MovableClock
) -> None:
    harbour = small_harbour

    async def load(tx: Transaction, envelope: Envelope) -> None:
        for number in range(200):
            await tx.run(cargo.insert(), {"ship": f"{envelope.subject} {number} {'x' * 80}", "tons": 1})

    inbox = harbour.inbox_of(CUSTOMS, hook=load)
    (taker,) = inbox.takers()
    bodies = [envelope_at(clock.now(), f"ship {n}").to_bytes() for n in range(3)]
    await _leave_room_for_pages(harbour, 3)
    with pytest.raises(PendingRollbackError):
        await taker.take(bodies)
    assert (await inbox.counts(), await harbour.taken()) == ({"parked": 0, "dead": 0}, [])

    await _leave_room_for_pages(harbour, 1000)
    for _ in range(2):
        await taker.take(bodies)
    assert await harbour.counted("customs") == {f"ship {n}": 1 for n in range(3)}


async def _leave_room_for_pages(harbour: Harbour, pages: int) -> None:
    async with harbour.database.transaction() as tx:
        now = await tx.scalar(text("PRAGMA page_count"))
        await tx.scalar(text(f"PRAGMA max_page_count={now + pages}"))


# --- what is no envelope

ENVELOPE = envelope_at(datetime.fromisoformat("2026-01-01T00:00:00+00:00"))


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("id", 7),
        ("id", "short"),
        ("id", "0" * 25),
        ("type", ""),
        ("type", "A" * 101),
        ("type", "Ship\0Arrived"),
        ("type", None),
        ("room", []),
        ("subject", 1.5),
        ("at", "yesterday"),
        ("at", 0),
        ("actor", {}),
        ("data", []),
        ("data", "text"),
    ],
)
def test_what_is_almost_an_envelope_is_none(part: str, value: object) -> None:
    raw = json.loads(ENVELOPE.to_bytes())
    assert Envelope.from_bytes(json.dumps(raw).encode()) == ENVELOPE
    with pytest.raises(NoEnvelope):
        Envelope.from_bytes(json.dumps(raw | {part: value}).encode())
    del raw[part]
    with pytest.raises(NoEnvelope):
        Envelope.from_bytes(json.dumps(raw).encode())


@given(st.binary() | st.sampled_from([b"[" * 100_000, b"{}", b"null", b'"text"', b"NaN", b"\xef\xbb\xbf{}"]))
def test_whatever_comes_is_an_envelope_or_is_said_to_be_none(body: bytes) -> None:
    with pytest.raises(NoEnvelope):
        Envelope.from_bytes(body)


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(st.dictionaries(st.text(), _json), st.text(), st.datetimes())
def test_an_envelope_is_the_same_after_the_journey(data: dict[str, Any], subject: str, at: datetime) -> None:
    envelope = envelope_at(SystemClock().now(), subject=subject, at=at, data=data)
    again = Envelope.from_bytes(envelope.to_bytes())
    assert again == envelope
    assert again.to_bytes() == envelope.to_bytes()


# --- the connection


async def test_starting_does_not_fail_when_the_broker_is_not_there_yet(unused_tcp_port: int) -> None:
    nowhere = SimpleNamespace(url=f"amqp://guest:guest@127.0.0.1:{unused_tcp_port}/", namespace="muelle")
    async with connected(nowhere, Recorder(), wait=False) as bus:
        with pytest.raises(BrokerUnavailable) as refused:
            await bus.publish(some(1))
        assert f"127.0.0.1:{unused_tcp_port}" in refused.value.message
        assert "outbox" in refused.value.advice
        with pytest.raises(BrokerUnavailable):
            await bus.check()


@on_rabbit
async def test_the_bus_connects_when_the_broker_comes_later(broker: Any) -> None:
    taker = Recorder()
    async with Proxy(broker.url) as way:
        proxy_url = way.url
    async with connected(broker, taker, url=proxy_url, wait=False) as bus:
        with pytest.raises(BrokerUnavailable):
            await bus.check()
        port = int(proxy_url.rstrip("/").rpartition(":")[2])
        async with Proxy(broker.url, port):
            await eventually(bus.check, 20)
            assert len(await bus.publish(some(1))) == 1
            await eventually(lambda: taker.bodies)


@on_rabbit
async def test_a_connection_that_is_cut_again_and_again_is_made_again(broker: Any) -> None:
    taker = Recorder()
    sent = some(40)
    async with Proxy(broker.url) as proxy, connected(broker, taker, url=proxy.url) as bus:
        for number, envelope in enumerate(sent):
            if number % 10 == 5:
                proxy.cut()

            async def published(envelope: Envelope = envelope) -> bool:
                return bool(await bus.publish([envelope]))

            await eventually(published, 20)
        await eventually(lambda: len(set(taker.bodies)) == 40, 20)
        assert set(taker.bodies) == {envelope.to_bytes() for envelope in sent}
        assert proxy.connections >= 5


@on_rabbit
async def test_the_password_is_never_told(broker: Any, caplog: pytest.LogCaptureFixture) -> None:
    place = broker.url.rpartition("@")[2]
    wrong = f"amqp://canary-user:canary-password@{place}"
    caplog.set_level(logging.DEBUG)
    with capture_logs() as ours:
        async with connected(broker, Recorder(), url=wrong, wait=False) as bus:
            with pytest.raises(BrokerUnavailable) as refused:
                await bus.check()
    told = f"{ours} {caplog.text} {refused.value.message} {refused.value.advice} {refused.value.__cause__!r}"
    assert "ACCESS_REFUSED" in told
    assert "canary-password" not in told


@pytest.mark.parametrize(
    "url",
    ["", "canary", "http://ana:canary@host/", "amqp://ana:canary/x@host/", "amqp://ana:canary@/", "amqp://[canary"],
)
def test_an_address_that_makes_no_sense_is_refused_without_being_told(url: str) -> None:
    with pytest.raises(BadBrokerAddress) as refused:
        RabbitBus(url, [], SystemClock())
    assert "canary" not in f"{refused.value} {refused.value.advice} {refused.value.__cause__}"


@on_rabbit
async def test_a_queue_with_other_arguments_is_told_once_and_what_to_do(broker: Any) -> None:
    queue = f"{broker.namespace}.diary"
    async with channel_to(broker.url) as channel:
        await channel.declare_queue(queue, durable=True, arguments={"x-queue-type": "quorum", "x-delivery-limit": 7})
    with capture_logs() as told:
        async with Proxy(broker.url) as proxy, connected(broker, Recorder(), url=proxy.url, wait=False) as bus:
            await eventually(lambda: _says(bus, queue))
            await eventually(lambda: proxy.connections > 2)
            with pytest.raises(BrokerUnavailable, match="inequivalent arg"):
                await bus.publish(some(1))
            async with channel_to(broker.url) as channel:
                await channel.queue_delete(queue)
            await eventually(bus.check, 20)
    lines = [line for line in told if queue in str(line)]
    assert len(lines) == 1
    assert f"rabbitmqctl delete_queue {queue}" in lines[0]["hint"]


class Slow:
    """Takes what it takes, but the first time only when it may."""

    def __init__(self, taker: Taker) -> None:
        self._taker = taker
        self.taking = False
        self.times = 0
        self.may_go_on = asyncio.Event()

    @property
    def subscription(self) -> Subscription:
        return self._taker.subscription

    async def take(self, bodies: Sequence[bytes]) -> list[int]:
        self.taking = True
        await self.may_go_on.wait()
        answer = await self._taker.take(bodies)
        self.times += 1
        return answer


async def _is_unavailable(bus: RabbitBus) -> bool:
    try:
        await bus.check()
    except BrokerUnavailable:
        return True
    return False


async def _says(bus: RabbitBus, text: str) -> bool:
    try:
        await bus.check()
    except BrokerUnavailable as problem:
        return text in problem.message
    return False


async def _has(harbour: Harbour, number: int) -> bool:
    return len(await harbour.taken()) >= number


async def _has_in(broker: Any, queue: str, number: int) -> bool:
    return await messages_in(broker.url, f"{broker.namespace}.{queue}") == number


async def _is_empty(broker: Any, queue: str) -> bool:
    return await _has_in(broker, queue, 0)
