"""Signing in through a provider: who is let in, and everybody who is not."""

from __future__ import annotations

import asyncio
import functools
import hashlib
import hmac
import json
import warnings
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import example, given, settings
from hypothesis import strategies as st
from jwt.algorithms import ECAlgorithm, RSAAlgorithm
from pydantic import SecretStr, ValidationError

from muelle.identity.oidc.errors import ProviderUnavailable, Refusal, TokenNotVouched, UnknownProvider
from muelle.identity.oidc.model import Begun, Provider, Vouched, google
from muelle.identity.oidc.openid import OpenId
from muelle.identity.oidc.published import Line
from muelle.kit.clock import MovableClock
from muelle.kit.db import SlowCallInTransaction
from muelle.kit.db.guard import transaction_section
from muelle.kit.errors import Kind
from tests.identity.provider import (
    CLIENT_ID,
    CLIENT_SECRET,
    Fault,
    LittleProvider,
    b64,
    renamed,
    signing_key,
    twisted,
)

BACK = "https://muelle.example/back"
ANA = Vouched(
    issuer="https://little.example",
    subject="ana-1",
    email="ana@example.com",
    email_verified=True,
    name="Ana",
    picture="https://pictures.example/ana.png",
)


@pytest.fixture
def clock() -> MovableClock:
    return MovableClock()


@pytest.fixture
def provider(clock: MovableClock) -> LittleProvider:
    return LittleProvider(clock)


@pytest.fixture
def openid(provider: LittleProvider) -> OpenId:
    return knowing(provider)


def knowing(provider: LittleProvider, answer_seconds: float = 5.0, **settings: Any) -> OpenId:
    return OpenId([provider.known_as("little", **settings)], provider.http, provider.clock, answer_seconds)


async def refusal(openid: OpenId, token: str, nonce: str | None = None) -> Refusal:
    """Why the token is refused; and the refusal does not quote it."""
    with pytest.raises(TokenNotVouched) as caught:
        await openid.verify("little", token, nonce=nonce)
    said = f"{caught.value} {caught.value.advice} {caught.value.facts} {caught.value!r}"
    assert not any(part in said for part in token.split(".") if len(part) > 3)
    assert caught.value.kind is Kind.DENIED
    reason = caught.value.facts["reason"]
    assert isinstance(reason, Refusal)
    return reason


async def outage(openid: OpenId, token: str) -> str:
    with pytest.raises(ProviderUnavailable) as caught:
        await openid.verify("little", token)
    assert caught.value.kind is Kind.UNAVAILABLE
    return str(caught.value.facts["reason"])


# Who is let in


