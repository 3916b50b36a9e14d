"""Work that repeats: a named loop, woken by a signal and by a period, one run at a time, its last outcome on show.

    relay = Loop("identity.relay", work, period=10, clock=clock)
    relay.wake()          # from anywhere, also while it runs: there will be another run
    relay.wake_at(due)    # by the work itself, where it knows of something to do before the period is over

The work returns True when there is more to do at once. When it raises, the loop waits (longer each time, up to a
minute or what it was told, and no less after a wake) and tries again; it never dies. A loop that only one of several
replicas may run is given a lease.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import structlog
from sqlalchemy import Column, String, Table, update

from muelle.kit.clock import Clock
from muelle.kit.db import Database, Instant
from muelle.kit.db.tables import furniture
from muelle.kit.errors import Unavailable

FIRST_RETRY_SECONDS = 0.2
LONGEST_RETRY_SECONDS = 60.0

leases = Table(
    "leases",
    furniture,
    Column("name", String(100), primary_key=True),
    Column("owner", String(24), nullable=False),
    Column("until", Instant, nullable=False),
)


@dataclass(frozen=True)
class Outcome:
    """How a loop is doing: what doctor, health and metrics show of it."""

    runs: int = 0
    failures_in_a_row: int = 0
    last_at: datetime | None = None
    last_error: str = ""
    took_seconds: float = 0.0


class Loop:
    def __init__(
        self,
        name: str,
        work: Callable[[], Awaitable[bool | None]],
        period: float,
        clock: Clock,
        lease: Lease | None = None,
        longest_pause: float = LONGEST_RETRY_SECONDS,
    ) -> None:
        self.name = name
        self.outcome = Outcome()
        self._work = work
        self._period = period
        self._clock = clock
        self._lease = lease
        self._longest_pause = longest_pause
        self._due: datetime | None = None
        self._signal = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._log = structlog.get_logger("muelle.loop").bind(loop=name)

    def wake(self) -> None:
        self._signal.set()

    def wake_at(self, due: datetime) -> None:
        """Brings the next run forward to that moment; it never puts one off."""
        self._due = due if self._due is None else min(self._due, due)

    def start(self) -> None:
        self._signal.set()
        self._task = asyncio.create_task(self._repeat(), name=f"loop {self.name}")

    async def stop(self) -> None:
        """Ends it, between two runs or in the middle of one: work has to bear that, as it bears a power cut."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        if self._lease is not None:
            try:
                await self._lease.let_go()
            except Exception as problem:  # it runs out by itself
                self._log.warning("lease not given back", error=f"{type(problem).__name__}: {problem}")

    async def run_once(self) -> bool:
        """One run, and whether there is more to do. Raises nothing; `outcome` tells."""
        loop_time = asyncio.get_running_loop().time
        began = loop_time()
        try:
            if self._lease is not None and not await self._lease.hold():
                self.outcome = replace(self.outcome, failures_in_a_row=0, last_error="")  # it is somebody else's now
                return False
            more, error = await self._work_under_lease(), ""
        except Exception as problem:
            more, error = False, f"{type(problem).__name__}: {problem}"
            if self.outcome.failures_in_a_row == 0 or self.outcome.last_error != error:
                self._log.warning("loop failed", error=error, exc_info=not isinstance(problem, Unavailable))
        self.outcome = replace(
            self.outcome,
            runs=self.outcome.runs + 1,
            failures_in_a_row=self.outcome.failures_in_a_row + 1 if error else 0,
            last_at=self._clock.now(),
            last_error=error,
            took_seconds=loop_time() - began,
        )
        return more

    async def _work_under_lease(self) -> bool:
        """Works, and keeps the lease meanwhile, however long it takes."""
        if self._lease is None:
            return bool(await self._work())
        keeping = asyncio.create_task(self._lease.keep())
        try:
            return bool(await self._work())
        finally:
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)

    async def _repeat(self) -> None:
        while True:
            await self._clock.wait(self._signal, self._rest_seconds())
            self._signal.clear()
            self._due = None
            if await self.run_once():
                self._signal.set()
            if self.outcome.failures_in_a_row:
                await self._clock.sleep(pause_before_retry(self.outcome.failures_in_a_row, self._longest_pause))
                self._signal.set()

    def _rest_seconds(self) -> float:
        if self._due is None:
            return self._period
        return min(self._period, max(0.0, (self._due - self._clock.now()).total_seconds()))


def pause_before_retry(failures: int, longest: float = LONGEST_RETRY_SECONDS) -> float:
    """Twice as long after each failure, up to the longest, with a random part so that replicas do not march in step."""
    pause = min(longest, FIRST_RETRY_SECONDS * 2 ** min(failures - 1, 20))
    return float(pause * random.uniform(0.5, 1.0))


class Lease:
    """The right to do a piece of work, for a while: `hold` gets or renews it. On a database of our own it is ours."""

    def __init__(self, name: str, database: Database, clock: Clock, process: str, seconds: float = 15.0) -> None:
        self._name = name
        self._database = database
        self._clock = clock
        self._owner = process
        self._seconds = seconds
        self._until: datetime | None = None

    async def hold(self) -> bool:
        if not self._database.shared:
            return True
        now = self._clock.now()
        if self._until is not None and now + timedelta(seconds=self._seconds / 2) < self._until:
            return True
        until = now + timedelta(seconds=self._seconds)
        async with self._database.transaction() as tx:
            free = (leases.c.owner == self._owner) | (leases.c.until < now)
            taken = await tx.run(
                update(leases).where(leases.c.name == self._name, free).values(owner=self._owner, until=until)
            )
            row = {"name": self._name, "owner": self._owner, "until": until}
            held = bool(taken.rowcount) or bool(await tx.insert_new(leases, [row], leases.c.name))
        self._until = until if held else None
        return held

    async def keep(self) -> None:
        """Renews it time and again. Where that fails it is tried again; in the end the lease runs out."""
        while True:
            with suppress(Exception):
                if not await self.hold():
                    return
            await self._clock.sleep(self._seconds / 3)

    async def let_go(self) -> None:
        if self._until is None:
            return
        self._until = None
        async with self._database.transaction() as tx:
            mine = leases.c.name == self._name, leases.c.owner == self._owner
            await tx.run(leases.delete().where(*mine))
