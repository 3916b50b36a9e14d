"""From totals to what is used each second. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from muelle.engines.protocol import Usage


@dataclass(frozen=True)
class Rates:
    cpu_percent: float
    """Of one processor: 200 is two of them all the time."""
    memory_bytes: int
    received_per_second: int
    sent_per_second: int


@dataclass(frozen=True)
class Point:
    at: datetime
    rates: Rates


@dataclass(frozen=True)
class Measured:
    """How a workload is doing now."""

    at: datetime
    rates: Rates
    uptime_seconds: int


def rates(before: Usage, now: Usage) -> Rates | None:
    """None where no time has passed between the two.

    Totals that have fallen are those of an instance that was started again in between: they count from nothing.
    """
    seconds = (now.at - before.at).total_seconds()
    if seconds <= 0:
        return None
    if (
        now.cpu_micros < before.cpu_micros
        or now.received_bytes < before.received_bytes
        or now.sent_bytes < before.sent_bytes
    ):
        before = Usage(before.at, 0, 0)
    return Rates(
        cpu_percent=round((now.cpu_micros - before.cpu_micros) / seconds / 10_000, 2),
        memory_bytes=now.memory_bytes,
        received_per_second=round((now.received_bytes - before.received_bytes) / seconds),
        sent_per_second=round((now.sent_bytes - before.sent_bytes) / seconds),
    )
