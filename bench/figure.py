"""A figure: what was measured, what it is held against, the bar it has to clear, and whether it does."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import median


class Verdict(StrEnum):
    PASS = "pass"
    SHORT = "short"
    NO_BAR = ""
    NOT_MEASURED = "not measured"
    FAILED = "failed"


class Rule(StrEnum):
    AT_MOST = "≤"
    AT_LEAST = "≥"
    EXACTLY = "="


@dataclass(frozen=True)
class Bar:
    rule: Rule
    limit: float
    of_ratio: bool = False

    def cleared_by(self, measured: float) -> bool:
        if self.rule is Rule.EXACTLY:
            return measured == self.limit
        return measured <= self.limit if self.rule is Rule.AT_MOST else measured >= self.limit


@dataclass(frozen=True)
class Beside:
    """A floor or a peer, measured in the same run and in the same unit."""

    what: str
    value: float


@dataclass(frozen=True)
class Figure:
    name: str
    unit: str = ""
    value: float | None = None
    bar: Bar | None = None
    beside: Beside | None = None
    note: str = ""
    failed: bool = False

    @property
    def ratio(self) -> float | None:
        if self.value is None or self.beside is None or self.beside.value == 0:
            return None
        return self.value / self.beside.value

    @property
    def verdict(self) -> Verdict:
        if self.failed:
            return Verdict.FAILED
        measured = self.ratio if self.bar is not None and self.bar.of_ratio else self.value
        if measured is None:
            return Verdict.NOT_MEASURED
        if self.bar is None:
            return Verdict.NO_BAR
        return Verdict.PASS if self.bar.cleared_by(measured) else Verdict.SHORT

    @property
    def missed(self) -> bool:
        return self.verdict in (Verdict.SHORT, Verdict.FAILED)


def at_most(limit: float) -> Bar:
    return Bar(Rule.AT_MOST, limit)


def exactly(limit: float) -> Bar:
    return Bar(Rule.EXACTLY, limit)


def ratio_at_most(limit: float) -> Bar:
    return Bar(Rule.AT_MOST, limit, of_ratio=True)


def ratio_at_least(limit: float) -> Bar:
    return Bar(Rule.AT_LEAST, limit, of_ratio=True)


def not_measured(name: str, lack: str) -> Figure:
    return Figure(name, note=lack)


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that so many percent of all do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def middle(values: Sequence[float]) -> float:
    return float(median(values))


def spread(values: Sequence[float], digits: int = 2) -> str:
    """The least and the most of several rounds, for a note."""
    return f"{min(values):.{digits}f}…{max(values):.{digits}f} in {len(values)} rounds"
