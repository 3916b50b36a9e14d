"""The bus inside one process: it hands each fact to its consumers and accepts it once all of them have it.

Nothing is kept here, so nothing is lost here: a fact stays in the outbox until `publish` has accepted it. With
`Disorder` it does on purpose what a broker does by accident: it delivers twice, late, and in another order, from a seed.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from muelle.kit.bus.facts import Envelope, Subscription, Taker

TAKE_SECONDS = 30.0

_log = structlog.get_logger("muelle.bus")


@dataclass(frozen=True)
class Disorder:
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
        self._stragglers: set[asyncio.Task[None]] = set()

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
        missed = await asyncio.gather(
            *(self._deliver(subscription, envelopes) for subscription in self._subscriptions)
        )
        return {envelope.id for envelope in envelopes}.difference(*missed)

    async def _deliver(self, subscription: Subscription, envelopes: Sequence[Envelope]) -> set[str]:
        """Returns the ids that this subscriber did not get."""
        wanted = [envelope for envelope in envelopes if subscription.wants(envelope.type)]
        taker = self._takers.get(subscription.consumer)
        missed: set[str] = set()
        for batch in self._disturb(wanted):
            if taker is None or not await _take(taker, batch):
                missed |= {envelope.id for envelope in batch}
        return missed

    def _disturb(self, envelopes: Sequence[Envelope]) -> list[Sequence[Envelope]]:
        if self._disorder is None or not envelopes:
            return [envelopes] if envelopes else []
        dice = self._random
        doubled = [e for e in envelopes if dice.random() < self._disorder.duplicate]
        late = [e for e in envelopes if dice.random() < self._disorder.late]
        if late:
            straggler = asyncio.create_task(self._deliver_late(late, dice.random() * self._disorder.late_seconds))
            self._stragglers.add(straggler)
            straggler.add_done_callback(self._stragglers.discard)
        mixed = [*envelopes, *doubled]
        dice.shuffle(mixed)
        cut = dice.randint(0, len(mixed))
        return [part for part in (mixed[:cut], mixed[cut:]) if part]

    async def _deliver_late(self, envelopes: Sequence[Envelope], seconds: float) -> None:
        await asyncio.sleep(seconds)
        for taker in list(self._takers.values()):
            wanted = [envelope for envelope in envelopes if taker.subscription.wants(envelope.type)]
            if wanted:
                await _take(taker, wanted)


async def _take(taker: Taker, batch: Sequence[Envelope]) -> bool:
    try:
        async with asyncio.timeout(TAKE_SECONDS):
            await taker.take([envelope.to_bytes() for envelope in batch])
    except Exception as problem:  # to the publisher it only means "again later"
        consumer = taker.subscription.consumer
        _log.warning("delivery failed", consumer=consumer, error=f"{type(problem).__name__}: {problem}")
        return False
    return True
