"""The one way to make an HTTP request to somebody else: bounded in time, and never inside a transaction."""

from __future__ import annotations

import httpx

from muelle.kit.db import refuse_inside_transaction

SECONDS = 10.0


class _Guarded(httpx.AsyncBaseTransport):
    def __init__(self, transport: httpx.AsyncBaseTransport) -> None:
        self._transport = transport

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        refuse_inside_transaction(f"HTTP to {request.url.host}")
        return await self._transport.handle_async_request(request)

    async def aclose(self) -> None:
        await self._transport.aclose()


def outgoing(transport: httpx.AsyncBaseTransport | None = None) -> httpx.AsyncClient:
    """A client for requests that leave the process; tests hand in a transport that stays inside."""
    return httpx.AsyncClient(transport=_Guarded(transport or httpx.AsyncHTTPTransport(retries=1)), timeout=SECONDS)
