"""The texts that stand for a person: access tokens, refresh tokens, API keys, one-time tokens. Pure.

An *access token* is a short-lived JWT that names a session. A *refresh token* names a session and a generation, under
a MAC: the session counts up at each refresh, so an older generation proves that a token was used twice, and nothing has
to be kept for it. An *API key* and a *one-time token* are random; only their hash is kept.
"""

from __future__ import annotations

import hmac
import re
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256

import jwt

from muelle.identity.model import AccountId, SessionId
from muelle.kit.http.access import TokenExpired, TokenInvalid
from muelle.kit.vault import Vault

KEY_PREFIX = "mk_"
CLOCK_SKEW_SECONDS = 30
_ALGORITHM = "HS256"
_ISSUER = "muelle"
_KEY = re.compile(r"mk_([0-9a-f]{8})_([A-Za-z0-9_-]{43})")
_REFRESH = re.compile(r"mr_([0-9a-f]{24})_([1-9][0-9]{0,8})_([0-9a-f]{64})")


@dataclass(frozen=True)
class AccessClaims:
    account_id: AccountId
    session_id: SessionId
    expires_at: float


@dataclass(frozen=True)
class RefreshClaims:
    session_id: SessionId
    generation: int


class Tokens:
    def __init__(self, vault: Vault) -> None:
        self._vault = vault
        self._key = vault.key("access tokens")

    def access(self, account_id: AccountId, session_id: SessionId, now: datetime, lifetime: timedelta) -> str:
        issued = int(now.timestamp())
        claims = {
            "iss": _ISSUER,
            "aud": _ISSUER,
            "sub": account_id,
            "sid": session_id,
            "iat": issued,
            "exp": issued + int(lifetime.total_seconds()),
        }
        return jwt.encode(claims, self._key, _ALGORITHM)

    def read_access(self, token: str, now: datetime) -> AccessClaims:
        try:
            claims = jwt.decode(
                token,
                self._key,
                algorithms=[_ALGORITHM],
                audience=_ISSUER,
                issuer=_ISSUER,
                options={
                    "require": ["iss", "aud", "sub", "sid", "iat", "exp"],
                    "verify_exp": False,
                    "verify_iat": False,
                    "verify_nbf": False,
                },
            )
            issued, expires = float(claims["iat"]), float(claims["exp"])
        except (jwt.InvalidTokenError, TypeError, ValueError) as error:
            raise TokenInvalid from error
        if issued > now.timestamp() + CLOCK_SKEW_SECONDS:
            raise TokenInvalid
        if expires <= now.timestamp():
            raise TokenExpired
        return AccessClaims(AccountId(claims["sub"]), SessionId(claims["sid"]), expires)

    def refresh(self, session_id: SessionId, generation: int) -> str:
        return f"mr_{session_id}_{generation}_{self._refresh_mac(session_id, generation)}"

    def read_refresh(self, token: str) -> RefreshClaims:
        found = _REFRESH.fullmatch(token)
        if found is None:
            raise TokenInvalid
        session_id, generation = SessionId(found[1]), int(found[2])
        if not hmac.compare_digest(found[3], self._refresh_mac(session_id, generation)):
            raise TokenInvalid
        return RefreshClaims(session_id, generation)

    def _refresh_mac(self, session_id: str, generation: int) -> str:
        return self._vault.mac("refresh tokens", session_id.encode(), str(generation).encode())


@dataclass(frozen=True)
class FreshKey:
    """A new API key: the only time that its text is known."""

    text: str
    prefix: str
    secret_hash: str


def make_key() -> FreshKey:
    prefix, secret = secrets.token_hex(4), secrets.token_urlsafe(32)
    return FreshKey(f"{KEY_PREFIX}{prefix}_{secret}", prefix, digest(secret))


def read_key(text: str) -> tuple[str, str]:
    """The prefix to look it up by, and the hash to compare."""
    found = _KEY.fullmatch(text)
    if found is None:
        raise TokenInvalid
    return found[1], digest(found[2])


def one_time() -> str:
    return secrets.token_urlsafe(32)


def digest(secret: str) -> str:
    """Enough for a secret that is random: there is nothing to guess."""
    return sha256(secret.encode()).hexdigest()
