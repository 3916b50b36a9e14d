"""Logging in through a provider: with an ID token that a client brings, or from a browser, there and back.

What has to be remembered in between (state, nonce, PKCE verifier) travels sealed in a cookie of that browser, so that
no table is needed, and a prepared link cannot log somebody in to another person's account. Behind https the cookie's
name begins with `__Host-`: no page on another host of our domain, such as a client's own app, can plant one.
"""

from __future__ import annotations

import binascii
import hmac
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from muelle.identity.core import Core
from muelle.identity.log_in import LoggedIn, LogIn, Vouching
from muelle.identity.model import LinkSpent
from muelle.kit.errors import Missing
from muelle.kit.vault import SealBroken

COOKIE = "muelle_provider"
COOKIE_PATH = "/api/v1/auth/providers"
ROUND_TRIP_SECONDS = 600
_PURPOSE = "provider round trips"


class NoSuchProvider(Missing):
    """There is no log-in provider "{name}" here."""


class Started(Protocol):
    @property
    def url(self) -> str: ...
    @property
    def state(self) -> str: ...
    @property
    def nonce(self) -> str: ...
    @property
    def code_verifier(self) -> str: ...


class Providers(Protocol):
    """What identity needs of OpenID Connect (see `identity.oidc`)."""

    @property
    def names(self) -> Sequence[str]: ...

    async def begin(self, name: str, redirect_uri: str, /) -> Started: ...

    async def finish(self, name: str, code: str, redirect_uri: str, code_verifier: str, nonce: str, /) -> Vouching: ...

    async def verify(self, name: str, id_token: str, /, *, nonce: str | None = None) -> Vouching: ...


@dataclass(frozen=True)
class Cookie:
    """What the browser keeps the round trip in."""

    name: str
    path: str
    secure: bool


@dataclass(frozen=True)
class OnTheWay:
    """Where to send the browser, and the cookie that it has to bring back."""

    url: str
    cookie: str


@dataclass(frozen=True)
class Mocked:
    """What development's mock log-in says of a person: whatever they say."""

    email: str
    issuer: str = "mock"
    name: str = ""
    email_verified: bool = True

    @property
    def subject(self) -> str:
        return self.email


class BrowserLogIn:
    def __init__(self, core: Core, log_in: LogIn, providers: Providers | None, *, mock: bool) -> None:
        self._core = core
        self._log_in = log_in
        self._providers = providers
        self.mock = mock

    @property
    def names(self) -> list[str]:
        return sorted(self._providers.names) if self._providers else []

    @property
    def cookie(self) -> Cookie:
        secure = self._core.policy.url.startswith("https://")
        return Cookie(f"__Host-{COOKIE}", "/", secure=True) if secure else Cookie(COOKIE, COOKIE_PATH, secure=False)

    async def with_id_token(self, name: str, id_token: str, nonce: str | None, agent: str) -> LoggedIn:
        vouching = await self._known(name).verify(name, id_token, nonce=nonce)
        return await self._log_in.vouched(name, vouching, agent)

    async def begin(self, name: str) -> OnTheWay:
        begun = await self._known(name).begin(name, self._redirect_uri(name))
        until = int(self._core.clock.now().timestamp()) + ROUND_TRIP_SECONDS
        kept = json.dumps([name, begun.state, begun.nonce, begun.code_verifier, until])
        return OnTheWay(begun.url, urlsafe_b64encode(self._core.vault.seal(_PURPOSE, kept.encode())).decode())

    async def finish(self, name: str, code: str, state: str, cookie: str, agent: str) -> LoggedIn:
        providers = self._known(name)
        try:
            kept = json.loads(self._core.vault.open(_PURPOSE, urlsafe_b64decode(cookie.encode())))
        except (SealBroken, binascii.Error, ValueError) as error:
            raise LinkSpent from error
        kept_name, kept_state, nonce, verifier, until = kept
        in_time = self._core.clock.now().timestamp() < until
        if kept_name != name or not in_time or not hmac.compare_digest(kept_state.encode(), state.encode()):
            raise LinkSpent
        vouching = await providers.finish(name, code, self._redirect_uri(name), verifier, nonce)
        return await self._log_in.vouched(name, vouching, agent)

    async def mocked(self, email: str, agent: str) -> LoggedIn:
        return await self._log_in.vouched("mock", Mocked(email), agent)

    def _known(self, name: str) -> Providers:
        if self._providers is None or name not in self._providers.names:
            raise NoSuchProvider(name=name)
        return self._providers

    def _redirect_uri(self, name: str) -> str:
        return f"{self._core.policy.url}/api/v1/auth/providers/{name}/callback"
