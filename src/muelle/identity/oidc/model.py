"""The values of a sign-in: the provider as the operator sets it, a sign-in that has begun, and what was vouched for."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, Self

import httpx
from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

GOOGLE_ISSUER = "https://accounts.google.com"
HIGHEST_PORT = 65_535

Endpoint = Literal["jwks_uri", "authorization_endpoint", "token_endpoint"]
Url = Annotated[str, Field(max_length=2000)]


class Provider(BaseModel):
    """An OpenID Connect provider. What is left out of its three endpoints is discovered from the issuer."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    name: str = Field(pattern=r"^[a-z][a-z0-9-]{0,39}$", description="How addresses and settings call it.")
    client_id: str = Field(pattern=r"^[\x20-\x7e]{1,500}$")
    client_secret: SecretStr = Field(
        default=SecretStr(""), description="Empty for a public client, which PKCE alone protects."
    )
    issuer: Url = Field(description="Exactly as the provider's tokens spell it.")
    also_issuers: tuple[str, ...] = Field(default=(), description="Other spellings of the issuer in its tokens.")
    jwks_uri: Url | None = None
    authorization_endpoint: Url | None = None
    token_endpoint: Url | None = None
    scopes: str = "openid email profile"

    @field_validator("issuer", "jwks_uri", "authorization_endpoint", "token_endpoint")
    @classmethod
    def _safe(cls, url: str | None) -> str | None:
        return None if url is None else safe_url(url)

    @field_validator("client_secret")
    @classmethod
    def _sendable(cls, secret: SecretStr) -> SecretStr:
        text = secret.get_secret_value()
        if not (text.isascii() and text.isprintable()) and text:
            raise ValueError("may hold printable ASCII characters only")
        return secret

    @model_validator(mode="after")
    def _asks_who_it_is(self) -> Self:
        if "openid" not in self.scopes.split():
            raise ValueError('scopes have to include "openid": without it a provider sends no ID token')
        if httpx.URL(self.issuer).query:
            raise ValueError("an issuer has no query")
        return self

    @property
    def plain_http(self) -> bool:
        """Whether it lives on this machine and talks without TLS, as a test's provider does."""
        return httpx.URL(self.issuer).scheme == "http"


def google(client_id: str, client_secret: str, **overrides: Any) -> Provider:
    """Google, whose ID tokens may name their issuer with or without the scheme."""
    settings: dict[str, Any] = {"name": "google", "issuer": GOOGLE_ISSUER} | overrides
    settings.setdefault("also_issuers", (settings["issuer"].removeprefix("https://"),))
    return Provider(client_id=client_id, client_secret=SecretStr(client_secret), **settings)


@dataclass(frozen=True)
class Vouched:
    """Who somebody is, in the words of a provider. Issuer and subject name them for good; the e-mail may change."""

    issuer: str
    subject: str
    email: str
    email_verified: bool
    name: str = ""
    picture: str = ""


@dataclass(frozen=True)
class Begun:
    """A sign-in on its way: the person goes to `url`, the rest waits here for their return."""

    url: str = field(repr=False)
    state: str = field(repr=False)
    nonce: str = field(repr=False)
    code_verifier: str = field(repr=False)


def safe_url(url: str, *, plain_http: bool = True) -> str:
    """The same URL, when it is https, or plain http on a loopback address where that is allowed; else a ValueError."""
    try:
        parts = httpx.URL(url)
        host, port = parts.host, parts.port or 443
    except (httpx.InvalidURL, UnicodeError):
        raise ValueError("is not a URL") from None
    if port > HIGHEST_PORT:
        raise ValueError("is not a URL")
    if not host or parts.userinfo or parts.fragment:
        raise ValueError("has to name a host, and neither a user nor a fragment")
    if parts.scheme != "https" and not (plain_http and parts.scheme == "http" and _is_loopback(host)):
        raise ValueError("has to begin with https:// (plain http is for loopback addresses only)")
    return url


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
