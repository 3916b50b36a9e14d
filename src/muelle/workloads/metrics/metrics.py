"""What may be asked about what workloads use."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta

from pydantic import BaseModel

from muelle.kit.errors import Invalid
from muelle.kit.http.streams import Batch
from muelle.kit.loops import Lease, Loop
from muelle.workloads.core import Core
from muelle.workloads.metrics import store
from muelle.workloads.metrics.packed import Hour
from muelle.workloads.metrics.rates import Measured, Point, Rates
from muelle.workloads.metrics.recording import HOUR, KEPT_DAYS, MINUTE, Recorder
from muelle.workloads.metrics.watching import Watching

MOST_POINTS = 1500
STEPS = (MINUTE, 5 * MINUTE, 15 * MINUTE, HOUR, 6 * HOUR, 24 * HOUR)
"""Of which the finest is taken that keeps within `MOST_POINTS`, where none is asked for."""


class BadSpan(Invalid):
    """`since` has to be before `until`."""


class TooManyPoints(Invalid):
    """That would be {points} points, and at most {most} are told at once."""

    hint = "Ask for a shorter time, or take a longer `step`."


class Metrics:
    def __init__(self, core: Core, run: str, lease: Lease, show: Callable[[Measured], BaseModel]) -> None:
        self._core = core
        self._watching = Watching(core, run, show)
        self._recorder = Recorder(core, lease)

    @property
    def loops(self) -> list[Loop]:
        return [self._recorder.loop, self._watching.loop]

    def follow(self, id: str, last: str | None) -> AsyncGenerator[Batch, None]:
        """A reading every four seconds, while it runs."""
        return self._watching.follow(id, last)

    async def series(
        self, id: str, since: datetime | None, until: datetime | None, step_seconds: int | None
    ) -> tuple[int, Sequence[Point]]:
        """The step that was taken, and the mean over each, the oldest first; nothing stands for what is not known."""
        now = self._core.clock.now()
        until = until or now
        since = since or until - timedelta(hours=1)
        if since >= until:
            raise BadSpan
        first = int(max(since, now - timedelta(days=KEPT_DAYS)).timestamp())
        last = int(min(until, now).timestamp())
        step = step_seconds or next((s for s in STEPS if (last - first) // s < MOST_POINTS), STEPS[-1])
        if (last - first) // step >= MOST_POINTS:
            raise TooManyPoints(points=(last - first) // step, most=MOST_POINTS)
        async with self._core.database.reading() as reader:
            rows = await store.of_workload(reader, id, first // HOUR, last // HOUR)
        return step, await asyncio.to_thread(lambda: list(_means(rows, first, last, step)))


def _means(rows: Sequence[tuple[int, bytes]], first: int, last: int, step: int) -> Iterator[Point]:
    """Up to 43,200 minutes: in a thread, so that nobody waits for it."""
    steps: dict[int, list[Rates]] = defaultdict(list)
    for hour, data in rows:
        for minute, rates in Hour(data).minutes():
            at = hour * HOUR + minute * MINUTE
            if first - MINUTE < at <= last:
                steps[at // step * step].append(rates)
    for at, several in sorted(steps.items()):
        yield Point(datetime.fromtimestamp(at, UTC), _mean(several))


def _mean(several: Sequence[Rates]) -> Rates:
    number = len(several)
    return Rates(
        cpu_percent=round(sum(one.cpu_percent for one in several) / number, 2),
        memory_bytes=sum(one.memory_bytes for one in several) // number,
        received_per_second=sum(one.received_per_second for one in several) // number,
        sent_per_second=sum(one.sent_per_second for one in several) // number,
    )
