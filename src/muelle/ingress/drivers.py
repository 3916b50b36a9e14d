"""What may stand at the door: the built-in proxy, or Caddy with the built-in proxy behind it for what is not open."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from muelle.ingress.proxy import Proxy
from muelle.ingress.table import Changes


class Driver(Protocol):
    name: str
    port: int
    """Where it listens, or shall."""

    async def start(self) -> None:
        """Answers requests from now on. Raises what kept it from that."""
        ...

    async def stop(self) -> None: ...

    def changed(self, changes: Changes) -> None:
        """Names lead elsewhere; returns at once. For `Verbs.listen`."""
        ...

    def in_flight(self, address: str) -> int | None:
        """Requests under way at an address; None where that cannot be told, and a drain has to go by time."""
        ...


class BuiltIn:
    """The built-in proxy, on a port. It looks into the living table, so that there is nothing to be told to it."""

    name = "the built-in proxy"

    def __init__(self, proxy: Proxy, host: str | Sequence[str], port: int) -> None:
        self.proxy = proxy
        self.port = port
        self._host = host

    async def start(self) -> None:
        self.port = await self.proxy.start(self._host, self.port)

    async def stop(self) -> None:
        await self.proxy.stop()

    def changed(self, changes: Changes) -> None: ...

    def in_flight(self, address: str) -> int | None:
        return self.proxy.in_flight(address)
