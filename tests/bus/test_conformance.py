"""What both drivers of the bus promise, on both databases: the same cases, the same bytes, the same end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import pytest

from muelle.kit.bus import ALL, Bus, Envelope, Inbox, Outbox, Subscription, origin
from muelle.kit.bus.facts import Origin, Taker
from muelle.kit.bus.inbox import LAST_ATTEMPT
from muelle.kit.clock import MovableClock
from muelle.kit.db import SlowCallInTransaction, Transaction
from tests.bus.harbour import ARRIVED, LEFT, Harbour, ShipArrived, ShipLeft, Wiring, cargo, envelope_at
from tests.waiting import eventually

Wire = Callable[[Sequence[Subscription]], Wiring]

CUSTOMS = Subscription("customs", ARRIVED)
CRANES = Subscription("cranes", ARRIVED | LEFT)
DIARY = Subscription("diary", frozenset({ALL}))
ONE_HOUR = 3600.0


@asynccontextmanager
async def wired(wire: Wire, *subscriptions: Subscription) -> AsyncIterator[Wiring]:
    wiring = wire(subscriptions)
    try:
        yield wiring
    finally:
        await wiring.close()


async def send_all(outbox: Outbox) -> None:
    """Relays until nothing waits."""

    async def empty() -> bool:
        await outbox.relay.run_once()
        return await outbox.waiting() == 0

    await eventually(empty)


class Recorder:
    """A taker that keeps the bytes."""

    def __init__(self, subscription: Subscription) -> None:
        self.subscription = subscription
        self.bodies: list[bytes] = []

    async def take(self, bodies: Sequence[bytes]) -> list[int]:
        self.bodies += bodies
        return []


class Refuser(Recorder):
    """A taker whose database is away for the first so many times."""

    def __init__(self, subscription: Subscription, failures: int) -> None:
        super().__init__(subscription)
        self.failures = failures

    async def take(self, bodies: Sequence[bytes]) -> list[int]:
        if self.failures:
            self.failures -= 1
            raise ConnectionError("the database is away")
        return await super().take(bodies)


async def test_a_fact_reaches_every_subscriber_and_leaves_the_outbox(harbour: Harbour, wire: Wire) -> None:
    async with wired(wire, CUSTOMS, CRANES, DIARY) as wiring:
        inbox = harbour.inbox_of(CUSTOMS, CRANES, DIARY)
        await wiring.join(inbox.takers())
        outbox = harbour.outbox(await wiring.join())
        await harbour.emit(outbox, ShipArrived(ship="Esperanza"))
        await send_all(outbox)
        await eventually(lambda: _count(harbour, 3))
        assert [await harbour.taken(c) for c in ("customs", "cranes", "diary")] == [["Esperanza"]] * 3


async def test_a_consumer_gets_only_the_types_that_it_wants(harbour: Harbour, wire: Wire) -> None:
    async with wired(wire, CUSTOMS, DIARY) as wiring:
        inbox = harbour.inbox_of(CUSTOMS, DIARY)
        await wiring.join(inbox.takers())
        outbox = harbour.outbox(await wiring.join())
        await harbour.emit(outbox, ShipLeft(ship="Santa Ana"), ShipArrived(ship="Esperanza"))
        await send_all(outbox)
        await eventually(lambda: _count(harbour, 3))
        assert await harbour.taken("customs") == ["Esperanza"]
        assert sorted(await harbour.taken("diary")) == ["Esperanza", "Santa Ana"]


async def test_a_fact_that_nobody_wants_leaves_the_outbox_too(harbour: Harbour, wire: Wire) -> None:
    async with wired(wire, CUSTOMS) as wiring:
        outbox = harbour.outbox(await wiring.join(harbour.inbox_of(CUSTOMS).takers()))
        await harbour.emit(outbox, ShipLeft(ship="Santa Ana"))
        await send_all(outbox)
        assert await harbour.taken() == []


async def test_a_consumer_that_starts_later_gets_what_was_sent_before(harbour: Harbour, wire: Wire) -> None:
    async with wired(wire, CUSTOMS, DIARY) as wiring:
        await wiring.join(harbour.inbox_of(DIARY).takers())
        outbox = harbour.outbox(await wiring.join())
        await harbour.emit(outbox, ShipArrived(ship="Esperanza"))
        await outbox.relay.run_once()
        await eventually(lambda: _count(harbour, 1))

        await wiring.join(harbour.inbox_of(CUSTOMS).takers())
        await send_all(outbox)
        await eventually(lambda: _count(harbour, 2))
        assert await harbour.taken("customs") == ["Esperanza"]


async def test_a_fact_that_is_sent_twice_is_taken_once(harbour: Harbour, wire: Wire, clock: MovableClock) -> None:
    async with wired(wire, CUSTOMS) as wiring:
        bus = await wiring.join(harbour.inbox_of(CUSTOMS).takers())
        twice, last = envelope_at(clock.now()), envelope_at(clock.now(), "the last")
        for batch in ([twice, twice], [twice], [last]):
            assert await bus.publish(batch) == {batch[0].id}
        await eventually(lambda: _took(harbour, "the last"))
        assert await harbour.counted("customs") == {"Esperanza": 1, "the last": 1}


async def test_both_drivers_deliver_the_same_bytes(wire: Wire, clock: MovableClock) -> None:
    taker: Taker = Recorder(DIARY)
    async with wired(wire, DIARY) as wiring:
        bus = await wiring.join([taker])
        envelope = envelope_at(clock.now(), "Muñoz ⚓ \U0001f6a2 \ud800")
        assert await bus.publish([envelope]) == {envelope.id}
        await eventually(lambda: taker.bodies)
        assert taker.bodies == [envelope.to_bytes()]
        assert Envelope.from_bytes(taker.bodies[0]) == envelope


async def test_facts_keep_on_whose_behalf_they_happened(harbour: Harbour, wire: Wire) -> None:
    async with wired(wire, DIARY) as wiring:
        taker = Recorder(DIARY)
        outbox = harbour.outbox(await wiring.join([taker]))
        token = origin.set(Origin("ana", "10.0.0.1", "request-7"))
        await harbour.emit(outbox, ShipArrived(ship="Esperanza"))
        origin.reset(token)
        await send_all(outbox)
        await eventually(lambda: taker.bodies)
        assert Envelope.from_bytes(taker.bodies[0]).origin == Origin("ana", "10.0.0.1", "request-7")


async def test_one_bad_fact_does_not_sink_its_batch(harbour: Harbour, wire: Wire) -> None:
    async with wired(wire, CUSTOMS) as wiring:
        inbox = harbour.inbox_of(CUSTOMS, hook=refuse("Flying Dutchman"))
        await wiring.join(inbox.takers())
        outbox = harbour.outbox(await wiring.join())
        ships = ["Esperanza", "Flying Dutchman", "Santa Ana"]
        await harbour.emit(outbox, *(ShipArrived(ship=ship) for ship in ships))
        await send_all(outbox)
        await eventually(lambda: _count(harbour, 2))
        await eventually(lambda: _counts(inbox, parked=1))
        assert sorted(await harbour.taken("customs")) == ["Esperanza", "Santa Ana"]


async def test_a_fact_whose_handler_failed_is_parked_and_tried_again(
    harbour: Harbour, wire: Wire, clock: MovableClock
) -> None:
    trouble = {"Esperanza"}
    async with wired(wire, CUSTOMS) as wiring:
        inbox = harbour.inbox_of(CUSTOMS, hook=refuse_any_of(trouble))
        outbox = harbour.outbox(await wiring.join(inbox.takers()))
        await harbour.emit(outbox, ShipArrived(ship="Esperanza"))
        await send_all(outbox)
        await eventually(lambda: _counts(inbox, parked=1))
        (parked,) = await inbox.set_aside("parked")
        assert (parked.attempts, parked.last_error) == (1, "RuntimeError: Esperanza is not welcome")

        await inbox.redelivery.run_once()
        assert await inbox.counts() == {"parked": 1, "dead": 0}, "it is not due yet"
        trouble.clear()
        await clock.advance(ONE_HOUR)
        await inbox.redelivery.run_once()
        assert await inbox.counts() == {"parked": 0, "dead": 0}
        assert await harbour.taken("customs") == ["Esperanza"]


async def test_a_fact_is_dead_after_the_last_attempt_and_lives_again_when_redriven(
    harbour: Harbour, wire: Wire, clock: MovableClock
) -> None:
    trouble = {"Esperanza"}
    tries: list[str] = []
    async with wired(wire, CUSTOMS) as wiring:
        inbox = harbour.inbox_of(CUSTOMS, hook=refuse_any_of(trouble, tries))
        outbox = harbour.outbox(await wiring.join(inbox.takers()))
        await harbour.emit(outbox, ShipArrived(ship="Esperanza"))
        await send_all(outbox)
        await eventually(lambda: _counts(inbox, parked=1))
        for _ in range(LAST_ATTEMPT + 3):
            await clock.advance(ONE_HOUR)
            await inbox.redelivery.run_once()
        assert await inbox.counts() == {"parked": 0, "dead": 1}
        assert len(tries) == LAST_ATTEMPT
        assert await harbour.taken() == []

        trouble.clear()
        (dead,) = await inbox.set_aside("dead")
        await inbox.redrive("customs", dead.event_id)
        await inbox.redelivery.run_once()
        assert await inbox.counts() == {"parked": 0, "dead": 0}
        assert await harbour.taken() == ["Esperanza"]


async def test_a_batch_that_the_room_cannot_take_comes_again(wire: Wire, clock: MovableClock) -> None:
    taker = Refuser(DIARY, failures=2)
    async with wired(wire, DIARY) as wiring:
        bus = await wiring.join([taker])
        envelope = envelope_at(clock.now())

        async def arrived() -> bool:
            if not await bus.publish([envelope]):  # in process it is the relay that tries again
                return False
            await clock.advance(ONE_HOUR)
            return bool(taker.bodies)

        await eventually(arrived)
        assert taker.bodies[0] == envelope.to_bytes()
        assert taker.failures == 0


async def test_a_handler_may_emit_facts_that_are_sent_with_its_own_commit(harbour: Harbour, wire: Wire) -> None:
    async with wired(wire, CUSTOMS, CRANES) as wiring:
        bus = await wiring.join()
        outbox = harbour.outbox(bus)

        async def leave(tx: Transaction, envelope: Envelope) -> None:
            await outbox.emit(tx, ShipLeft(ship=envelope.data["ship"]))

        await wiring.join([*harbour.inbox_of(CUSTOMS, hook=leave).takers(), *harbour.inbox_of(CRANES).takers()])
        await harbour.emit(outbox, ShipArrived(ship="Esperanza"))

        async def all_taken() -> bool:
            await outbox.relay.run_once()
            return len(await harbour.taken("cranes")) == 2 and await outbox.waiting() == 0

        await eventually(all_taken)
        assert await harbour.taken("customs") == ["Esperanza"]


async def test_a_consuming_process_that_is_started_anew_carries_on(harbour: Harbour, wire: Wire) -> None:
    async with wired(wire, CUSTOMS) as wiring:
        outbox = harbour.outbox(await wiring.join())
        first = harbour.inbox_of(CUSTOMS).takers()
        consuming = await wiring.join(first)
        await harbour.emit(outbox, ShipArrived(ship="before"))
        await send_all(outbox)
        await eventually(lambda: _took(harbour, "before"))
        await wiring.part(consuming, first)

        await harbour.emit(outbox, ShipArrived(ship="meanwhile"))
        await outbox.relay.run_once()
        await wiring.join(harbour.inbox_of(CUSTOMS).takers())
        await send_all(outbox)
        await eventually(lambda: _took(harbour, "meanwhile"))
        assert await harbour.counted("customs") == {"before": 1, "meanwhile": 1}


async def test_the_effect_of_a_handler_that_fails_is_not_there(harbour: Harbour, wire: Wire) -> None:
    async def load_and_fail(tx: Transaction, envelope: Envelope) -> None:
        await tx.run(cargo.insert(), {"ship": envelope.data["ship"], "tons": 1})
        raise RuntimeError("after the effect")

    async with wired(wire, CUSTOMS) as wiring:
        inbox = harbour.inbox_of(CUSTOMS, hook=load_and_fail)
        outbox = harbour.outbox(await wiring.join(inbox.takers()))
        await harbour.emit(outbox, ShipArrived(ship="Esperanza"))
        await send_all(outbox)
        await eventually(lambda: _counts(inbox, parked=1))
        async with harbour.database.reading() as reader:
            assert await reader.all(cargo.select()) == []
        assert await harbour.taken() == []


async def test_facts_are_not_sent_from_inside_a_transaction(harbour: Harbour, wire: Wire, clock: MovableClock) -> None:
    async with wired(wire, DIARY) as wiring:
        bus: Bus = await wiring.join([Recorder(DIARY)])
        async with harbour.database.transaction():
            with pytest.raises(SlowCallInTransaction):
                await bus.publish([envelope_at(clock.now())])
        envelope = envelope_at(clock.now())
        assert await bus.publish([envelope]) == {envelope.id}


async def test_the_bus_says_what_it_is_connected_to(wire: Wire) -> None:
    async with wired(wire, DIARY) as wiring:
        answer = await (await wiring.join([Recorder(DIARY)])).check()
        assert answer.startswith(("in process, 1 of 1", "connected to 127.0.0.1:"))
        assert "@" not in answer


def refuse(ship: str) -> Callable[[Transaction, Envelope], object]:
    return refuse_any_of({ship})


def refuse_any_of(ships: set[str], tries: list[str] | None = None):  # type: ignore[no-untyped-def]
    async def hook(_tx: Transaction, envelope: Envelope) -> None:
        ship = envelope.data["ship"]
        if tries is not None:
            tries.append(ship)
        if ship in ships:
            raise RuntimeError(f"{ship} is not welcome")

    return hook


async def _count(harbour: Harbour, number: int) -> bool:
    return len(await harbour.taken()) == number


async def _took(harbour: Harbour, ship: str) -> bool:
    return ship in await harbour.taken()


async def _counts(inbox: Inbox, **expected: int) -> bool:
    return await inbox.counts() == {"parked": 0, "dead": 0} | expected
