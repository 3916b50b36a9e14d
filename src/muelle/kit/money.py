"""Money: a whole number of micro-units (millionths) of one currency, exact from end to end.

There is no float in it, and a float that is handed in is a TypeError. Nothing is rounded but by the one method whose
name says so, and amounts of different currencies neither add nor compare. `parse` and `format` are the edge, where
people's text comes in and goes out; between them, and in databases, there are integers.

    price = Money.parse("12.34", "EUR")
    (price * 3).format("es")  # "37,02 €"
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from muelle.kit.currencies import Currency, currency_of, decimals_of
from muelle.kit.errors import Invalid

MICRO_DECIMALS = 6
MICROS_PER_UNIT = 1_000_000
MOST_WHOLE_DIGITS = 15
LARGEST_MICROS = 2**63 - 1  # what a BIGINT column holds; checked where people's amounts come in
SECONDS_PER_HOUR = 3600

Locale = Literal["en", "es"]

_MICROS_PER_MINOR = {0: 1_000_000, 2: 10_000, 3: 1_000, 4: 100}  # by the decimals of the currency
_AMOUNT = re.compile(r"(-?)([0-9]+)(?:\.([0-9]+))?")
_LONGEST_AMOUNT = 40  # characters; what is longer is not even looked at
_SYMBOLS: dict[Locale, dict[str, str]] = {
    "en": {"EUR": "€", "GBP": "£", "JPY": "¥", "USD": "$"},
    "es": {"EUR": "€", "USD": "US$"},
}


class CurrencyMismatch(Invalid):
    """An amount in {left} and one in {right} cannot be put together."""

    hint = "Use one currency throughout."


class AmountUnreadable(Invalid):
    """The text "{text}" is not an amount of money."""

    hint = "Write digits with a point before the decimals, such as 12.34."


class TooManyDecimals(Invalid):
    """The amount "{text}" has more decimals than the {most} that are taken in {currency}."""


class AmountTooLarge(Invalid):
    """The amount "{text}" is more money than can be kept."""


class NotWholeMinorUnits(Invalid):
    """{amount} {currency} is not a whole number of the currency's smallest coin."""

    hint = "Round it first, in a way that is named."


class NothingToShareBy(Invalid):
    """Money can only be shared by weights of which none is negative and at least one is more than zero."""


class Rounding(StrEnum):
    """How to round to the smallest coin. `HALF_EVEN` is the bankers' way: over many amounts it favours nobody."""

    HALF_EVEN = "half_even"
    HALF_UP = "half_up"  # a half goes away from zero
    UP = "up"  # any rest goes away from zero
    DOWN = "down"  # any rest is dropped


