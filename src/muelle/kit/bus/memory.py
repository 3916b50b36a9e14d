"""The bus inside one process: it hands each fact to its consumers and accepts it once all of them have it.

Nothing is kept here, so nothing is lost here: a fact stays in the outbox until `publish` has accepted it. With
`Disorder` it does on purpose what a broker does by accident: it delivers twice, late, in another order, from a seed.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from muelle.kit.bus.facts import TAKE_SECONDS, Envelope, Subscription, Taker
from muelle.kit.db import refuse_inside_transaction

_log = structlog.get_logger("muelle.bus")


@dataclass(frozen=True)
class Disorder:
    """How often a fact comes twice, and how often so late that others overtake it (and then twice as well)."""

    seed: int
    duplicate: float = 0.3
    late: float = 0.2
    late_seconds: float = 0.02


class MemoryBus:
    """Knows all subscriptions, so that a fact for a consumer that is not attached yet waits in the outbox."""

    def __init__(self, subscriptions: Sequence[Subscription], disorder: Disorder | None = None) -> None:
        self._subscriptions = tuple(subscriptions)
        self._takers: dict[str, Taker] = {}
        self._disorder = disorder
        self._random = random.Random(disorder.seed if disorder else 0)
        self._stragglers: set[asyncio.Task[object]] = set()
        self._held_up: set[tuple[str, str]] = set()

    def attach(self, taker: Taker) -> None:
        self._takers[taker.subscription.consumer] = taker

    def detach(self, taker: Taker) -> None:
        self._takers.pop(taker.subscription.consumer, None)

    async def start(self) -> None: ...

    async def stop(self) -> None:
        for task in self._stragglers:
            task.cancel()
        await asyncio.gather(*self._stragglers, return_exceptions=True)

    async def check(self) -> str:
        return f"in process, {len(self._takers)} of {len(self._subscriptions)} consumers attached"

    async def publish(self, envelopes: Sequence[Envelope]) -> set[str]:
        refuse_inside_transaction("the bus")
        missed = await asyncio.gather(*(self._deliver(each, envelopes) for each in self._subscriptions))
        return {envelope.id for envelope in envelopes}.difference(*missed)

    async def _deliver(self, subscription: Subscription, envelopes: Sequence[Envelope]) -> set[str]:
        """Returns the ids that this subscriber did not get."""
        wanted = [envelope for envelope in envelopes if subscription.wants(envelope.type)]
        taker = self._takers.get(subscription.consumer)
        if taker is None:
            return {envelope.id for envelope in wanted}
        late = self._hold_up(taker, wanted)
        missed = {envelope.id for envelope in late}
        for batch in self._disturb([envelope for envelope in wanted if envelope.id not in missed]):
            if not await _take(taker, batch):
                missed |= {envelope.id for envelope in batch}
        return missed

    def _hold_up(self, taker: Taker, envelopes: Sequence[Envelope]) -> list[Envelope]:
        """Lets some come later, each once. They count as missed, so that they are sure to come, and may come twice."""
        if self._disorder is None:
            return []
        consumer = taker.subscription.consumer
        late = [e for e in envelopes if self._random.random() < self._disorder.late]
        late = [e for e in late if (consumer, e.id) not in self._held_up]
        self._held_up -= {(consumer, envelope.id) for envelope in envelopes}
        self._held_up |= {(consumer, envelope.id) for envelope in late}
        if late:
            pause = self._random.random() * self._disorder.late_seconds
            straggler = asyncio.create_task(_take_later(taker, late, pause))
            self._stragglers.add(straggler)
            straggler.add_done_callback(self._stragglers.discard)
        return late

    def _disturb(self, envelopes: Sequence[Envelope]) -> list[Sequence[Envelope]]:
        if self._disorder is None or not envelopes:
            return [envelopes] if envelopes else []
        dice = self._random
        mixed = [*envelopes, *(e for e in envelopes if dice.random() < self._disorder.duplicate)]
        dice.shuffle(mixed)
        cut = dice.randint(0, len(mixed))
        return [part for part in (mixed[:cut], mixed[cut:]) if part]


async def _take_later(taker: Taker, batch: Sequence[Envelope], seconds: float) -> bool:
    await asyncio.sleep(seconds)
    return await _take(taker, batch)


async def _take(taker: Taker, batch: Sequence[Envelope]) -> bool:
    try:
        async with asyncio.timeout(TAKE_SECONDS):
            await taker.take([envelope.to_bytes() for envelope in batch])
    except Exception as problem:  # to the publisher it only means "again later"
        consumer = taker.subscription.consumer
        _log.warning("delivery failed", consumer=consumer, error=f"{type(problem).__name__}: {problem}")
        return False
    return True