@pytest.mark.parametrize("algorithm", ["RS256", "PS256", "ES256", "EdDSA"])
async def test_a_token_that_the_provider_signed_is_believed(provider: LittleProvider, algorithm: str) -> None:
    if algorithm == "PS256":
        provider.keys.append(signing_key("PS256"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert await knowing(provider).verify("little", provider.id_token(algorithm)) == ANA


async def test_an_address_that_the_provider_has_not_verified_is_reported_as_such(
    openid: OpenId, provider: LittleProvider
) -> None:
    for said, verified in [(False, False), (None, False), ("false", False), (1, True), ("true", True), ([True], False)]:
        vouched = await openid.verify("little", provider.id_token(email_verified=said))
        assert vouched.email_verified is verified, said


async def test_names_and_pictures_are_taken_only_where_they_are_fit_to_be_shown(
    openid: OpenId, provider: LittleProvider
) -> None:
    bare = await openid.verify("little", provider.id_token(name=None, picture=None))
    assert (bare.name, bare.picture) == ("", "")
    odd = await openid.verify("little", provider.id_token(name=" A\n\u202en\x00a ", picture="javascript:alert(1)"))
    assert (odd.name, odd.picture) == ("Ana", "")
    wrong = await openid.verify("little", provider.id_token(name=["Ana"], picture={"url": "https://a.example"}))
    assert (wrong.name, wrong.picture) == ("", "")
    long = await openid.verify("little", provider.id_token(name="a" * 1000, picture="https://a.example/" + "a" * 3000))
    assert (len(long.name), long.picture) == (200, "")


async def test_no_letter_that_merely_looks_like_another_becomes_it(openid: OpenId, provider: LittleProvider) -> None:
    kelvin = await openid.verify("little", provider.id_token(email="mi\u212ae@example.com"))
    assert kelvin.email == "mi\u212ae@example.com"


async def test_keys_are_fetched_once_and_kept_for_ten_minutes(
    openid: OpenId, provider: LittleProvider, clock: MovableClock
) -> None:
    await asyncio.gather(*(openid.verify("little", provider.id_token()) for _ in range(20)))
    assert provider.asked == {"discovery": 1, "jwks": 1}
    await clock.advance(599)
    await openid.verify("little", provider.id_token())
    assert provider.asked["jwks"] == 1
    await clock.advance(1)
    await openid.verify("little", provider.id_token())
    assert provider.asked == {"discovery": 1, "jwks": 2}
    await clock.advance(3000)
    await openid.verify("little", provider.id_token())
    assert provider.asked == {"discovery": 2, "jwks": 3}


async def test_a_clock_that_was_set_back_does_not_keep_old_keys_alive(
    openid: OpenId, provider: LittleProvider, clock: MovableClock
) -> None:
    await openid.verify("little", provider.id_token())
    clock.jump(-86_400)
    await openid.verify("little", provider.id_token())
    assert provider.asked["jwks"] == 2


async def test_a_key_list_set_by_hand_needs_no_discovery(provider: LittleProvider) -> None:
    openid = knowing(provider, jwks_uri=f"{provider.issuer}/jwks")
    assert await openid.verify("little", provider.id_token()) == ANA
    assert provider.asked == {"jwks": 1}


async def test_both_spellings_of_google_are_one_issuer(clock: MovableClock) -> None:
    provider = LittleProvider(clock, issuer="https://accounts.google.com")
    openid = OpenId([google(CLIENT_ID, CLIENT_SECRET)], provider.http, clock)
    full = await openid.verify("google", provider.id_token())
    bare = await openid.verify("google", provider.id_token(iss="accounts.google.com"))
    assert full == bare
    assert full.issuer == "https://accounts.google.com"
    with pytest.raises(TokenNotVouched):
        await openid.verify("google", provider.id_token(iss="http://accounts.google.com"))


async def test_another_provider_has_one_spelling_only(openid: OpenId, provider: LittleProvider) -> None:
    assert await refusal(openid, provider.id_token(iss="little.example")) is Refusal.ISSUER
    assert await refusal(openid, provider.id_token(iss="https://little.example/")) is Refusal.ISSUER


async def test_a_minute_of_clock_skew_is_forgiven_and_no_more(openid: OpenId, provider: LittleProvider) -> None:
    now = int(provider.clock.now().timestamp())
    await openid.verify("little", provider.id_token(exp=now - 59))
    await openid.verify("little", provider.id_token(nbf=now + 60))
    await openid.verify("little", provider.id_token(iat=now + 60))
    assert await refusal(openid, provider.id_token(exp=now - 60)) is Refusal.EXPIRED
    assert await refusal(openid, provider.id_token(nbf=now + 61)) is Refusal.EARLY
    assert await refusal(openid, provider.id_token(iat=now + 61)) is Refusal.EARLY


async def test_a_token_for_several_is_believed_when_it_was_made_for_us(
    openid: OpenId, provider: LittleProvider
) -> None:
    assert await openid.verify("little", provider.id_token(aud=[CLIENT_ID])) == ANA
    assert await openid.verify("little", provider.id_token(azp="their-phone-app")) == ANA
    assert await openid.verify("little", provider.id_token(aud=[CLIENT_ID, "else"], azp=CLIENT_ID)) == ANA
    assert await refusal(openid, provider.id_token(aud=[CLIENT_ID, "else"])) is Refusal.AUDIENCE
    assert await refusal(openid, provider.id_token(aud=[CLIENT_ID, "else"], azp="else")) is Refusal.AUDIENCE


async def test_a_token_that_names_no_key_is_believed_only_where_there_is_no_choice(provider: LittleProvider) -> None:
    unnamed = jwt.encode(provider.claims(), provider.key().private, algorithm="RS256")
    assert await knowing(provider).verify("little", unnamed) == ANA
    provider.keys.append(signing_key("RS256", 2))
    assert await refusal(knowing(provider), unnamed) is Refusal.KEY


# Who is not


def forged(header: dict[str, Any], claims: dict[str, Any], secret: bytes | None) -> str:
    signed = f"{b64(json.dumps(header).encode())}.{b64(json.dumps(claims).encode())}"
    return f"{signed}.{b64(hmac.digest(secret, signed.encode(), hashlib.sha256)) if secret is not None else ''}"


async def test_no_signature_is_no_signature(openid: OpenId, provider: LittleProvider) -> None:
    for algorithm in ("none", "None", "NONE", "nOnE", "", None, ["RS256"], {"RS256": 1}, 7):
        header = {"alg": algorithm, "kid": provider.key().kid}
        assert await refusal(openid, forged(header, provider.claims(), None)) is Refusal.ALGORITHM, algorithm
    assert await refusal(openid, provider.id_token().rpartition(".")[0] + ".") is Refusal.SIGNATURE


async def test_the_public_key_is_no_secret_to_sign_with(openid: OpenId, provider: LittleProvider) -> None:
    public = provider.key().private.public_key()
    secrets = [
        public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        public.public_bytes(Encoding.PEM, PublicFormat.PKCS1),
        public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        json.dumps(provider.key().jwk).encode(),
        CLIENT_SECRET.encode(),
        b"",
    ]
    for secret in secrets:
        header = {"alg": "HS256", "kid": provider.key().kid}
        assert await refusal(openid, forged(header, provider.claims(), secret)) is Refusal.ALGORITHM
        relabelled = forged(header | {"alg": "RS256"}, provider.claims(), secret)
        assert await refusal(openid, relabelled) is Refusal.SIGNATURE
    assert await refusal(openid, jwt.encode(provider.claims(), "k" * 64, algorithm="HS512")) is Refusal.ALGORITHM


async def test_a_published_secret_key_is_passed_over(provider: LittleProvider) -> None:
    provider.other_keys = [{"kty": "oct", "kid": "shared", "k": b64(b"k" * 32), "alg": "HS256"}]
    header = {"alg": "HS256", "kid": "shared"}
    openid = knowing(provider)
    assert await refusal(openid, forged(header, provider.claims(), b"k" * 32)) is Refusal.ALGORITHM
    assert await refusal(openid, forged(header | {"alg": "RS256"}, provider.claims(), b"k" * 32)) is Refusal.KEY


async def test_a_stranger_cannot_sign_in_the_name_of_a_known_key(openid: OpenId, provider: LittleProvider) -> None:
    for algorithm in ("RS256", "ES256", "EdDSA"):
        stranger = renamed(signing_key(algorithm, 99), provider.key(algorithm).kid)
        assert await refusal(openid, stranger.sign(provider.claims())) is Refusal.SIGNATURE
    crossed = renamed(signing_key("ES256", 99), provider.key("RS256").kid)
    assert await refusal(openid, crossed.sign(provider.claims())) is Refusal.KEY


async def test_a_key_within_the_token_is_not_used(openid: OpenId, provider: LittleProvider) -> None:
    stranger = signing_key("RS256", 99)
    bearing = {"jwk": stranger.jwk, "jku": "https://stranger.example/jwks"}
    named = renamed(stranger, provider.key().kid)
    assert await refusal(openid, named.sign(provider.claims(), **bearing)) is Refusal.SIGNATURE
    assert await refusal(openid, stranger.sign(provider.claims(), **bearing)) is Refusal.KEY
    assert await refusal(openid, named.sign(provider.claims(), crit=["jwk"], **bearing)) is Refusal.SIGNATURE


async def test_claims_changed_after_signing_are_noticed(openid: OpenId, provider: LittleProvider) -> None:
    token = provider.id_token()
    assert await refusal(openid, twisted(token, email="root@example.com")) is Refusal.SIGNATURE
    assert await refusal(openid, twisted(token, exp=9_999_999_999)) is Refusal.SIGNATURE
    other = provider.id_token(sub="bob-1").split(".")
    swapped = ".".join([*token.split(".")[:2], other[2]])
    assert await refusal(openid, swapped) is Refusal.SIGNATURE


@pytest.mark.parametrize(
    ("claim", "values", "reason"),
    [
        ("iss", [None, "", "https://evil.example", 7, ["https://little.example"]], Refusal.ISSUER),
        ("aud", [None, "", "else", [], ["else"], 7, {CLIENT_ID: 1}, [CLIENT_ID, 7]], Refusal.AUDIENCE),
        ("sub", [None, "", 7, ["ana-1"], "a" * 256, "ana\x00"], Refusal.SUBJECT),
        ("email", [None, "", 7, ["a@b.example"], "ana", "@", "a@b@c", "a b@c.example", "a@b\n", "a" * 250 + "@b.ex"],
         Refusal.EMAIL),
        ("exp", [0, -1], Refusal.EXPIRED),
        ("exp", [None, "tomorrow", "9999999999", True, float("nan"), float("inf"), []], Refusal.MALFORMED),
        ("iat", ["now", None], None),
        ("nbf", ["now", [], 9_999_999_999, float("inf")], Refusal.EARLY),
    ],
)  # fmt: skip
async def test_a_claim_that_is_missing_or_wrong_is_refused(
    openid: OpenId, provider: LittleProvider, claim: str, values: list[Any], reason: Refusal | None
) -> None:
    for value in values:
        claims = {**provider.claims(), claim: value}
        if value is None:
            del claims[claim]
        token = signed_as_is(provider, claims)
        assert await refusal(openid, token) in ([reason] if reason else [Refusal.EARLY, Refusal.MALFORMED]), value


def signed_as_is(provider: LittleProvider, claims: Any) -> str:
    """Signed without the checks that PyJWT makes of its own claims."""
    payload = json.dumps(claims).encode()
    return jwt.PyJWS().encode(payload, provider.key().private, "RS256", {"kid": provider.key().kid})


async def test_a_null_claim_is_a_missing_claim(openid: OpenId, provider: LittleProvider) -> None:
    for claim in ("iss", "sub", "aud", "exp", "iat", "email"):
        await refusal(openid, signed_as_is(provider, provider.claims() | {claim: None}))


async def test_what_is_signed_has_to_be_an_object(openid: OpenId, provider: LittleProvider) -> None:
    others: list[Any] = [[], "text", 7, None]
    for claims in others:
        assert await refusal(openid, signed_as_is(provider, claims)) is Refusal.SIGNATURE
    deep = jwt.PyJWS().encode(b"[" * 9000, provider.key().private, "RS256", {"kid": provider.key().kid})
    assert await refusal(openid, deep) is Refusal.SIGNATURE


async def test_a_header_that_says_more_than_we_know_is_no_reason_to_refuse(
    openid: OpenId, provider: LittleProvider
) -> None:
    assert await openid.verify("little", provider.key().sign(provider.claims(), colour="blue")) == ANA
    assert await refusal(openid, provider.key().sign(provider.claims(), colour="blue", crit=["colour"]))


async def test_the_nonce_has_to_be_that_of_this_sign_in(openid: OpenId, provider: LittleProvider) -> None:
    token = provider.id_token(nonce="this-one")
    assert await openid.verify("little", token, nonce="this-one") == ANA
    assert await refusal(openid, token, nonce="another") is Refusal.NONCE
    assert await refusal(openid, token, nonce="") is Refusal.NONCE
    assert await refusal(openid, provider.id_token(), nonce="this-one") is Refusal.NONCE
    assert await refusal(openid, provider.id_token(), nonce="") is Refusal.NONCE


async def test_other_kinds_of_token_are_no_id_tokens(openid: OpenId, provider: LittleProvider) -> None:
    for kind in ("at+jwt", "logout+jwt", "secevent+jwt", 7):
        token = provider.key().sign(provider.claims(), typ=kind) if isinstance(kind, str) else forged(
            {"alg": "RS256", "typ": kind}, {}, b""
        )  # fmt: skip
        assert await refusal(openid, token) is Refusal.MALFORMED
    assert await openid.verify("little", provider.key().sign(provider.claims(), typ="jwt")) == ANA


@pytest.mark.parametrize(
    "token",
    [
        "", ".", "..", "...", "a.b.c", "ya29.opaque-access-token", "é.é.é", "\ud800.a.b", "a" * 20_000,
        "W10.e30.AA", "IlJTMjU2Ig.e30.AA", "N.e30.AA", f"{b64(b'[' * 9000)}.e30.AA", f"{b64(b'null')}.e30.AA",
        f"{b64(json.dumps({'alg': 'RS256', 'kid': 7}).encode())}.e30.AA",
        f"{b64(json.dumps({'alg': 'RS256', 'kid': None}).encode())}.e30.AA",
        "eyJhbGciOiJSUzI1NiJ9.e30.AA.AA.AA", "eyJhbGciOiJSUzI1NiJ9.é30.AA", "eyJhbGciOiJSUzI1NiJ9.e30.\ud800",
    ],
)  # fmt: skip
async def test_what_is_no_token_is_refused_without_asking_anybody(
    openid: OpenId, provider: LittleProvider, token: str
) -> None:
    assert await refusal(openid, token) is Refusal.MALFORMED
    assert not provider.asked


@functools.cache
def one_for_all_examples() -> tuple[LittleProvider, OpenId]:
    provider = LittleProvider(MovableClock())
    return provider, knowing(provider)


ANY_CHARACTER = st.one_of(
    st.sampled_from("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.=+/ \n\x00"), st.characters()
)


@settings(max_examples=400, deadline=None)
@given(
    algorithm=st.sampled_from(["RS256", "ES256", "EdDSA"]),
    place=st.integers(0, 10_000),
    from_the_end=st.booleans(),
    character=ANY_CHARACTER,
)
@example(algorithm="RS256", place=0, from_the_end=True, character="B")
async def test_a_token_with_one_character_changed_is_never_believed(
    algorithm: str, place: int, from_the_end: bool, character: str
) -> None:
    provider, openid = one_for_all_examples()
    token = provider.id_token(algorithm)
    place = (-1 - place if from_the_end else place) % len(token)
    if token[place] == character:
        return
    with pytest.raises(TokenNotVouched):
        await openid.verify("little", token[:place] + character + token[place + 1 :])


async def test_the_last_characters_of_each_part_have_one_spelling(openid: OpenId, provider: LittleProvider) -> None:
    """Base64 leaves bits over at the end of a part; a decoder that ignores them reads several texts as one token."""
    for algorithm in ("RS256", "ES256", "EdDSA"):
        token = provider.id_token(algorithm)
        for end in (token.index(".") - 1, token.rindex(".") - 1, len(token) - 1):
            for character in "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_":
                if token[end] != character:
                    await refusal(openid, token[:end] + character + token[end + 1 :])


# Keys that change


async def test_a_new_key_is_accepted_after_one_refetch(
    openid: OpenId, provider: LittleProvider, clock: MovableClock
) -> None:
    old = provider.id_token()
    await openid.verify("little", old)
    provider.rotate()
    await clock.advance(30)
    assert await openid.verify("little", provider.id_token()) == ANA
    assert provider.asked["jwks"] == 2
    assert await refusal(openid, old) is Refusal.KEY


async def test_all_who_come_with_the_new_key_at_once_are_accepted_by_one_refetch(
    openid: OpenId, provider: LittleProvider, clock: MovableClock
) -> None:
    await openid.verify("little", provider.id_token())
    provider.rotate()
    await clock.advance(29.9)
    assert await refusal(openid, provider.id_token()) is Refusal.KEY
    await clock.advance(0.1)
    assert await asyncio.gather(*(openid.verify("little", provider.id_token()) for _ in range(10))) == [ANA] * 10
    assert provider.asked["jwks"] == 2


async def test_made_up_keys_do_not_become_requests(
    openid: OpenId, provider: LittleProvider, clock: MovableClock
) -> None:
    await openid.verify("little", provider.id_token())
    storm = [renamed(signing_key("RS256", 99), f"made-up-{number}").sign(provider.claims()) for number in range(60)]
    for minute_half in range(1, 4):
        await clock.advance(30)
        results = await asyncio.gather(*(openid.verify("little", t) for t in storm), return_exceptions=True)
        assert all(isinstance(result, TokenNotVouched) for result in results)
        assert provider.asked["jwks"] == 1 + minute_half
    assert await openid.verify("little", provider.id_token()) == ANA
    assert provider.asked["discovery"] == 1


async def test_a_storm_before_the_first_key_costs_one_request(openid: OpenId, provider: LittleProvider) -> None:
    storm = [renamed(signing_key("ES256", 99), f"made-up-{number}").sign(provider.claims()) for number in range(30)]
    await asyncio.gather(*(refusal(openid, token) for token in storm))
    assert provider.asked == {"discovery": 1, "jwks": 1}


async def test_known_keys_serve_on_when_a_refetch_fails(
    openid: OpenId, provider: LittleProvider, clock: MovableClock
) -> None:
    await openid.verify("little", provider.id_token())
    provider.faults["jwks"] = Fault.ERROR
    await clock.advance(30)
    unknown = signing_key("RS256", 99).sign(provider.claims())
    for _ in range(5):
        assert "500" in await outage(openid, unknown)
    assert provider.asked["jwks"] == 2
    assert await openid.verify("little", provider.id_token()) == ANA
    provider.faults.clear()
    await clock.advance(30)
    assert await refusal(openid, unknown) is Refusal.KEY


async def test_nobody_with_a_known_key_waits_while_others_are_looked_for(
    provider: LittleProvider, clock: MovableClock
) -> None:
    openid = knowing(provider, answer_seconds=0.2)
    await openid.verify("little", provider.id_token())
    provider.faults["jwks"] = Fault.SLOW
    await clock.advance(30)
    unknown = asyncio.create_task(outage(openid, signing_key("RS256", 99).sign(provider.claims())))
    while provider.asked["jwks"] < 2:
        await asyncio.sleep(0)
    assert await openid.verify("little", provider.id_token()) == ANA
    assert not unknown.done()
    assert "within 0.2 s" in await unknown


async def test_keys_that_no_id_token_may_be_signed_with_are_passed_over(provider: LittleProvider) -> None:
    good = provider.key().jwk
    weak_key = rsa.generate_private_key(65537, 1024)  # noqa: S505 (that is the point)
    weak = RSAAlgorithm.to_jwk(weak_key.public_key(), as_dict=True) | {"kid": "weak"}
    private = RSAAlgorithm.to_jwk(provider.key().private, as_dict=True) | {"kid": "private"}
    curve = ECAlgorithm.to_jwk(ec.generate_private_key(ec.SECP384R1()).public_key(), as_dict=True) | {"kid": "curve"}
    encryption = {**good, "kid": "encryption", "use": "enc"}
    nonsense: list[Any] = [
        None,
        7,
        [],
        {},
        {"kty": "RSA"},
        {"kty": ["RSA"]},
        {"kty": "RSA", "n": 7, "e": []},
        {"kty": "ML-DSA"},
    ]
    unreadable = [
        {**good, "kid": 7},
        {**good, "n": "***"},
        {**good, "n": ""},
        {"kty": "EC", "crv": "P-1", "x": "", "y": ""},
    ]
    for entry in (weak, private, curve):
        entry.pop("key_ops", None)
    provider.other_keys = [weak, private, curve, encryption, *nonsense, *unreadable]
    openid = knowing(provider)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # joserfc says that 1024 bits are too few
        assert await openid.verify("little", provider.id_token()) == ANA
    for kid in ("weak", "private", "encryption"):
        assert await refusal(openid, renamed(provider.key(), kid).sign(provider.claims())) is Refusal.KEY
    for_curve = renamed(signing_key("ES256"), "curve").sign(provider.claims())
    assert await refusal(openid, for_curve) is Refusal.KEY


# Providers that misbehave


@pytest.mark.parametrize("endpoint", ["discovery", "jwks"])
@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (Fault.SLOW, "within 0.1 s"),
        (Fault.HUGE, "larger than 256 KiB"),
        (Fault.ERROR, "answered 500"),
        (Fault.REDIRECT, "answered 302"),
        (Fault.GIBBERISH, "cannot be read"),
        (Fault.DEEP, "cannot be read"),
        (Fault.LIST, "cannot be read"),
        (Fault.PACKED, "cannot be read"),
    ],
)
async def test_a_provider_that_misbehaves_is_unavailable_until_it_behaves(
    provider: LittleProvider, clock: MovableClock, endpoint: str, fault: Fault, said: str
) -> None:
    openid = knowing(provider, answer_seconds=0.1)
    provider.faults[endpoint] = fault
    token = provider.id_token()
    assert said in await outage(openid, token)
    assert provider.asked[endpoint] == 1
    provider.faults.clear()
    assert said in await outage(openid, token)  # for five seconds the answer is known
    await clock.advance(5)
    assert await openid.verify("little", token) == ANA


