"""Tokens, as pure values: what is ours is read back, and nothing else is."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import given
from hypothesis import strategies as st

from muelle.identity import tokens
from muelle.identity.model import AccountId, SessionId
from muelle.identity.tokens import CLOCK_SKEW_SECONDS, AccessClaims, RefreshClaims, Tokens
from muelle.kit.http.access import TokenExpired, TokenInvalid
from muelle.kit.ids import new_id
from muelle.kit.vault import Vault

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
ACCOUNT, SESSION = AccountId("a" * 24), SessionId("b" * 24)
LIFETIME = timedelta(minutes=15)
VAULT = Vault(b"0123456789abcdef0123456789abcdef")
OURS = Tokens(VAULT)
CLAIMS = {
    "iss": "muelle",
    "aud": "muelle",
    "sub": ACCOUNT,
    "sid": SESSION,
    "iat": int(NOW.timestamp()),
    "exp": int((NOW + LIFETIME).timestamp()),
}

SHORT_KEY = pytest.mark.filterwarnings("ignore::jwt.warnings.InsecureKeyLengthWarning")

session_ids = st.text("0123456789abcdef", min_size=24, max_size=24).map(SessionId)
generations = st.integers(1, 999_999_999)


def access() -> str:
    return OURS.access(ACCOUNT, SESSION, NOW, LIFETIME)


def signed(claims: dict[str, Any], key: Any = None, algorithm: str | None = "HS256", **header: Any) -> str:
    return jwt.encode(claims, VAULT.key("access tokens") if key is None else key, algorithm, headers=header)


def test_an_access_token_says_who_and_until_when() -> None:
    assert OURS.read_access(access(), NOW) == AccessClaims(ACCOUNT, SESSION, CLAIMS["exp"])


def test_an_access_token_ends_at_its_moment() -> None:
    token = access()
    assert OURS.read_access(token, NOW + LIFETIME - timedelta(microseconds=1))
    with pytest.raises(TokenExpired):
        OURS.read_access(token, NOW + LIFETIME)


def test_a_clock_may_be_a_little_behind_and_no_more() -> None:
    assert OURS.read_access(access(), NOW - timedelta(seconds=CLOCK_SKEW_SECONDS))
    with pytest.raises(TokenInvalid):
        OURS.read_access(access(), NOW - timedelta(seconds=CLOCK_SKEW_SECONDS + 1))


@given(st.integers(0, 2), st.data())
def test_an_access_token_with_one_changed_bit_is_refused(part: int, data: st.DataObject) -> None:
    parts = [bytearray(base64.urlsafe_b64decode(part + "==")) for part in access().split(".")]
    place = data.draw(st.integers(0, len(parts[part]) * 8 - 1))
    parts[part][place // 8] ^= 1 << place % 8
    forged = ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)
    with pytest.raises(TokenInvalid):
        OURS.read_access(forged, NOW)


@pytest.mark.parametrize("claim", sorted(CLAIMS))
def test_an_access_token_without_one_of_its_claims_is_refused(claim: str) -> None:
    with pytest.raises(TokenInvalid):
        OURS.read_access(signed({name: value for name, value in CLAIMS.items() if name != claim}), NOW)


@pytest.mark.parametrize("changes", [{"iss": "else"}, {"aud": "else"}, {"sub": 7}, {"iat": "soon"}, {"exp": None}])
def test_an_access_token_with_a_wrong_claim_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(TokenInvalid):
        OURS.read_access(signed(CLAIMS | changes), NOW)


def unsigned(name: str) -> str:
    return access().replace(access().split(".")[0], b64({"alg": name, "typ": "JWT"})).rpartition(".")[0] + "."


def b64(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


@pytest.mark.parametrize(
    "forge",
    [
        lambda: unsigned("none"),
        lambda: unsigned("None"),
        lambda: unsigned("NONE"),
        lambda: unsigned("HS256"),
        pytest.param(lambda: signed(CLAIMS, algorithm="HS384"), marks=SHORT_KEY),
        pytest.param(lambda: signed(CLAIMS, algorithm="HS512"), marks=SHORT_KEY),
        lambda: signed(CLAIMS, rsa.generate_private_key(65537, 2048), "RS256"),
        lambda: signed(CLAIMS, b"another key that is long enough for this"),
        lambda: signed(CLAIMS, Vault(b"another installation's master key").key("access tokens")),
        lambda: signed(CLAIMS, VAULT.key("refresh tokens")),
    ],
)
def test_no_other_algorithm_and_no_other_key_will_do(forge: Callable[[], str]) -> None:
    assert OURS.read_access(signed(CLAIMS), NOW)  # the recipe itself is right
    with pytest.raises(TokenInvalid):
        OURS.read_access(forge(), NOW)


@pytest.mark.parametrize("deep", [600, 40_000])
def test_a_token_that_is_a_trap_for_the_parser_is_just_invalid(deep: int) -> None:
    header = base64.urlsafe_b64encode(b"[" * deep).rstrip(b"=").decode()
    with pytest.raises(TokenInvalid):
        OURS.read_access(f"{header}.e30.AAAA", NOW)


@given(st.text() | st.text("abcdef0123456789_.mrk-", max_size=120))
def test_whatever_else_comes_is_invalid_and_never_a_crash(text: str) -> None:
    for read in (lambda: OURS.read_access(text, NOW), lambda: OURS.read_refresh(text), lambda: tokens.read_key(text)):
        with pytest.raises(TokenInvalid):
            read()


@given(session_ids, generations)
def test_a_refresh_token_names_its_session_and_generation(session_id: SessionId, generation: int) -> None:
    assert OURS.read_refresh(OURS.refresh(session_id, generation)) == RefreshClaims(session_id, generation)


@given(session_ids, generations, st.data())
def test_a_refresh_token_with_one_other_character_is_refused(
    session_id: SessionId, generation: int, data: st.DataObject
) -> None:
    token = OURS.refresh(session_id, generation)
    place = data.draw(st.integers(0, len(token)))
    other = data.draw(st.sampled_from("0123456789abcdef_mr"))
    cut = data.draw(st.integers(0, 1))
    forged = token[:place] + other + token[place + cut :]
    if forged != token:
        with pytest.raises(TokenInvalid):
            OURS.read_refresh(forged)


def test_a_refresh_token_has_one_spelling() -> None:
    start, generation, mac = OURS.refresh(SESSION, 7).rsplit("_", 2)
    assert OURS.read_refresh(f"{start}_{generation}_{mac}")
    for spelling in (f"0{generation}", f"00{generation}", f"{generation}.0", f"+{generation}", "\u0667"):
        with pytest.raises(TokenInvalid):
            OURS.read_refresh(f"{start}_{spelling}_{mac}")


def test_a_refresh_token_of_another_installation_is_refused() -> None:
    with pytest.raises(TokenInvalid):
        OURS.read_refresh(Tokens(Vault(b"another installation's master key")).refresh(SESSION, 1))


@given(generations, generations)
def test_the_mac_of_one_generation_does_not_stand_for_another(one: int, other: int) -> None:
    mac = OURS.refresh(SESSION, one).rpartition("_")[2]
    if one != other:
        with pytest.raises(TokenInvalid):
            OURS.read_refresh(f"mr_{SESSION}_{other}_{mac}")


def test_an_api_key_is_read_as_its_prefix_and_a_hash() -> None:
    fresh = tokens.make_key()
    assert tokens.read_key(fresh.text) == (fresh.prefix, fresh.secret_hash)
    assert fresh.text.startswith(f"mk_{fresh.prefix}_")
    secret = fresh.text.removeprefix(f"mk_{fresh.prefix}_")
    assert len(base64.urlsafe_b64decode(secret + "=")) == 32
    assert secret not in fresh.secret_hash


def test_no_two_keys_or_codes_are_alike() -> None:
    keys = [tokens.make_key() for _ in range(200)]
    assert len({key.text for key in keys} | {tokens.one_time() for _ in range(200)}) == 400
    assert len({key.secret_hash for key in keys}) == 200


def test_none_of_them_stands_in_for_another() -> None:
    kinds = {
        "access": access(),
        "refresh": OURS.refresh(SessionId(new_id()), 1),
        "key": tokens.make_key().text,
        "one-time": tokens.one_time(),
    }
    readers: dict[str, Callable[[str], object]] = {
        "access": lambda text: OURS.read_access(text, NOW),
        "refresh": OURS.read_refresh,
        "key": tokens.read_key,
    }
    for kind, text in kinds.items():
        for reader, read in readers.items():
            if reader != kind:
                with pytest.raises(TokenInvalid):
                    read(text)
