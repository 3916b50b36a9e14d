"""Connections to workloads, and those that are kept for the next request.

A pool belongs to a workload at an address, never to the address alone: where a port is given to another tenant's
program, no connection that was kept can lead to the wrong one.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

from muelle.ingress.proxy.limits import Limits

if TYPE_CHECKING:
    from muelle.ingress.proxy.exchange import Exchange

FRESH_TICKS = 1
"""A request that must not be sent twice goes over a kept connection only if it was in use a moment ago: no server gives
one up so soon, so that it is not lost in the gap between the server's closing it and our hearing of it."""


class Upstream(asyncio.Protocol):
    """One connection. It serves one exchange at a time, and lies in its pool between two."""

    __slots__ = ("exchange", "held", "idle_since", "pool", "transport", "used")

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.transport = cast(asyncio.Transport, None)
        self.exchange: Exchange | None = None
        self.used = False
        """Whether it has served a request before."""
        self.idle_since = 0
        self.held = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but name
        self.transport.set_write_buffer_limits(self.pool.limits.buffer_bytes)

    def data_received(self, data: bytes) -> None:
        if self.exchange is None:
            self.close()  # nobody asked: whatever it is, the next answer would be taken for it
        else:
            self.exchange.answered(data)

    def eof_received(self) -> bool:
        """Goes on listening to the client, where a tunnel is closed on this side only."""
        return self.exchange is not None and self.exchange.upstream_ended()

    def connection_lost(self, problem: Exception | None) -> None:
        self.pool.forget(self)
        if self.exchange is not None:
            self.exchange.upstream_lost(clean=problem is None)

    def pause_writing(self) -> None:
        if self.exchange is not None:
            self.exchange.client.hold_reading(True)

    def resume_writing(self) -> None:
        if self.exchange is not None:
            self.exchange.client.hold_reading(False)

    def hold_reading(self, hold: bool) -> None:
        """Takes nothing more while the client does not take it."""
        if hold != self.held and not self.transport.is_closing():
            self.held = hold
            (self.transport.pause_reading if hold else self.transport.resume_reading)()

    def close(self, *, gently: bool = False) -> None:
        """Lets go of it for good: gently when what is still to be sent has been, at once otherwise."""
        self.exchange = None
        self.pool.forget(self)
        (self.transport.close if gently else self.transport.abort)()


class Pool:
    """Connections to a workload at an address."""

    def __init__(self, address: str, limits: Limits) -> None:
        host, _, port = address.rpartition(":")
        self.limits = limits
        self.busy = 0
        """Requests under way, those that still wait for a connection too."""
        self.idle: list[Upstream] = []
        """The one that was used last is the last one, and the next one to be used."""
        self._host = host.strip("[]")
        self._port = int(port) if port.isdecimal() else 0

    def take(self, tick: int, *, repeatable: bool) -> Upstream | None:
        """A kept connection that is good for this request, if there is one."""
        idle = self.idle
        while idle:
            if not repeatable and tick - idle[-1].idle_since > FRESH_TICKS:
                return None
            found = idle.pop()
            if not found.transport.is_closing():
                return found
        return None

    def keep(self, upstream: Upstream, tick: int) -> None:
        if len(self.idle) >= self.limits.idle_connections or upstream.transport.get_write_buffer_size():
            upstream.close()
            return
        upstream.exchange = None
        upstream.used = True
        upstream.idle_since = tick
        upstream.hold_reading(False)  # so that its end is heard
        self.idle.append(upstream)

    async def connect(self) -> Upstream:
        """Raises OSError, TimeoutError among others."""
        loop = asyncio.get_running_loop()
        upstream = Upstream(self)
        try:
            async with asyncio.timeout(self.limits.connect_seconds):
                await loop.create_connection(lambda: upstream, self._host, self._port)
        except BaseException:
            if upstream.transport is not None:  # it came about, but nobody waits for it any more
                upstream.close()
            raise
        return upstream

    def forget(self, upstream: Upstream) -> None:
        if upstream in self.idle:
            self.idle.remove(upstream)

    def close_idle(self, before: int) -> None:
        """Closes what has not been used since that tick."""
        for upstream in [each for each in self.idle if each.idle_since < before]:
            upstream.close()
