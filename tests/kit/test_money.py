from __future__ import annotations

import ast
import inspect
import itertools
import operator
import re
from decimal import ROUND_DOWN, ROUND_HALF_EVEN, ROUND_HALF_UP, ROUND_UP, Decimal
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from muelle.kit import currencies, money
from muelle.kit.currencies import EUR, USD, Currency, CurrencyUnknown, currency_of, decimals_of
from muelle.kit.errors import Invalid
from muelle.kit.money import (
    LARGEST_MICROS,
    AmountTooLarge,
    AmountUnreadable,
    CurrencyMismatch,
    Locale,
    Money,
    NothingToShareBy,
    NotWholeMinorUnits,
    Rounding,
    TooManyDecimals,
    per,
)

ALL = sorted(currencies.currencies())
micros = st.integers(-LARGEST_MICROS, LARGEST_MICROS)
some_currency = st.sampled_from(ALL)
amounts = st.builds(Money, micros, some_currency)
euros = st.builds(Money, micros, st.just(EUR))
rates = st.integers(0, 10**12)
weight_lists = st.lists(st.integers(0, 10**9), min_size=1, max_size=30).filter(any)


def test_an_amount_is_read_to_the_last_digit() -> None:
    assert Money.parse("12.34", "EUR") == Money(12_340_000, EUR)
    assert Money.parse("-0.05", "EUR") == Money(-50_000, EUR)
    assert Money.parse("7", "EUR") == Money.parse("7.00", "EUR")
    assert Money.parse("1500", "JPY").to_minor() == 1500
    assert Money.parse("1.234", "KWD").to_minor() == 1234
    assert Money.parse("0.000001", "EUR", precise=True).micros == 1
    assert Money.parse("-0", "EUR").is_zero


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            " ",
            " 1",
            "1 ",
            "1\n",
            "+1",
            "--1",
            "-",
            ".",
            ".5",
            "5.",
            "1,5",
            "1.234,5",
            "1_000",
            "1e3",
            "1E-2",
            "0x1",
        ),
        *("nan", "NaN", "-nan", "inf", "Infinity", "-Infinity", "€5", "5 EUR", "1.2.3", "½", "9" * 41),
        *("\N{ARABIC-INDIC DIGIT THREE}", "\N{FULLWIDTH DIGIT ONE}", "1\N{ARABIC DECIMAL SEPARATOR}5"),
    ],
)
def test_what_is_not_plainly_an_amount_is_refused(text: str) -> None:
    with pytest.raises(AmountUnreadable):
        Money.parse(text, "EUR", precise=True)


@pytest.mark.parametrize(
    ("text", "currency", "precise"),
    [("1.234", "EUR", False), ("1.0", "JPY", False), ("1.2345", "KWD", False), ("1.0000001", "EUR", True)],
)
def test_more_decimals_than_are_taken_are_refused_and_not_cut_off(text: str, currency: str, precise: bool) -> None:
    with pytest.raises(TooManyDecimals):
        Money.parse(text, currency, precise=precise)


def test_more_money_than_a_ledger_can_hold_is_refused_at_the_door() -> None:
    largest = Money(LARGEST_MICROS, EUR)
    assert Money.parse(largest.decimal(), "EUR", precise=True) == largest
    for text in ("9223372036854.775808", "-9223372036854.775808", "999999999999999", "1000000000000000", "9" * 30):
        with pytest.raises(AmountTooLarge):
            Money.parse(text, "EUR", precise=True)


@given(st.text(max_size=50))
def test_reading_any_text_gives_money_or_an_error_that_a_caller_can_act_on(text: str) -> None:
    try:
        amount = Money.parse(text, "EUR", precise=True)
    except Invalid:
        return
    assert abs(Decimal(text)) * 10**6 == abs(amount.micros)


@given(amounts)
def test_what_decimal_writes_parse_reads(amount: Money) -> None:
    text = amount.decimal()
    assert Money.parse(text, amount.currency, precise=True) == amount
    assert Decimal(text) * 10**6 == amount.micros
    assert re.fullmatch(r"-?(0|[1-9][0-9]*)(\.[0-9]{0,5}[1-9])?", text), "the shortest text"


@given(st.integers(-(10**15), 10**15), some_currency)
def test_smallest_coins_go_in_and_come_out(minor: int, currency: Currency) -> None:
    amount = Money.from_minor(minor, currency)
    assert amount.to_minor() == minor
    assert {amount.rounded_to_minor(mode) for mode in Rounding} == {minor}
    assert Decimal(amount.decimal()) == Decimal(minor).scaleb(-decimals_of(currency))


def test_a_part_of_the_smallest_coin_is_not_rounded_by_surprise() -> None:
    with pytest.raises(NotWholeMinorUnits, match=r"0\.005 EUR"):
        Money(5_000, EUR).to_minor()


