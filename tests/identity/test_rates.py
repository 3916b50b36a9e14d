"""How often is too often: against a simulation that counts in another way."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from muelle.kit.limits import Rate, ask

START = datetime(2026, 1, 1, tzinfo=UTC)
TICK = timedelta(milliseconds=1)

rates = st.builds(lambda ticks, burst: Rate(ticks / 1000, burst), st.integers(1, 5000), st.integers(1, 8))
gaps = st.lists(st.just(0) | st.integers(0, 20_000), max_size=60)


@dataclass
class Bucket:
    """The same rule as ITU-T I.371 tells it: a bucket that leaks, in whole milliseconds."""

    interval: int
    burst: int
    level: int = 0
    last: int = 0

    def take(self, now: int) -> bool:
        level = max(0, self.level - (now - self.last))
        if level > self.interval * (self.burst - 1):
            return False
        self.level, self.last = level + self.interval, now
        return True


@given(rates, gaps)
def test_it_agrees_with_a_leaking_bucket(rate: Rate, gaps: list[int]) -> None:
    bucket, kept, now = Bucket(round(rate.seconds * 1000), rate.burst), None, 0
    for gap in gaps:
        now += gap
        verdict = ask(rate, kept, START + now * TICK)
        assert verdict.allowed == bucket.take(now)
        if verdict.allowed:
            kept = verdict.arrival


@given(rates, gaps)
def test_who_waits_as_long_as_told_may_and_a_moment_earlier_may_not(rate: Rate, gaps: list[int]) -> None:
    kept, now = None, START
    for gap in gaps:
        now += gap * TICK
        verdict = ask(rate, kept, now)
        if verdict.allowed:
            assert verdict.retry_seconds == 0
            kept = verdict.arrival
        else:
            free = now + timedelta(seconds=verdict.retry_seconds)
            assert ask(rate, kept, free).allowed
            assert not ask(rate, kept, free - timedelta(microseconds=1)).allowed


@given(rates)
def test_a_burst_goes_through_at_once_and_one_more_does_not(rate: Rate) -> None:
    kept = None
    for _ in range(rate.burst):
        verdict = ask(rate, kept, START)
        assert verdict.allowed
        kept = verdict.arrival
    assert not ask(rate, kept, START).allowed


@given(rates, st.integers(1, 100_000))
def test_a_clock_that_is_set_back_gives_no_more_tries(rate: Rate, back: int) -> None:
    kept = None
    for _ in range(rate.burst):
        kept = ask(rate, kept, START).arrival
    assert not ask(rate, kept, START - back * TICK).allowed
