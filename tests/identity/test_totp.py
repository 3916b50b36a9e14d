"""The second factor's arithmetic, against the RFCs' own numbers."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from muelle.identity import totp

RFC_SECRET = b"12345678901234567890"
RFC_6238 = {59: "94287082", 1111111109: "07081804", 1111111111: "14050471", 1234567890: "89005924"} | {
    2000000000: "69279037",
    20000000000: "65353130",
}
RFC_4226 = ["755224", "287082", "359152", "969429", "338314", "254676", "287922", "162583", "399871", "520489"]

moments = st.integers(10_000, 4_000_000_000).map(lambda seconds: datetime.fromtimestamp(seconds, UTC))


@pytest.mark.parametrize(("seconds", "code"), list(RFC_6238.items()))
def test_codes_are_those_of_rfc_6238(seconds: int, code: str) -> None:
    step = totp.step_at(datetime.fromtimestamp(seconds, UTC))
    assert totp.code_at(RFC_SECRET, step) == code[-6:]


@pytest.mark.parametrize(("counter", "code"), list(enumerate(RFC_4226)))
def test_codes_are_those_of_rfc_4226(counter: int, code: str) -> None:
    assert totp.code_at(RFC_SECRET, counter) == code


@given(moments, st.integers(-4, 4))
@example(datetime.fromtimestamp(30 * 40_000_000, UTC), -1)
def test_a_clock_may_be_one_step_off_either_way(now: datetime, off: int) -> None:
    step = totp.step_at(now) + off
    code = totp.code_at(RFC_SECRET, step)
    found = totp.matching_step(RFC_SECRET, code, now, after=0)
    if abs(off) <= 1:
        assert found is not None
        assert totp.code_at(RFC_SECRET, found) == code
    elif found is not None:  # the same code belongs to a nearer step as well, by chance
        assert abs(found - totp.step_at(now)) <= 1


@given(moments, st.integers(-1, 1), st.integers(-2, 2))
def test_a_step_counts_only_after_the_last_that_was_used(now: datetime, off: int, last: int) -> None:
    present = totp.step_at(now)
    found = totp.matching_step(RFC_SECRET, totp.code_at(RFC_SECRET, present + off), now, after=present + last)
    assert found is None or found > present + last
    if off > last:
        assert found is not None


@given(moments)
def test_a_step_lasts_thirty_seconds(now: datetime) -> None:
    assert totp.step_at(now + timedelta(seconds=30)) == totp.step_at(now) + 1


def test_a_wrong_code_is_none_of_them() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    near = {totp.code_at(RFC_SECRET, totp.step_at(now) + off) for off in (-1, 0, 1)}
    wrong = next(f"{number:06d}" for number in range(10) if f"{number:06d}" not in near)
    assert totp.matching_step(RFC_SECRET, wrong, now, after=0) is None


def test_a_secret_has_160_random_bits_and_is_shown_as_authenticators_want_it() -> None:
    secret = totp.make_secret()
    assert len(secret) == 20
    assert secret != totp.make_secret()
    assert base64.b32decode(totp.shown_secret(secret)) == secret


@pytest.mark.parametrize("email", ["ana@example.com", "a+b/c?d=e&f#g%h@example.com"])
def test_the_setup_address_carries_secret_and_account_whole(email: str) -> None:
    secret = totp.make_secret()
    parts = urlsplit(totp.setup_url(secret, email))
    assert (parts.scheme, parts.netloc, parts.fragment) == ("otpauth", "totp", "")
    assert unquote(parts.path) == f"/Muelle:{email}"
    assert parts.path.count("/") == 1
    assert parse_qs(parts.query) == {"secret": [totp.shown_secret(secret)], "issuer": ["Muelle"]}


def test_recovery_codes_are_ten_all_different_and_never_taken_for_a_code() -> None:
    codes = totp.make_recovery_codes()
    assert len(set(codes)) == 10
    assert all(totp.is_recovery_code(code) for code in codes)
    assert not totp.is_recovery_code("123456")
    assert not set(codes) & set(totp.make_recovery_codes())