@given(amounts, st.sampled_from(Rounding))
def test_rounding_is_what_its_name_says(amount: Money, mode: Rounding) -> None:
    modes = {
        Rounding.HALF_EVEN: ROUND_HALF_EVEN,
        Rounding.HALF_UP: ROUND_HALF_UP,
        Rounding.UP: ROUND_UP,
        Rounding.DOWN: ROUND_DOWN,
    }
    exact = Decimal(amount.micros).scaleb(decimals_of(amount.currency) - 6)
    assert amount.rounded_to_minor(mode) == int(exact.quantize(Decimal(1), modes[mode]))


@pytest.mark.parametrize(
    ("mode", "rounded"),
    [
        (Rounding.HALF_EVEN, [0, 2, 2, 1, 0, -2]),
        (Rounding.HALF_UP, [1, 2, 3, 1, 0, -2]),
        (Rounding.UP, [1, 2, 3, 1, 1, -2]),
        (Rounding.DOWN, [0, 1, 2, 0, 0, -1]),
    ],
)
def test_halves_go_where_the_mode_sends_them(mode: Rounding, rounded: list[int]) -> None:
    tried = [5_000, 15_000, 25_000, 5_001, 4_999, -15_000]
    assert [Money(each, EUR).rounded_to_minor(mode) for each in tried] == rounded


@given(euros, euros, euros, st.integers(-1000, 1000))
def test_adding_is_adding(a: Money, b: Money, c: Money, times: int) -> None:
    assert a + b == b + a
    assert (a + b) + c == a + (b + c)
    assert a - b == a + -b
    assert (a - a).is_zero
    assert (a + b) * times == a * times + times * b
    assert Money.sum([a, b, c], "EUR") == sum([a, b, c], Money.zero("EUR")) == a + b + c
    assert abs(a) == max(a, -a)
    assert all(type(each.micros) is int for each in (a + b, a - b, -a, abs(a), a * times))


def test_the_sum_of_nothing_is_nothing_in_a_currency() -> None:
    assert Money.sum([], "JPY") == Money.zero("JPY")


@given(euros, euros)
def test_amounts_are_ordered_as_their_micros_are(a: Money, b: Money) -> None:
    for compare in (operator.lt, operator.le, operator.gt, operator.ge, operator.eq, operator.ne):
        assert compare(a, b) is compare(a.micros, b.micros)
    assert (hash(a) == hash(b)) or a != b


@pytest.mark.parametrize(
    "together",
    [operator.add, operator.sub, operator.lt, operator.le, operator.gt, operator.ge],
    ids=lambda each: each.__name__,
)
def test_currencies_do_not_mix(together: Any) -> None:
    with pytest.raises(CurrencyMismatch, match="EUR and one in USD") as caught:
        together(Money(1, EUR), Money(1, USD))
    assert isinstance(caught.value, Invalid)
    with pytest.raises(TypeError):
        together(Money(1, EUR), 1)


def test_the_same_number_of_another_currency_is_another_amount() -> None:
    assert Money(1, EUR) != Money(1, USD)
    assert len({Money(1, EUR), Money(1, USD), Money(1, EUR)}) == 2
    with pytest.raises(CurrencyMismatch):
        Money.sum([Money(1, EUR), Money(1, USD)], "EUR")


@pytest.mark.parametrize("number", [1.0, 0.1, float("nan"), Decimal(1), "1", True, None])
def test_only_whole_numbers_become_money(number: Any) -> None:
    ten = Money.parse("10", "EUR")
    attempts: list[Any] = [
        lambda: Money(number, EUR),
        lambda: Money.from_minor(number, "EUR"),
        lambda: ten * number,
        lambda: number * ten,
        lambda: ten + number,
        lambda: ten - number,
        lambda: ten.share([1, number]),
        lambda: per(number, 1),
        lambda: per(1, number),
    ]
    for attempt in attempts:
        with pytest.raises(TypeError):
            attempt()
    if not isinstance(number, str):
        with pytest.raises(TypeError):
            Money.parse(number, "EUR")


def test_there_is_no_float_and_no_true_division_in_the_code_of_money() -> None:
    for node in ast.walk(ast.parse(inspect.getsource(money))):
        assert not isinstance(node, ast.Div)
        assert not (isinstance(node, ast.Constant) and isinstance(node.value, float | complex))
        assert not (isinstance(node, ast.Name) and node.id in {"float", "round", "Decimal", "Fraction"})


def test_money_does_not_change() -> None:
    with pytest.raises(AttributeError):
        Money(1, EUR).micros = 2  # type: ignore[misc]


@given(euros, weight_lists)
@example(Money(100, EUR), [1, 1, 1])
@example(Money(-100, EUR), [0, 1, 0])
def test_shares_lose_nothing_and_favour_nobody_by_a_whole_micro(amount: Money, weights: list[int]) -> None:
    shares = amount.share(weights)
    assert Money.sum(shares, "EUR") == amount
    assert len(shares) == len(weights)
    for share, weight in zip(shares, weights, strict=True):
        assert abs(share.micros * sum(weights) - amount.micros * weight) < sum(weights)
        assert share.is_zero if weight == 0 else True
    assert amount.share(weights) == shares
    assert (-amount).share(weights) == [-share for share in shares]


