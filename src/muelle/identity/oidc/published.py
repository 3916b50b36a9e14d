"""What a provider publishes, its endpoints and its keys: fetched when needed, within bounds, and kept a while."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar

import httpx
from authlib.oidc.discovery import get_well_known_url  # type: ignore[import-untyped]
from joserfc.jwk import Key

from muelle.identity.oidc.errors import ProviderUnavailable
from muelle.identity.oidc.model import Endpoint, Provider, safe_url
from muelle.identity.oidc.tokens import Header, PublishedKeys, published_keys
from muelle.kit.clock import Clock
from muelle.kit.db import refuse_inside_transaction

MAX_ANSWER_BYTES = 256 * 1024
ANSWER_SECONDS = 5.0
DISCOVERY_SECONDS = 3600.0
KEYS_SECONDS = 600.0
BETWEEN_REFETCHES_SECONDS = 30.0
FAILURE_SECONDS = 5.0

Http = Callable[[], httpx.AsyncClient]
T = TypeVar("T")


@dataclass(frozen=True)
class Answer:
    status: int
    body: bytes

    def document(self) -> dict[str, Any] | None:
        """The JSON object it holds, if it holds one."""
        try:
            document = json.loads(self.body)
        except (ValueError, RecursionError):
            return None
        return document if isinstance(document, dict) else None


class Line:
    """The way to one provider: one request, one answer of bounded size and within a bounded time, no redirects."""

    def __init__(self, provider: str, http: Http, answer_seconds: float = ANSWER_SECONDS) -> None:
        self._provider = provider
        self._http = http
        self._seconds = answer_seconds

    async def ask(self, request: httpx.Request) -> Answer:
        refuse_inside_transaction("the identity provider")
        request.headers["Accept"] = "application/json"
        request.headers["User-Agent"] = "muelle"
        request.headers["Accept-Encoding"] = "identity"  # what arrives is what is counted: no bomb to unpack
        try:
            async with asyncio.timeout(self._seconds), self._http() as client:
                return await self._exchange(client, request)
        except TimeoutError:
            raise self.unavailable(f"it did not answer within {self._seconds:g} s") from None
        except httpx.HTTPError as problem:
            raise self.unavailable(f"the connection failed ({type(problem).__name__})") from problem

    async def fetch(self, url: str, what: str) -> dict[str, Any]:
        answer = await self.ask(httpx.Request("GET", url))
        if answer.status != 200:
            raise self.unavailable(f"it answered {answer.status} when asked for {what}")
        document = answer.document()
        if document is None:
            raise self.unavailable(f"{what} cannot be read")
        return document

    def unavailable(self, reason: str) -> ProviderUnavailable:
        return ProviderUnavailable(provider=self._provider, reason=reason)

    async def _exchange(self, client: httpx.AsyncClient, request: httpx.Request) -> Answer:
        response = await client.send(request, stream=True, follow_redirects=False, auth=None)
        body = bytearray()
        try:
            async for piece in response.aiter_raw():
                body += piece
                if len(body) > MAX_ANSWER_BYTES:
                    raise self.unavailable(f"its answer is larger than {MAX_ANSWER_BYTES // 1024} KiB")
        finally:
            await response.aclose()
        return Answer(response.status_code, bytes(body))


class Kept(Generic[T]):
    """A thing fetched by one asker at a time, while the others wait for its answer, and kept for a while.

    A failure is kept too, for a few seconds: many askers of a provider that is down get one time-out, not a queue of
    them.
    """

    def __init__(self, fetch: Callable[[], Awaitable[T]], keep_seconds: float, clock: Clock) -> None:
        self._fetch = fetch
        self._keep_seconds = keep_seconds
        self._clock = clock
        self._turn = asyncio.Lock()
        self._value: T | None = None
        self._fetched_at: datetime | None = None
        self._tried_at: datetime | None = None
        self._failure: ProviderUnavailable | None = None

    async def get(self) -> T:
        if (kept := self._kept()) is not None:  # also while somebody else fetches a newer one: nobody waits for that
            return kept
        async with self._turn:
            kept = self._kept()
            return await self._fetched(FAILURE_SECONDS) if kept is None else kept

    async def newer_than(self, seen: T) -> T:
        """Fetched again, unless somebody just did: then what they got, which may be the same."""
        async with self._turn:
            if self._value is not None and self._value is not seen:
                return self._value
            if self._failure is None and self._within(BETWEEN_REFETCHES_SECONDS, self._tried_at):
                return seen
            return await self._fetched(BETWEEN_REFETCHES_SECONDS)

    def _kept(self) -> T | None:
        return self._value if self._within(self._keep_seconds, self._fetched_at) else None

    async def _fetched(self, failure_seconds: float) -> T:
        if self._failure is not None and self._within(failure_seconds, self._tried_at):
            raise ProviderUnavailable(**self._failure.facts)
        self._tried_at, self._failure = self._clock.now(), None
        try:
            self._value = await self._fetch()
        except ProviderUnavailable as failure:
            self._failure = failure
            raise
        self._fetched_at = self._clock.now()
        return self._value

    def _within(self, seconds: float, moment: datetime | None) -> bool:
        """A moment in the future does not count: a clock that was set back must not keep old keys alive."""
        return moment is not None and 0 <= (self._clock.now() - moment).total_seconds() < seconds


class Published:
    def __init__(self, provider: Provider, line: Line, clock: Clock) -> None:
        self._provider = provider
        self._line = line
        self._discovery = Kept(self._fetch_discovery, DISCOVERY_SECONDS, clock)
        self._keys = Kept(self._fetch_keys, KEYS_SECONDS, clock)

    async def endpoint(self, which: Endpoint) -> str:
        """As the operator set it, else as the provider's discovery document has it."""
        configured: str | None = getattr(self._provider, which)
        if configured is not None:
            return configured
        discovered = (await self._discovery.get()).get(which)
        if not isinstance(discovered, str):
            raise self._line.unavailable(f"its discovery document names no {which}")
        try:
            return safe_url(discovered, plain_http=self._provider.plain_http)
        except ValueError as problem:
            raise self._line.unavailable(f"the {which} in its discovery document {problem}") from None

    async def key(self, header: Header) -> Key | None:
        """The key that the header names, looked for a second time when the provider may have changed its keys."""
        keys = await self._keys.get()
        return keys.find(header) or (await self._keys.newer_than(keys)).find(header)

    async def client_authentication(self) -> str:
        """How the provider wants to see our secret. In the body where it takes it there: in the header, providers
        disagree on how a secret with special characters is written."""
        if not self._provider.client_secret.get_secret_value():
            return "none"
        if self._provider.token_endpoint is not None:
            return "client_secret_basic"  # the one that every provider has to take
        offered = (await self._discovery.get()).get("token_endpoint_auth_methods_supported")
        in_the_body = isinstance(offered, list) and "client_secret_post" in offered
        return "client_secret_post" if in_the_body else "client_secret_basic"

    async def _fetch_discovery(self) -> dict[str, Any]:
        url = get_well_known_url(self._provider.issuer, external=True)
        document = await self._line.fetch(url, "its discovery document")
        if document.get("issuer") != self._provider.issuer:
            raise self._line.unavailable("its discovery document names another issuer than the settings")
        return document

    async def _fetch_keys(self) -> PublishedKeys:
        document = await self._line.fetch(await self.endpoint("jwks_uri"), "its keys")
        try:
            published = published_keys(document)
        except ValueError:
            raise self._line.unavailable("its keys cannot be read") from None
        if not published.keys:
            raise self._line.unavailable("it publishes no key that can be used")
        return published