async def test_many_who_ask_a_slow_provider_wait_once_and_together(provider: LittleProvider) -> None:
    openid = knowing(provider, answer_seconds=0.1)
    provider.faults["jwks"] = Fault.SLOW
    async with asyncio.timeout(2):
        await asyncio.gather(*(outage(openid, provider.id_token()) for _ in range(50)))
    assert provider.asked["jwks"] == 1


async def test_a_provider_that_cannot_be_reached_is_unavailable(provider: LittleProvider) -> None:
    def broken(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("no route to it")

    http = lambda: httpx.AsyncClient(transport=httpx.MockTransport(broken))  # noqa: E731
    assert "ConnectError" in await outage(OpenId([provider.known_as()], http, provider.clock), provider.id_token())


@pytest.mark.parametrize(
    ("discovered", "said"),
    [
        ({"issuer": "https://evil.example"}, "another issuer"),
        ({"issuer": None}, "another issuer"),
        ({"jwks_uri": None}, "names no jwks_uri"),
        ({"jwks_uri": ["https://little.example/jwks"]}, "names no jwks_uri"),
        ({"jwks_uri": "http://little.example/jwks"}, "https://"),
        ({"jwks_uri": "http://127.0.0.1/jwks"}, "https://"),
        ({"jwks_uri": "http://169.254.169.254/latest"}, "https://"),
        ({"jwks_uri": "file:///etc/passwd"}, "host"),
        ({"jwks_uri": "https://a:b@little.example/jwks"}, "user"),
        ({"jwks_uri": "https://[oops]/jwks"}, "not a URL"),
        ({"jwks_uri": "https://127.0.0.1:99999/jwks"}, "not a URL"),
        ({"jwks_uri": "https://xn--/jwks"}, "not a URL"),
    ],
)
async def test_a_discovery_document_is_not_followed_anywhere(
    provider: LittleProvider, discovered: dict[str, Any], said: str
) -> None:
    provider.discovered = discovered
    assert said in await outage(knowing(provider), provider.id_token())
    assert provider.asked["jwks"] == 0


async def test_a_key_list_without_keys_is_an_outage(provider: LittleProvider) -> None:
    token = provider.id_token()
    provider.keys.clear()
    assert "no key" in await outage(knowing(provider), token)


@pytest.mark.parametrize("field", ["issuer", "jwks_uri", "authorization_endpoint", "token_endpoint"])
@pytest.mark.parametrize(
    "url",
    ["http://id.example", "http://10.0.0.1", "http://localhost.example", "ftp://id.example", "//id.example",
     "id.example", "https://", "https://me:secret@id.example", "https://id.example#part", "javascript:alert(1)"],
)  # fmt: skip
def test_an_address_that_is_not_safe_is_refused_when_it_is_set(provider: LittleProvider, field: str, url: str) -> None:
    with pytest.raises(ValidationError, match=field):
        provider.known_as(**{field: url})


def test_settings_that_cannot_work_are_refused_and_the_secret_is_not_shown(provider: LittleProvider) -> None:
    wrong = [
        {"name": "Big Name"}, {"client_id": ""}, {"client_id": "a\nb"}, {"scopes": "email"}, {"issuer": "https://a.b?c=d"},
        {"client_secret": "canary-é"}, {"colour": "red"},
    ]  # fmt: skip
    for one in wrong:
        with pytest.raises(ValidationError) as caught:
            provider.known_as(**one)
        assert "canary" not in str(caught.value)
    known = provider.known_as()
    assert "canary" not in f"{known!r} {known} {known.model_dump()} {known.model_dump_json()}"


def test_a_provider_can_be_read_from_json() -> None:
    text = '{"name": "work", "client_id": "us", "client_secret": "s", "issuer": "https://id.example/realms/a"}'
    assert Provider.model_validate_json(text) == Provider(
        name="work", client_id="us", client_secret=SecretStr("s"), issuer="https://id.example/realms/a"
    )
    for loopback in ("http://127.0.0.1:5000", "http://[::1]:5000", "http://localhost"):
        assert google("us", "s", issuer=loopback).issuer == loopback


async def test_a_provider_that_nobody_set_is_missing(openid: OpenId) -> None:
    for ask in (
        openid.verify("gogle", "a.b.c"),
        openid.begin("gogle", BACK),
        openid.finish("gogle", "c", BACK, "v", "n"),
    ):
        with pytest.raises(UnknownProvider) as caught:
            await ask
        assert caught.value.advice == "The providers here: little."
    assert openid.names == ("little",)


def test_two_providers_of_one_name_are_refused(provider: LittleProvider) -> None:
    with pytest.raises(ValueError, match="two sign-in providers"):
        OpenId([provider.known_as("a"), provider.known_as("a")], provider.http, provider.clock)


async def test_nobody_is_asked_inside_a_transaction(openid: OpenId, provider: LittleProvider) -> None:
    token = provider.id_token()
    await openid.verify("little", token)
    asks: list[Callable[[], Awaitable[object]]] = [
        lambda: openid.verify("little", token),
        lambda: openid.begin("little", BACK),
        lambda: openid.finish("little", "code", BACK, "verifier", "nonce"),
    ]
    for ask in asks:
        with transaction_section("identity"), pytest.raises(SlowCallInTransaction, match="identity provider"):
            await ask()
    with transaction_section("identity"), pytest.raises(SlowCallInTransaction, match="identity provider"):
        await Line("little", provider.http).ask(httpx.Request("GET", provider.issuer))


# There and back: the authorization-code flow


async def test_a_person_goes_there_and_comes_back(openid: OpenId, provider: LittleProvider) -> None:
    begun = await openid.begin("little", BACK)
    sent = httpx.URL(begun.url).params
    assert sent["flavour"] == "plain"  # what the provider's own address had is kept
    assert sent["scope"] == "openid email profile"
    assert begun.code_verifier not in begun.url
    back = await provider.sign_in(begun.url)
    assert back["state"] == begun.state
    assert await openid.finish("little", back["code"], BACK, begun.code_verifier, begun.nonce) == ANA
    assert provider.authenticated_by == ["post"]
    assert provider.asked == {"discovery": 1, "authorize": 1, "token": 1, "jwks": 1}


@pytest.mark.parametrize(
    ("discovered", "settings", "way"),
    [
        ({"token_endpoint_auth_methods_supported": None}, {}, "basic"),
        ({"token_endpoint_auth_methods_supported": ["client_secret_basic"]}, {}, "basic"),
        ({}, {"token_endpoint": "https://little.example/token"}, "basic"),
        ({}, {"client_secret": ""}, "none"),
    ],
)
async def test_the_secret_is_shown_the_way_the_provider_takes_it(
    provider: LittleProvider, discovered: dict[str, Any], settings: dict[str, Any], way: str
) -> None:
    provider.discovered = discovered
    openid = knowing(provider, **settings)
    begun = await openid.begin("little", BACK)
    code = (await provider.sign_in(begun.url))["code"]
    assert await openid.finish("little", code, BACK, begun.code_verifier, begun.nonce) == ANA
    assert provider.authenticated_by == [way]


async def coming_back(openid: OpenId, provider: LittleProvider, begun: Begun | None = None) -> tuple[str, Begun]:
    begun = begun or await openid.begin("little", BACK)
    return (await provider.sign_in(begun.url))["code"], begun


async def test_every_sign_in_has_secrets_of_its_own(openid: OpenId) -> None:
    begun = [await openid.begin("little", BACK) for _ in range(20)]
    every = [text for one in begun for text in (one.state, one.nonce, one.code_verifier)]
    assert len(set(every)) == 60
    assert all(43 <= len(text) <= 128 for text in every)
    assert begun[0].code_verifier not in repr(begun[0])


async def test_a_code_is_worth_nothing_without_its_verifier(openid: OpenId, provider: LittleProvider) -> None:
    another = await openid.begin("little", BACK)
    for verifier in (another.code_verifier, "", "v" * 64):
        code, begun = await coming_back(openid, provider)
        with pytest.raises(TokenNotVouched) as caught:
            await openid.finish("little", code, BACK, verifier, begun.nonce)
        assert caught.value.facts["reason"] is Refusal.CODE
    assert provider.asked["token"] == 2  # without any verifier nobody is asked


async def test_a_code_is_good_once_and_for_its_own_return_address(openid: OpenId, provider: LittleProvider) -> None:
    code, begun = await coming_back(openid, provider)
    await openid.finish("little", code, BACK, begun.code_verifier, begun.nonce)
    other_code, other = await coming_back(openid, provider)
    attempts = [
        (code, BACK, begun.code_verifier, begun.nonce),
        (other_code, "https://evil.example/back", other.code_verifier, other.nonce),
        ("made-up", BACK, begun.code_verifier, begun.nonce),
        ("", BACK, begun.code_verifier, begun.nonce),
        ("c" * 5000, BACK, begun.code_verifier, begun.nonce),
    ]
    for attempt in attempts:
        with pytest.raises(TokenNotVouched, match="code not accepted"):
            await openid.finish("little", *attempt)


async def test_the_token_for_a_code_is_verified_like_any_other(openid: OpenId, provider: LittleProvider) -> None:
    lies: list[tuple[dict[str, Any], Refusal]] = [
        ({"nonce": "of-another-sign-in"}, Refusal.NONCE),
        ({"nonce": None}, Refusal.NONCE),
        ({"iss": "https://evil.example"}, Refusal.ISSUER),
        ({"aud": "else"}, Refusal.AUDIENCE),
        ({"exp": 1}, Refusal.EXPIRED),
    ]
    for lie, reason in lies:
        provider.lies = lie
        code, begun = await coming_back(openid, provider)
        with pytest.raises(TokenNotVouched) as caught:
            await openid.finish("little", code, BACK, begun.code_verifier, begun.nonce)
        assert caught.value.facts["reason"] is reason


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ((401, {"error": "invalid_client"}), "our client id and secret"),
        ((400, {"error": "unauthorized_client"}), "our client id and secret"),
        ((400, {"error": "redirect_uri_mismatch"}), "answered 400"),
        ((429, {}), "answered 429"),
        ((503, {}), "answered 503"),
        ((302, {}), "answered 302"),
        ((200, {}), "no ID token"),
        ((200, {"error": "invalid_grant"}), "no ID token"),
    ],
)
async def test_what_is_between_the_provider_and_us_is_not_blamed_on_the_person(
    openid: OpenId, provider: LittleProvider, answer: tuple[int, dict[str, str]], said: str
) -> None:
    code, begun = await coming_back(openid, provider)
    provider.token_error = answer
    with pytest.raises(ProviderUnavailable, match=said) as caught:
        await openid.finish("little", code, BACK, begun.code_verifier, begun.nonce)
    assert CLIENT_SECRET not in str(caught.value)