def test_the_largest_remainder_gets_the_last_micro_and_the_first_of_equals() -> None:
    assert [share.micros for share in Money(100, EUR).share([1, 1, 1])] == [34, 33, 33]
    assert [share.micros for share in Money(101, EUR).share([1, 1, 1])] == [34, 34, 33]
    assert [share.micros for share in Money(10, EUR).share([1, 5, 2])] == [1, 6, 3]
    assert [share.micros for share in Money(-10, EUR).share([1, 5, 2])] == [-1, -6, -3]


@pytest.mark.parametrize("weights", [[], [0], [0, 0], [1, -1], [2, -1]])
def test_weights_that_share_nothing_are_refused(weights: list[int]) -> None:
    with pytest.raises(NothingToShareBy):
        Money(100, EUR).share(weights)


@given(rates, st.lists(st.integers(0, 10**9), min_size=1, max_size=20))
def test_charges_of_total_so_far_minus_already_taken_never_drift(rate: int, moments: list[int]) -> None:
    moments = [0, *sorted(moments)]
    charges = [per(rate, b) - per(rate, a) for a, b in itertools.pairwise(moments)]
    assert sum(charges) == per(rate, moments[-1]), "it does not matter how often one charged"
    assert all(charge >= 0 for charge in charges)
    assert 0 <= rate * moments[-1] - 3600 * sum(charges) < 3600, "less than a micro is still to be charged"


@given(rates, st.integers(0, 10**6))
def test_whole_hours_cost_the_rate_exactly(rate: int, hours: int) -> None:
    assert per(rate, hours * 3600) == rate * hours


def test_charging_by_the_piece_would_lose_money_which_is_why_nobody_does() -> None:
    a_cent_an_hour = 10_000
    assert per(a_cent_an_hour, 3600) == a_cent_an_hour
    assert sum(per(a_cent_an_hour, 1) for _ in range(3600)) == 7200


@pytest.mark.parametrize(("rate", "seconds"), [(-1, 1), (1, -1)])
def test_time_and_rates_are_not_negative(rate: int, seconds: int) -> None:
    with pytest.raises(ValueError, match="negative"):
        per(rate, seconds)


@pytest.mark.parametrize(
    ("text", "currency", "english", "spanish"),
    [
        ("12.34", "EUR", "€12.34", "12,34 €"),
        ("-12.34", "EUR", "-€12.34", "-12,34 €"),
        ("0", "EUR", "€0.00", "0,00 €"),
        ("1234.5", "EUR", "€1,234.50", "1234,50 €"),
        ("12345.6", "EUR", "€12,345.60", "12.345,60 €"),
        ("1234567.89", "USD", "$1,234,567.89", "1.234.567,89 US$"),
        ("1500", "JPY", "¥1,500", "1500 JPY"),
        ("1.5", "KWD", "KWD 1.500", "1,500 KWD"),
        ("-3", "CHF", "-CHF 3.00", "-3,00 CHF"),
        ("0.000012", "EUR", "€0.000012", "0,000012 €"),
        ("2.505", "EUR", "€2.505", "2,505 €"),
    ],
)
def test_people_read_money_in_their_own_way(text: str, currency: str, english: str, spanish: str) -> None:
    amount = Money.parse(text, currency, precise=True)
    assert amount.format("en") == amount.format() == english
    assert amount.format("es") == spanish


@given(amounts, st.sampled_from(["en", "es"]))
def test_what_people_read_is_the_exact_amount(amount: Money, locale: Locale) -> None:
    shown = amount.format(locale)
    number = re.sub(r"[^0-9.,-]", "", shown)
    plain = number.replace(",", "") if locale == "en" else number.replace(".", "").replace(",", ".")
    assert Decimal(plain) * 10**6 == amount.micros


def test_a_log_line_shows_amount_and_currency() -> None:
    assert str(Money.parse("12.34", "EUR")) == "12.34 EUR"


@pytest.mark.parametrize("code", ["", "eur", "EURO", "EU", "XXX", "XAU", "XTS", "BGN", "HRK", "ZZZ", " EUR", "€"])
def test_only_active_currencies_are_known(code: str) -> None:
    for use in (currency_of, Money.zero, lambda code: Money.parse("1", code), lambda code: Money(1, code)):
        with pytest.raises(CurrencyUnknown):
            use(code)


def test_the_table_of_currencies_is_whole() -> None:
    assert all(re.fullmatch("[A-Z]{3}", code) for code in ALL)
    assert len(ALL) == 165
    assert {decimals_of(code) for code in ALL} == {0, 2, 3, 4}
    assert (decimals_of(EUR), decimals_of(Currency("JPY")), decimals_of(Currency("CLF"))) == (2, 0, 4)
