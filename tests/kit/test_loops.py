"""Loops: woken by a signal and by a period, one run at a time, tried again when they fail, on one replica only."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select
from structlog.testing import capture_logs

from muelle.kit.clock import MovableClock, SystemClock
from muelle.kit.loops import FIRST_RETRY_SECONDS, LONGEST_RETRY_SECONDS, Lease, Loop, leases, pause_before_retry
from tests.bus.harbour import Harbour, open_harbour
from tests.waiting import eventually

PERIOD = 10.0
LEASE = 15.0


class Work:
    """Counts its runs, and how many are going on at once."""

    def __init__(self) -> None:
        self.runs = 0
        self.at_once = 0
        self.most_at_once = 0
        self.more: list[bool] = []
        self.failures: list[Exception] = []
        self.may_end = asyncio.Event()
        self.may_end.set()

    async def __call__(self) -> bool:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            self.runs += 1
            await self.may_end.wait()
            if self.failures:
                raise self.failures.pop(0)
            return self.more.pop(0) if self.more else False
        finally:
            self.at_once -= 1


@pytest.fixture
def clock() -> MovableClock:
    return MovableClock()


@pytest.fixture
def work() -> Work:
    return Work()


@asynccontextmanager
async def running(loop: Loop) -> AsyncIterator[Loop]:
    loop.start()
    try:
        yield loop
    finally:
        await loop.stop()


@pytest.fixture
async def loop(work: Work, clock: MovableClock) -> AsyncIterator[Loop]:
    async with running(Loop("test", work, PERIOD, clock)) as loop:
        await eventually(lambda: loop.outcome.runs == 1)
        yield loop


async def settled() -> None:
    """Gives every task that can go on the turns to do so."""
    for _ in range(50):
        await asyncio.sleep(0)


async def test_a_loop_runs_when_it_starts(loop: Loop, work: Work) -> None:
    assert work.runs == 1


async def test_a_loop_is_woken_by_a_signal(loop: Loop, work: Work) -> None:
    loop.wake()
    await eventually(lambda: work.runs == 2)


async def test_a_loop_is_woken_by_its_period(loop: Loop, work: Work, clock: MovableClock) -> None:
    await settled()
    await clock.advance(PERIOD - 1)
    await settled()
    assert work.runs == 1
    await clock.advance(2)
    await eventually(lambda: work.runs == 2)


async def test_each_period_brings_a_run(loop: Loop, work: Work, clock: MovableClock) -> None:
    await settled()
    await clock.advance(5 * PERIOD)
    await eventually(lambda: work.runs == 6)


async def test_work_may_bring_its_next_run_forward_but_not_put_it_off(clock: MovableClock) -> None:
    began = clock.now()
    runs: list[float] = []
    pauses = [3.0, PERIOD + 5, -1.0]

    async def work() -> None:
        runs.append((clock.now() - began).total_seconds())
        if pauses:
            loop.wake_at(clock.now() + timedelta(seconds=PERIOD))
            loop.wake_at(clock.now() + timedelta(seconds=pauses.pop(0)))

    loop = Loop("test", work, PERIOD, clock)
    async with running(loop):
        for _ in range(4):
            await settled()
            await clock.advance(PERIOD)
        await settled()
    assert runs[:5] == [0, 3, 3 + PERIOD, 3 + PERIOD, 3 + 2 * PERIOD]


async def test_a_signal_during_a_run_brings_another_but_never_two_at_once(loop: Loop, work: Work) -> None:
    work.may_end.clear()
    loop.wake()
    await eventually(lambda: work.at_once == 1)
    for _ in range(3):
        loop.wake()
        await settled()
    assert work.runs == 2
    work.may_end.set()
    await eventually(lambda: work.runs == 3)
    await settled()
    assert (work.runs, work.most_at_once) == (3, 1)


async def test_work_that_has_more_to_do_goes_on_at_once(loop: Loop, work: Work) -> None:
    work.more = [True, True, False]
    loop.wake()
    await eventually(lambda: work.runs == 4)
    await settled()
    assert work.runs == 4


async def test_a_loop_that_fails_waits_longer_each_time_and_recovers(
    loop: Loop, work: Work, clock: MovableClock
) -> None:
    work.failures = [ConnectionError("away")] * 4
    loop.wake()
    await eventually(lambda: loop.outcome.failures_in_a_row == 1)
    waits = []
    for failed in range(2, 6):
        waits.append(await _wait_for_run(clock, work, work.runs + 1))
        await eventually(lambda failed=failed: loop.outcome.runs == failed + 1)  # type: ignore[misc]
    for times, waited in enumerate(waits, start=1):
        assert (
            FIRST_RETRY_SECONDS * 2 ** (times - 1) / 2 - 0.05 <= waited <= FIRST_RETRY_SECONDS * 2 ** (times - 1) + 0.05
        )
    assert (loop.outcome.failures_in_a_row, loop.outcome.last_error) == (0, "")


async def test_a_loop_waits_no_longer_than_it_was_told(work: Work, clock: MovableClock) -> None:
    work.failures = [ConnectionError("away")] * 200
    async with running(Loop("test", work, PERIOD, clock, longest_pause=1.0)) as loop:
        await eventually(lambda: loop.outcome.runs == 1)
        await settled()
        await clock.advance(60)
        assert loop.outcome.failures_in_a_row > 10, "it would by now wait a minute"
        for _ in range(3):
            assert await _wait_for_run(clock, work, work.runs + 1) <= 1.05


async def test_a_signal_does_not_shorten_the_pause_after_a_failure(loop: Loop, work: Work, clock: MovableClock) -> None:
    work.failures = [ConnectionError("away")] * 8
    loop.wake()
    await eventually(lambda: loop.outcome.failures_in_a_row == 1)
    for _ in range(5):
        loop.wake()
        await settled()
    assert work.runs == 2
    await clock.advance(FIRST_RETRY_SECONDS)
    await eventually(lambda: work.runs == 3)


async def test_the_last_outcome_is_on_show(loop: Loop, work: Work, clock: MovableClock) -> None:
    await clock.advance(1)
    work.failures = [ConnectionError("away")]
    with capture_logs() as told:
        loop.wake()
        await eventually(lambda: loop.outcome.runs == 2)
    outcome = loop.outcome
    assert (outcome.failures_in_a_row, outcome.last_error) == (1, "ConnectionError: away")
    assert outcome.last_at == clock.now()
    assert [(line["loop"], line["error"]) for line in told] == [("test", "ConnectionError: away")]


async def test_a_failure_that_repeats_is_logged_once(work: Work, clock: MovableClock) -> None:
    loop = Loop("test", work, PERIOD, clock)
    work.failures = [ConnectionError("away")] * 3 + [ValueError("another")]
    with capture_logs() as told:
        for _ in range(4):
            await loop.run_once()
    assert [line["error"] for line in told] == ["ConnectionError: away", "ValueError: another"]


async def test_stopping_ends_a_run_in_the_middle(loop: Loop, work: Work) -> None:
    work.may_end.clear()
    loop.wake()
    await eventually(lambda: work.at_once == 1)
    await loop.stop()
    assert work.at_once == 0
    loop.wake()
    await settled()
    assert work.runs == 2


async def test_a_loop_may_be_started_again(loop: Loop, work: Work) -> None:
    await loop.stop()
    loop.start()
    await eventually(lambda: work.runs == 2)


@given(st.integers(1, 10_000))
def test_a_pause_is_neither_short_nor_longer_than_the_longest(failures: int) -> None:
    for limit in (LONGEST_RETRY_SECONDS, 5.0):
        longest = min(limit, FIRST_RETRY_SECONDS * 2 ** min(failures - 1, 30))
        assert longest / 2 <= pause_before_retry(failures, limit) <= longest


async def test_the_system_clock_waits_for_the_signal_or_the_time() -> None:
    signal = asyncio.Event()
    assert not await SystemClock().wait(signal, 0.001)
    signal.set()
    assert await SystemClock().wait(signal, 60)


async def test_the_movable_clock_wakes_each_at_its_own_moment(clock: MovableClock) -> None:
    woken: list[float] = []
    began = clock.now()

    async def sleeper(*naps: float) -> None:
        for nap in naps:
            await clock.sleep(nap)
            woken.append((clock.now() - began).total_seconds())

    tasks = [asyncio.create_task(sleeper(3, 3)), asyncio.create_task(sleeper(1)), asyncio.create_task(sleeper(7))]
    await settled()
    await clock.advance(6)
    assert woken == [1, 3, 6]
    await clock.advance(1)
    assert woken == [1, 3, 6, 7]
    await asyncio.gather(*tasks)


# --- one of several replicas


@pytest.fixture
async def shared(tmp_path: Path, clock: MovableClock, postgres_url: str) -> AsyncIterator[Harbour]:
    async with open_harbour(tmp_path, clock, postgres_url) as harbour:
        yield harbour


@pytest.fixture
def lease_of(shared: Harbour, clock: MovableClock) -> Callable[[str], Lease]:
    return lambda owner: Lease("cleaning", shared.database, clock, owner, LEASE)


@pytest.mark.needs("postgres")
async def test_of_two_owners_only_one_holds_the_lease(lease_of: Callable[[str], Lease]) -> None:
    ana, ben = lease_of("ana"), lease_of("ben")
    assert await ana.hold()
    assert not await ben.hold()
    assert await ana.hold()
    await ana.let_go()
    assert await ben.hold()
    assert not await ana.hold()


@pytest.mark.needs("postgres")
async def test_a_lease_is_taken_over_after_it_ran_out(lease_of: Callable[[str], Lease], clock: MovableClock) -> None:
    ana, ben = lease_of("ana"), lease_of("ben")
    assert await ana.hold()
    await clock.advance(LEASE - 1)
    assert not await ben.hold()
    await clock.advance(2)
    assert await ben.hold()
    assert not await ana.hold()


@pytest.mark.needs("postgres")
async def test_of_many_that_ask_at_once_one_gets_the_lease(
    lease_of: Callable[[str], Lease], clock: MovableClock
) -> None:
    for _ in range(3):
        answers = await asyncio.gather(*(lease_of(f"owner {n}").hold() for n in range(8)))
        assert sum(answers) == 1
        await clock.advance(LEASE + 1)


@pytest.mark.needs("postgres")
async def test_a_loop_without_the_lease_does_not_work(
    shared: Harbour, lease_of: Callable[[str], Lease], clock: MovableClock
) -> None:
    works = {owner: Work() for owner in ("ana", "ben")}
    loops = {owner: Loop("cleaning", work, PERIOD, clock, lease_of(owner)) for owner, work in works.items()}
    for _ in range(3):
        for loop in loops.values():
            await loop.run_once()
    assert (works["ana"].runs, works["ben"].runs) == (3, 0)
    await loops["ana"].stop()
    await loops["ben"].run_once()
    assert works["ben"].runs == 1, "a replica that stops gives its lease back"


@pytest.mark.needs("postgres")
async def test_work_that_takes_longer_than_the_lease_keeps_it(
    lease_of: Callable[[str], Lease], clock: MovableClock
) -> None:
    work, rival = Work(), lease_of("ben")
    work.may_end.clear()
    async with running(Loop("cleaning", work, PERIOD, clock, lease_of("ana"))):
        await eventually(lambda: work.at_once == 1)
        for _ in range(8):
            await clock.advance(LEASE / 3)
            await eventually(lambda: _is_renewed(lease_of("ana")))
            assert not await rival.hold()


@pytest.mark.needs("postgres")
async def test_a_loop_that_cannot_ask_for_its_lease_fails_and_tries_again(
    shared: Harbour, lease_of: Callable[[str], Lease], clock: MovableClock
) -> None:
    work, lease = Work(), lease_of("ana")
    loop = Loop("cleaning", work, PERIOD, clock, lease)
    hold, lease.hold = lease.hold, _fail  # type: ignore[method-assign]
    with capture_logs():
        assert not await loop.run_once()
    assert (work.runs, loop.outcome.failures_in_a_row) == (0, 1)
    lease.hold = hold  # type: ignore[method-assign]
    await loop.run_once()
    assert (work.runs, loop.outcome.failures_in_a_row) == (1, 0)

    lease.let_go = _fail  # type: ignore[method-assign, assignment]
    with capture_logs() as told:
        await loop.stop()
    assert "the database is away" in str(told), "stopping does not fail for that"


async def test_on_a_database_of_our_own_the_lease_is_always_ours(tmp_path: Path, clock: MovableClock) -> None:
    async with open_harbour(tmp_path, clock) as harbour:
        for owner in ("ana", "ben"):
            assert await Lease("cleaning", harbour.database, clock, owner).hold()


async def _fail() -> bool:
    raise ConnectionError("the database is away")


async def _is_renewed(lease: Lease) -> bool:
    """Whether the owner's lease, as it is in the database, lasts longer than until the next renewal."""
    async with lease._database.reading() as reader:
        until = await reader.scalar(select(leases.c.until))
    return bool((until - lease._clock.now()).total_seconds() > LEASE / 2)


async def _wait_for_run(clock: MovableClock, work: Work, run: int) -> float:
    """Moves the clock on in small steps until that run begins; how long it took."""
    waited = 0.0
    while work.runs < run:
        assert waited < LONGEST_RETRY_SECONDS
        await clock.advance(0.01)
        await settled()
        waited += 0.01
    return waited