@pytest.mark.parametrize("fault", [Fault.SLOW, Fault.HUGE, Fault.ERROR, Fault.REDIRECT, Fault.GIBBERISH])
async def test_a_token_endpoint_that_misbehaves_is_an_outage(provider: LittleProvider, fault: Fault) -> None:
    openid = knowing(provider, answer_seconds=0.1)
    code, begun = await coming_back(openid, provider)
    provider.faults["token"] = fault
    with pytest.raises(ProviderUnavailable):
        await openid.finish("little", code, BACK, begun.code_verifier, begun.nonce)
    assert provider.asked["token"] == 1


async def test_all_of_it_works_over_real_sockets(clock: MovableClock) -> None:
    provider = LittleProvider(clock)
    async with provider.serving():
        openid = OpenId([google(CLIENT_ID, CLIENT_SECRET, issuer=provider.issuer)], httpx.AsyncClient, clock, 0.5)
        assert (await openid.verify("google", provider.id_token())).email == "ana@example.com"
        begun = await openid.begin("google", BACK)
        code = (await provider.sign_in(begun.url))["code"]
        vouched = await openid.finish("google", code, BACK, begun.code_verifier, begun.nonce)
        assert vouched.issuer == provider.issuer
        for fault in (Fault.SLOW, Fault.ENDLESS, Fault.HUGE, Fault.REDIRECT, Fault.PACKED):
            await clock.advance(600)
            provider.faults["jwks"] = fault
            with pytest.raises(ProviderUnavailable):
                await openid.verify("google", provider.id_token())
    await clock.advance(600)
    with pytest.raises(ProviderUnavailable, match="ConnectError"):
        await openid.verify("google", provider.id_token())
