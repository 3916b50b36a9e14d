"""Signing in: an ID token shown to us, or the authorization-code flow with PKCE."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from dataclasses import dataclass

import httpx
from authlib.oauth2.auth import ClientAuth  # type: ignore[import-untyped]
from authlib.oauth2.rfc6749.parameters import (  # type: ignore[import-untyped]
    prepare_grant_uri,
    prepare_token_request,
)
from authlib.oauth2.rfc7636 import create_s256_code_challenge  # type: ignore[import-untyped]

from muelle.identity.oidc.errors import Refusal, TokenNotVouched, UnknownProvider
from muelle.identity.oidc.model import Begun, Provider, Vouched
from muelle.identity.oidc.published import ANSWER_SECONDS, Answer, Http, Line, Published
from muelle.identity.oidc.tokens import read_header, vouched_by
from muelle.kit.clock import Clock
from muelle.kit.db import refuse_inside_transaction

MAX_CODE_CHARACTERS = 4096


class OpenId:
    """`http` makes a client for one answer; it is closed after it."""

    def __init__(
        self, providers: Iterable[Provider], http: Http, clock: Clock, answer_seconds: float = ANSWER_SECONDS
    ) -> None:
        self._clock = clock
        self._known: dict[str, _Known] = {}
        for provider in providers:
            if provider.name in self._known:
                raise ValueError(f'two sign-in providers are called "{provider.name}"')
            line = Line(provider.name, http, answer_seconds)
            self._known[provider.name] = _Known(provider, line, Published(provider, line, clock))

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._known)

    async def verify(self, provider_name: str, id_token: str, *, nonce: str | None = None) -> Vouched:
        """Who the ID token is about, if the provider really signed it for us and it is in force."""
        known = self._find(provider_name)
        header = read_header(known.provider, id_token)
        key = await known.published.key(header)
        if key is None:
            raise TokenNotVouched(provider=provider_name, reason=Refusal.KEY)
        return vouched_by(known.provider, id_token, key, self._clock.now(), nonce)

    async def begin(self, provider_name: str, redirect_uri: str) -> Begun:
        """Where to send the person, and what to keep until they come back with `state` and a code."""
        known = self._find(provider_name)
        state, nonce, verifier = (secrets.token_urlsafe(48) for _ in range(3))
        url = prepare_grant_uri(
            await known.published.endpoint("authorization_endpoint"),
            client_id=known.provider.client_id,
            response_type="code",
            redirect_uri=redirect_uri,
            scope=known.provider.scopes,
            state=state,
            nonce=nonce,
            code_challenge=create_s256_code_challenge(verifier),
            code_challenge_method="S256",
        )
        return Begun(url, state, nonce, verifier)

    async def finish(self, provider_name: str, code: str, redirect_uri: str, code_verifier: str, nonce: str) -> Vouched:
        """Exchanges the code for an ID token and verifies that, with the nonce of the same sign-in."""
        known = self._find(provider_name)
        if not code or len(code) > MAX_CODE_CHARACTERS or not code_verifier:
            raise TokenNotVouched(provider=provider_name, reason=Refusal.CODE)
        request = _exchange(
            known.provider,
            await known.published.endpoint("token_endpoint"),
            await known.published.client_authentication(),
            prepare_token_request(
                "authorization_code", redirect_uri=redirect_uri, code=code, code_verifier=code_verifier
            ),
        )
        id_token = _id_token(known, await known.line.ask(request))
        return await self.verify(provider_name, id_token, nonce=nonce)

    def _find(self, name: str) -> _Known:
        # Also where nothing will be fetched this time: the mistake shows at once, and not on the day the keys changed.
        refuse_inside_transaction("the identity provider")
        if name not in self._known:
            raise UnknownProvider(provider=name[:40], known=", ".join(self._known) or "none")
        return self._known[name]


@dataclass(frozen=True)
class _Known:
    provider: Provider
    line: Line
    published: Published


def _exchange(provider: Provider, url: str, authentication: str, body: str) -> httpx.Request:
    client = ClientAuth(provider.client_id, provider.client_secret.get_secret_value(), authentication)
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    url, headers, body = client.prepare("POST", url, headers, body)
    return httpx.Request("POST", url, headers=headers, content=body)


def _id_token(known: _Known, answer: Answer) -> str:
    """What the token endpoint answered. Only `invalid_grant` is about the person; all else is between it and us."""
    document = answer.document() or {}
    if answer.status == 200:
        if isinstance(document.get("id_token"), str):
            return str(document["id_token"])
        raise known.line.unavailable("it sent no ID token")
    match document.get("error"):
        case "invalid_grant":
            raise TokenNotVouched(provider=known.provider.name, reason=Refusal.CODE)
        case "invalid_client" | "unauthorized_client":
            raise known.line.unavailable("it does not accept our client id and secret")
        case _:
            raise known.line.unavailable(f"it answered {answer.status} to the code")