@dataclass(frozen=True, slots=True)
class Money:
    micros: int
    currency: Currency

    def __post_init__(self) -> None:
        _check_whole(self.micros, "micros")
        currency_of(self.currency)

    @classmethod
    def zero(cls, currency: str) -> Money:
        return cls(0, currency_of(currency))

    @classmethod
    def parse(cls, text: str, currency: str, *, precise: bool = False) -> Money:
        """Reads "12.34" or "-12.34" to the last digit, with as many decimals as the currency has (`precise`: six)."""
        known = currency_of(currency)
        if not isinstance(text, str):
            raise TypeError(f"an amount is read from text, not from {type(text).__name__}")
        found = _AMOUNT.fullmatch(text) if len(text) <= _LONGEST_AMOUNT else None
        if found is None:
            raise AmountUnreadable(text=text[:_LONGEST_AMOUNT])
        minus, whole, decimals = found[1], found[2], found[3] or ""
        most = MICRO_DECIMALS if precise else decimals_of(known)
        if len(decimals) > most:
            raise TooManyDecimals(text=text, currency=known, most=most)
        micros = int(whole) * MICROS_PER_UNIT + int(decimals.ljust(MICRO_DECIMALS, "0"))
        if len(whole) > MOST_WHOLE_DIGITS or micros > LARGEST_MICROS:
            raise AmountTooLarge(text=text)
        return cls(-micros if minus else micros, known)

    @classmethod
    def from_minor(cls, minor: int, currency: str) -> Money:
        """So many of the smallest coin: 1234 in EUR is 12.34."""
        _check_whole(minor, "minor units")
        known = currency_of(currency)
        return cls(minor * _micros_per_minor(known), known)

    @classmethod
    def sum(cls, amounts: Iterable[Money], currency: str) -> Money:
        """All of them together; of nothing, zero in that currency."""
        total = cls.zero(currency)
        for amount in amounts:
            total += amount
        return total

    @property
    def is_zero(self) -> bool:
        return self.micros == 0

    def to_minor(self) -> int:
        """How many of the smallest coin this is; raises NotWholeMinorUnits when it is not a whole number of them."""
        minor, rest = divmod(self.micros, _micros_per_minor(self.currency))
        if rest:
            raise NotWholeMinorUnits(amount=self.decimal(), currency=self.currency)
        return minor

    def rounded_to_minor(self, mode: Rounding) -> int:
        """How many of the smallest coin this nearly is. The only place in all of money where something is rounded."""
        unit = _micros_per_minor(self.currency)
        minor, rest = divmod(abs(self.micros), unit)
        match mode:
            case Rounding.HALF_EVEN:
                minor += 2 * rest > unit or (2 * rest == unit and minor % 2 == 1)
            case Rounding.HALF_UP:
                minor += 2 * rest >= unit
            case Rounding.UP:
                minor += rest > 0
            case Rounding.DOWN:
                pass
        return -minor if self.micros < 0 else minor

    def decimal(self) -> str:
        """The shortest exact text, which `parse(precise=True)` reads back: "12.34", "12.5", "-0.000001", "0"."""
        return self._text(least_decimals=0)

    def format(self, locale: Locale = "en") -> str:
        """For people: "€12.34" or "12,34 €". Decimals beyond the smallest coin are shown when there are any."""
        symbol = _SYMBOLS[locale].get(self.currency)
        number = self._text(least_decimals=decimals_of(self.currency)).removeprefix("-")
        minus = "-" if self.micros < 0 else ""
        whole, point, decimals = number.partition(".")
        if locale == "es":
            grouped = f"{int(whole):,}".replace(",", ".") if len(whole) > 4 else whole
            return f"{minus}{grouped}{point and ','}{decimals} {symbol or self.currency}"
        return f"{minus}{symbol or self.currency + ' '}{int(whole):,}{point}{decimals}"

    def share(self, weights: Sequence[int]) -> list[Money]:
        """Splits this by weight, to the last micro: what does not divide goes, a micro each, to the largest remainders.

        Equal remainders are served in the order given, so the same money and weights always give the same shares. A
        debt is split like the same amount of credit.
        """
        for weight in weights:
            _check_whole(weight, "a weight")
        total_weight = sum(weights)
        if total_weight <= 0 or min(weights) < 0:
            raise NothingToShareBy
        sign = -1 if self.micros < 0 else 1
        parts = [divmod(abs(self.micros) * weight, total_weight) for weight in weights]
        left_over = abs(self.micros) - sum(whole for whole, _ in parts)
        by_remainder = sorted(range(len(parts)), key=lambda index: -parts[index][1])
        lucky = set(by_remainder[:left_over])
        return [Money(sign * (whole + (index in lucky)), self.currency) for index, (whole, _) in enumerate(parts)]

    def __add__(self, other: Money) -> Money:
        if not isinstance(other, Money):
            return NotImplemented
        return Money(self.micros + self._micros_of(other), self.currency)

    def __sub__(self, other: Money) -> Money:
        if not isinstance(other, Money):
            return NotImplemented
        return Money(self.micros - self._micros_of(other), self.currency)

    def __mul__(self, times: int) -> Money:
        return Money(self.micros * times, self.currency) if _is_whole(times) else NotImplemented

    __rmul__ = __mul__

    def __neg__(self) -> Money:
        return Money(-self.micros, self.currency)

    def __abs__(self) -> Money:
        return Money(abs(self.micros), self.currency)

    def __lt__(self, other: Money) -> bool:
        return self.micros < self._micros_of(other) if isinstance(other, Money) else NotImplemented

    def __le__(self, other: Money) -> bool:
        return self.micros <= self._micros_of(other) if isinstance(other, Money) else NotImplemented

    def __gt__(self, other: Money) -> bool:
        return self.micros > self._micros_of(other) if isinstance(other, Money) else NotImplemented

    def __ge__(self, other: Money) -> bool:
        return self.micros >= self._micros_of(other) if isinstance(other, Money) else NotImplemented

    def __str__(self) -> str:
        return f"{self.decimal()} {self.currency}"

    def _micros_of(self, other: Money) -> int:
        if other.currency != self.currency:
            raise CurrencyMismatch(left=self.currency, right=other.currency)
        return other.micros

    def _text(self, least_decimals: int) -> str:
        whole, rest = divmod(abs(self.micros), MICROS_PER_UNIT)
        decimals = f"{rest:0{MICRO_DECIMALS}d}".rstrip("0").ljust(least_decimals, "0")
        return f"{'-' if self.micros < 0 else ''}{whole}{decimals and '.'}{decimals}"


def per(rate_micros_per_hour: int, seconds: int) -> int:
    """The micros that so many seconds cost in all, at an hourly rate: `rate * seconds // 3600`, cut off just once.

    Call it with the time since the beginning, never with a piece of it, and charge *total so far minus already taken*.
    Then nothing drifts: for moments 0 = t0 <= t1 <= ... <= tn the charges are per(t1) - per(t0), ..., per(tn) -
    per(tn-1). In their sum every inner term occurs once with each sign, so it is per(tn) - per(0) = per(tn), however
    often and whenever one charged. No charge is negative, since per never falls as seconds rise, and at any moment less
    than one micro of what is exactly due is still to be charged. (Sums of per(piece) would lose up to a micro a piece.)
    """
    _check_whole(rate_micros_per_hour, "a rate")
    _check_whole(seconds, "seconds")
    if rate_micros_per_hour < 0 or seconds < 0:
        raise ValueError("neither a rate nor a duration is negative")
    return rate_micros_per_hour * seconds // SECONDS_PER_HOUR


def _micros_per_minor(currency: Currency) -> int:
    return _MICROS_PER_MINOR[decimals_of(currency)]


def _is_whole(number: object) -> bool:
    return isinstance(number, int) and not isinstance(number, bool)


def _check_whole(number: object, what: str) -> None:
    if not _is_whole(number):
        raise TypeError(f"{what} must be a whole number, not {type(number).__name__}")
