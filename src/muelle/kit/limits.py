"""How often is too often, as a pure function: GCRA, a leaky bucket as a meter. All there is to keep is a moment."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta


@dataclass(frozen=True)
class Rate:
    """One each `seconds` in the long run, and up to `burst` at once."""

    seconds: float
    burst: int


@dataclass(frozen=True)
class Verdict:
    allowed: bool
    arrival: datetime  # what to keep for the next question
    retry_seconds: float


def ask(rate: Rate, kept: datetime | None, now: datetime) -> Verdict:
    """May it happen now, given what was kept the last time?"""
    interval = timedelta(seconds=rate.seconds)
    arrival = max(kept or now, now)
    early = arrival - now - interval * (rate.burst - 1)
    if early > timedelta(0):
        return Verdict(False, arrival, early.total_seconds())
    return Verdict(True, arrival + interval, 0.0)
