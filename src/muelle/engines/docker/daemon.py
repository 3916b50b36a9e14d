"""Talking to the Docker daemon: each call has a time limit, and each way not to answer is `EngineUnavailable`.

A connection is opened for each call and closed with it, so that a daemon that was killed and started again is simply
asked again. Connections are not counted: a followed log holds one for as long as its container runs, and a bound over
all of them would let readers of logs keep everybody else from being answered.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import aiodocker
import aiohttp

from muelle.engines.protocol import EngineFailed, EngineUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator

NAME = "docker"
ANSWER_SECONDS = 30.0
"""For what the daemon answers from what it knows, or by starting or removing a container on a loaded machine."""
CONNECT_SECONDS = 5.0
IDLE_SECONDS = 20.0
"""After so long without a byte on a stream, the daemon is asked whether it is still there."""


class Refused(EngineFailed):
    """The engine {engine} could not {what}: {reason}."""

    def __init__(self, *, what: str, status: int, reason: str) -> None:
        super().__init__(engine=NAME, what=what, reason=reason)
        self.status = status
        self.reason = reason


Refused.code = EngineFailed.code  # who calls knows the engine's errors; this one is among ourselves


class Daemon:
    def __init__(self, address: str, answer_seconds: float = ANSWER_SECONDS) -> None:
        self.address = address
        self._answer_seconds = answer_seconds
        self._client: aiodocker.Docker | None = None
        self._answered_at = float("-inf")

    @property
    def socket(self) -> str:
        """The path of the daemon's socket on this machine; nothing where it is reached otherwise."""
        return self.address.removeprefix("unix://") if self.address.startswith("unix://") else ""

    def client(self) -> aiodocker.Docker:
        """Made at the first call: it belongs to the running event loop."""
        if self._client is None:
            place = "unix://docker" if self.socket else self.address  # the connector knows the socket
            self._client = aiodocker.Docker(url=place, connector=self._connector())
        return self._client

    def _connector(self) -> aiohttp.BaseConnector:
        if self.socket:
            return aiohttp.UnixConnector(self.socket, force_close=True, limit=0)
        return aiohttp.TCPConnector(force_close=True, limit=0)

    async def close(self) -> None:
        if self._client is not None:
            client, self._client = self._client, None
            await client.close()
            await client.connector.close()

    async def ask(
        self,
        what: str,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        body: Any = None,
        seconds: float | None = None,
    ) -> Any:
        """One call and its answer. `what` completes "could not …". Raises Refused, EngineUnavailable."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        with self.reachable():
            async with asyncio.timeout(seconds or self._answer_seconds):
                async with self._request(method, path, params, data, headers) as response:
                    answer = await response.read()
                    self._heard()
                    return _agreed(what, response, answer)

    @asynccontextmanager
    async def stream(
        self,
        what: str,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        data: Any = None,
        headers: Mapping[str, str] | None = None,
        seconds: float | None = None,
    ) -> AsyncIterator[Flow]:
        """A call whose answer goes on; it must begin within `seconds`. Leaving the block closes the connection."""
        with self.reachable():
            async with asyncio.timeout(seconds or self._answer_seconds):
                response = await self._request(method, path, params, data, headers or {})
        try:
            if response.status >= 400:
                _agreed(what, response, await self._rest(response))
            self._heard()
            yield Flow(self, response)
        finally:
            response.close()

    async def _rest(self, response: aiohttp.ClientResponse) -> bytes:
        with self.reachable():
            async with asyncio.timeout(self._answer_seconds):
                return await response.read()

    def _request(
        self, method: str, path: str, params: Mapping[str, Any] | None, data: Any, headers: Mapping[str, str]
    ) -> Any:
        client = self.client()
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS)
        given = {name: _text(value) for name, value in (params or {}).items()}
        url = f"{client.docker_host}/{path}"
        return client.session.request(method, url, params=given, data=data, headers=headers, timeout=timeout)

    @contextmanager
    def reachable(self) -> Iterator[None]:
        """Says of all that can go wrong on the way that the engine does not answer."""
        try:
            yield
        except TimeoutError:
            raise EngineUnavailable(engine=NAME, reason=f"no answer from {self.address} in time") from None
        except (aiohttp.ClientError, OSError, EOFError) as error:
            reason = str(error) or type(error).__name__
            raise EngineUnavailable(engine=NAME, reason=f"{self.address}: {reason}") from error

    async def alive(self) -> None:
        """Raises EngineUnavailable unless it answers, or somebody was answered a moment ago."""
        if time.monotonic() - self._answered_at > IDLE_SECONDS / 2:
            await self.ask("answer", "GET", "_ping")

    def _heard(self) -> None:
        self._answered_at = time.monotonic()


class Flow:
    """The bytes of an answer that goes on. No more than a few chunks are held: who reads slowly slows the daemon."""

    def __init__(self, daemon: Daemon, response: aiohttp.ClientResponse) -> None:
        self._daemon = daemon
        self._content = response.content

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while chunk := await self._next():
            yield chunk

    async def _next(self) -> bytes:
        while True:
            try:
                async with asyncio.timeout(IDLE_SECONDS):
                    return await self._read()
            except TimeoutError:
                await self._daemon.alive()

    async def _read(self) -> bytes:
        try:
            return await self._content.readany()
        except (aiohttp.ClientError, OSError, EOFError):
            with self._daemon.reachable():
                raise


def within(name: str) -> str:
    """A name as a part of a path."""
    return quote(name, safe="")


def _agreed(what: str, response: aiohttp.ClientResponse, answer: bytes) -> Any:
    if response.status >= 400:
        raise Refused(what=what, status=response.status, reason=_reason(answer))
    if response.content_type == "application/json" and answer:
        return json.loads(answer)
    return answer.decode(errors="replace")


def _reason(answer: bytes) -> str:
    try:
        return str(json.loads(answer)["message"]).strip()
    except (ValueError, KeyError, TypeError):
        return answer.decode(errors="replace").strip()[:500]


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "1" if value else "0"
    return value if isinstance(value, str) else json.dumps(value)
