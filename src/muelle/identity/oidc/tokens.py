"""Decides whether an ID token is true. Pure: token, key and time go in, a `Vouched` or a refusal comes out.

Order matters. The algorithm is looked at before any key, so that a token cannot choose how it is checked; the claims
are looked at after the signature, so that a forger learns nothing from them; keys come from the provider's own list,
never from the token.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from authlib.oidc.core import CodeIDToken  # type: ignore[import-untyped]
from joserfc import jwt
from joserfc.errors import ClaimError, ExpiredTokenError, JoseError, UnsupportedAlgorithmError
from joserfc.jwk import JWKRegistry, Key, RSAKey
from joserfc.jws import JWSRegistry
from joserfc.util import urlsafe_b64decode

from muelle.identity.oidc.errors import Refusal, TokenNotVouched
from muelle.identity.oidc.model import Provider, Vouched

ALGORITHMS = ("RS256", "PS256", "ES256", "EdDSA")  # asymmetric ones only: a key that is published cannot be a secret
LEEWAY_SECONDS = 60
MAX_TOKEN_CHARACTERS = 16_384
MAX_KEYS = 100
MAX_EMAIL_CHARACTERS = 254
MAX_NAME_CHARACTERS = 200
MAX_PICTURE_CHARACTERS = 2000
MAX_SUBJECT_CHARACTERS = 255
SAFE_RSA_BITS = range(2048, 8193)

_REASONS = {
    "iss": Refusal.ISSUER,
    "aud": Refusal.AUDIENCE,
    "nbf": Refusal.EARLY,
    "iat": Refusal.EARLY,
    "sub": Refusal.SUBJECT,
}


@dataclass(frozen=True)
class Header:
    algorithm: str
    key_id: str | None


@dataclass(frozen=True)
class PublishedKeys:
    """The public keys of a provider that may sign ID tokens."""

    keys: tuple[Key, ...]

    def find(self, header: Header) -> Key | None:
        """The key that the header names. One that names none gets one only where there is no choice."""
        fitting = [key for key in self.keys if _fits(key, header.algorithm)]
        if header.key_id is None:
            return fitting[0] if len(fitting) == 1 else None
        return next((key for key in fitting if key.kid == header.key_id), None)


def published_keys(document: Mapping[str, Any]) -> PublishedKeys:
    """Reads a JWKS. What no ID token may be signed with (secret, private, weak, unheard-of) is passed over."""
    listed = document.get("keys")
    if not isinstance(listed, list):
        raise ValueError("no list of keys")
    read = (_public_key(entry) for entry in listed[:MAX_KEYS])
    return PublishedKeys(tuple(key for key in read if key is not None))


def read_header(provider: Provider, token: str) -> Header:
    """The part that says how the token claims to be signed. Nothing in it is proven yet."""
    if len(token) > MAX_TOKEN_CHARACTERS or not token.isascii() or token.count(".") != 2:
        raise _refused(provider, Refusal.MALFORMED)
    try:
        header = json.loads(urlsafe_b64decode(token.partition(".")[0].encode()))
    except (ValueError, RecursionError):
        raise _refused(provider, Refusal.MALFORMED) from None
    if not isinstance(header, dict) or not isinstance(header.get("kid", ""), str) or not _is_for_us(header):
        raise _refused(provider, Refusal.MALFORMED)
    if header.get("alg") not in ALGORITHMS:
        raise _refused(provider, Refusal.ALGORITHM)
    return Header(header["alg"], header.get("kid"))


def vouched_by(provider: Provider, token: str, key: Key, now: datetime, nonce: str | None) -> Vouched:
    """Who the token is about, once its signature and every claim have been found right."""
    claims = _signed_claims(provider, token, key)
    _check_claims(provider, claims, now)
    if nonce is not None and claims.get("nonce") != nonce:
        raise _refused(provider, Refusal.NONCE)
    return _person(provider, claims)


def _refused(provider: Provider, reason: Refusal) -> TokenNotVouched:
    return TokenNotVouched(provider=provider.name, reason=reason)


def _is_for_us(header: Mapping[str, Any]) -> bool:
    """Other kinds of token (access, log-out, event) bear their kind in `typ`; an ID token says JWT or nothing."""
    kind = header.get("typ", "JWT")
    return isinstance(kind, str) and kind.upper() == "JWT"


def _fits(key: Key, algorithm: str) -> bool:
    try:
        JWSRegistry.algorithms[algorithm].check_key(key)
    except JoseError:
        return False
    return True


def _public_key(entry: Any) -> Key | None:
    if not isinstance(entry, dict) or entry.get("kty") == "oct" or "d" in entry:
        return None
    try:
        key = JWKRegistry.import_key(entry)
    except (JoseError, ValueError, TypeError, KeyError):
        return None
    return None if isinstance(key, RSAKey) and key.raw_value.key_size not in SAFE_RSA_BITS else key


class _OnlyOurAlgorithms(JWSRegistry):
    """joserfc's registry with our list in the place of its own, which warns of EdDSA for the name's sake alone."""

    def get_alg(self, name: str) -> Any:
        if name not in ALGORITHMS:
            raise UnsupportedAlgorithmError()
        return self.algorithms[name]


_ALGORITHMS = _OnlyOurAlgorithms(strict_check_header=False)  # unknown header fields are passed over, as RFC 7515 asks


def _signed_claims(provider: Provider, token: str, key: Key) -> dict[str, Any]:
    try:
        return jwt.decode(token, key, registry=_ALGORITHMS).claims
    except (JoseError, ValueError, TypeError, RecursionError):
        raise _refused(provider, Refusal.SIGNATURE) from None


def _check_claims(provider: Provider, claims: dict[str, Any], now: datetime) -> None:
    wanted = {
        "iss": {"essential": True, "values": [provider.issuer, *provider.also_issuers]},
        "aud": {"essential": True, "value": provider.client_id},
        "sub": {"essential": True},
    }
    try:
        CodeIDToken(claims, {}, wanted).validate(int(now.timestamp()), LEEWAY_SECONDS)
    except ExpiredTokenError:
        raise _refused(provider, Refusal.EXPIRED) from None
    except ClaimError as problem:
        first = problem.claim.partition(",")[0]
        raise _refused(provider, _REASONS.get(first, Refusal.MALFORMED)) from None
    # With one audience, azp may name another client of the same owner: Google's tokens from a phone do.
    audiences = claims["aud"]
    if isinstance(audiences, list) and len(audiences) > 1 and claims.get("azp") != provider.client_id:
        raise _refused(provider, Refusal.AUDIENCE)


def _person(provider: Provider, claims: Mapping[str, Any]) -> Vouched:
    if len(claims["sub"]) > MAX_SUBJECT_CHARACTERS or not claims["sub"].isprintable():
        raise _refused(provider, Refusal.SUBJECT)
    return Vouched(
        issuer=provider.issuer,  # one spelling, whichever the token has: it is half of a person's name here
        subject=claims["sub"],
        email=_email(provider, claims.get("email")),
        email_verified=claims.get("email_verified") in (True, "true"),  # some say it as text
        name=_name(claims.get("name")),
        picture=_picture(claims.get("picture")),
    )


def _email(provider: Provider, email: Any) -> str:
    if not isinstance(email, str) or len(email) > MAX_EMAIL_CHARACTERS:
        raise _refused(provider, Refusal.EMAIL)
    if not email.isprintable() or not re.fullmatch(r"[^@\s]+@[^@\s]+", email):
        raise _refused(provider, Refusal.EMAIL)
    # ASCII only is lower-cased: str.lower makes a plain k of the Kelvin sign, and so of one person another.
    return email.encode().lower().decode()


def _name(name: Any) -> str:
    text = name if isinstance(name, str) else ""
    return "".join(letter for letter in text if letter.isprintable()).strip()[:MAX_NAME_CHARACTERS]


def _picture(url: Any) -> str:
    fine = isinstance(url, str) and len(url) <= MAX_PICTURE_CHARACTERS and re.fullmatch(r"https://[!-~]+", url)
    return str(url) if fine else ""
