"""Asks an engine what instances use, a few at a time, and remembers what it said the last time."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from datetime import timedelta

from muelle.engines.protocol import (
    Engine,
    EngineFailed,
    EngineUnavailable,
    InstanceNotRunning,
    NoSuchInstance,
    Sighting,
    Usage,
)
from muelle.workloads.metrics.rates import Rates, rates

AT_ONCE = 8
"""Questions to the engine at the same moment."""
ANSWER_SECONDS = 5.0
ALL_SECONDS = 45.0
"""For all of them: what is not answered by then is left out."""
YOUNG = timedelta(seconds=90)
"""What was started within that time is measured from its start on."""
_PASSED_OVER = (NoSuchInstance, InstanceNotRunning, EngineUnavailable, EngineFailed, TimeoutError)


class Meter:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._last: dict[str, Usage] = {}

    async def read(self, running: Sequence[Sighting]) -> dict[str, Rates]:
        """By instance, since the last reading. One that is seen for the first time, and not young, is not told yet."""
        found: dict[str, Usage] = {}
        waiting = iter(running)
        workers = [asyncio.create_task(self._ask(waiting, found)) for _ in range(min(AT_ONCE, len(running)))]
        try:
            async with asyncio.timeout(ALL_SECONDS):
                await asyncio.gather(*workers)
        except TimeoutError:
            pass
        finally:
            for worker in workers:
                worker.cancel()
        told = {}
        for sighting in running:
            now = found.get(sighting.name)
            before = self._last.get(sighting.name)
            if now is not None:
                before = before or _start(sighting, now)
                self._last[sighting.name] = now
                if before is not None and (measured := rates(before, now)) is not None:
                    told[sighting.name] = measured
        return told

    def forget_all_but(self, names: frozenset[str]) -> None:
        self._last = {name: usage for name, usage in self._last.items() if name in names}

    async def _ask(self, waiting: Iterator[Sighting], found: dict[str, Usage]) -> None:
        for sighting in waiting:
            try:
                async with asyncio.timeout(ANSWER_SECONDS):
                    found[sighting.name] = await self._engine.usage(sighting.name)
            except _PASSED_OVER:
                continue


def _start(sighting: Sighting, now: Usage) -> Usage | None:
    if sighting.started_at is None or now.at - sighting.started_at > YOUNG:
        return None
    return Usage(sighting.started_at, 0, 0)
