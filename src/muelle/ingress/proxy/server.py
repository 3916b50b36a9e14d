"""The built-in proxy: listens, finds the way to a workload for each request, and watches the time.

Where a name leads is looked up for each request, so that a change is in effect for the next one; requests that are
under way go on where they are. A workload that refuses connections is tried again for a moment, each time after a look
into the table: between two releases, and right after a start, that is the difference between a pause and an error.

While a workload *starts* its requests wait, too, for a few seconds: most starts are over by then, and whoever is in the
middle of something should not have to know of it. They wait without being read any further, in a bounded number, and
then get the page, which tries again by itself: a browser that shows nothing for long looks broken.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress

import structlog

from muelle.events import Route
from muelle.ingress.pages import Reason
from muelle.ingress.proxy import own
from muelle.ingress.proxy.client import NEVER, Client
from muelle.ingress.proxy.counters import Counters
from muelle.ingress.proxy.exchange import Exchange
from muelle.ingress.proxy.limits import Limits, connections_possible
from muelle.ingress.proxy.upstream import Pool, Upstream
from muelle.ingress.table import Entry, Table
from muelle.kit.clock import Clock
from muelle.kit.errors import Conflict
from muelle.kit.ids import new_id

BACKLOG = 2048
GRACE_SECONDS = 2.0
"""How long requests under way have to end, once the proxy is told to stop."""
LOOKS_AGAIN_SECONDS = 0.1
"""While a connection does not come about, whether it still should."""
CROWDED = 0.9
"""When this part of all connections is taken, those that nobody uses are not kept as long."""

NOT_OPEN: Mapping[Route, Reason] = {
    Route.STARTING: Reason.STARTING,
    Route.STOPPED: Reason.STOPPED,
    Route.FAILED: Reason.FAILED,
    Route.GONE: Reason.UNKNOWN,
}

HOPEFUL = (Route.OPEN, Route.STARTING)

KEEPALIVE = ((socket.SO_KEEPALIVE, socket.SOL_SOCKET, 1), (socket.TCP_KEEPIDLE, socket.IPPROTO_TCP, 60))
"""On listeners, of which connections inherit it: a WebSocket has no time-out, but its client may have vanished."""

_log = structlog.get_logger("muelle.ingress")


class IngressPortTaken(Conflict):
    """The ingress cannot listen on {host}:{port}: {reason}."""

    hint = "Stop what listens there, or give the ingress another port."


class Proxy:
    """`start` and `stop` it on a running loop; the table may change at any time, also before.

    Time-outs go by the clock that is handed in. How long it tries to reach somebody is the network's time, and real.
    """

    def __init__(
        self, table: Table, clock: Clock, *, trusted_proxies: Sequence[str] = (), limits: Limits | None = None
    ) -> None:
        self.limits = limits or Limits()
        self.ticks = self.limits.in_ticks
        self.counters = Counters()
        self.tick = 0
        self.stopping = False
        self._table = table
        self._clock = clock
        self._trusted = [ipaddress.ip_network(network, strict=False) for network in trusted_proxies]
        self._clients: set[Client] = set()
        self._empty = asyncio.Event()
        self._pools: dict[tuple[str, str], Pool] = {}
        self._waiting: Counter[str] = Counter()
        self._most_clients = connections_possible(self.limits.connections)
        self._request_prefix = b""
        self._request_count = 0
        self._server: asyncio.Server | None = None
        self._watch: asyncio.Task[None] | None = None

    async def start(self, host: str | Sequence[str], port: int) -> int:
        """Listens; tells the port, for who asked for any (0). Raises IngressPortTaken."""
        loop = asyncio.get_running_loop()
        self._request_prefix = new_id().encode()
        try:
            server = await loop.create_server(lambda: Client(self), host, port, backlog=BACKLOG)
        except (OSError, UnicodeError) as error:
            shown = host if isinstance(host, str) else ", ".join(host)
            raise IngressPortTaken(
                host=shown, port=port, reason=getattr(error, "strerror", "") or str(error)
            ) from error
        for listener in server.sockets:
            for option, level, value in KEEPALIVE:
                listener.setsockopt(level, option, value)
        self._server = server
        self.stopping = False
        self._watch = asyncio.create_task(self._watch_time(), name="ingress watch")
        found: int = server.sockets[0].getsockname()[1]
        return found

    async def stop(self, grace_seconds: float = GRACE_SECONDS) -> None:
        """Takes no more connections, lets what is under way end for a moment, and closes everything."""
        self.stopping = True
        if self._server is not None:
            self._server.close()
        for client in [client for client in self._clients if client.is_idle]:
            client.hang_up()
        self._empty.clear()
        if self._clients:
            with suppress(TimeoutError):
                async with asyncio.timeout(grace_seconds):
                    await self._empty.wait()
        for client in list(self._clients):
            client.cut_off(client.exchange)
        for pool in self._pools.values():
            pool.close_idle(NEVER)
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)
        self._server = self._watch = None

    def in_flight(self, address: str) -> int:
        """Requests under way at an address: when there are none, and the table leads elsewhere, it is drained."""
        return sum(pool.busy for (_, at), pool in self._pools.items() if at == address)

    def under_way(self) -> dict[str, int]:
        """Requests and tunnels at the moment, by workload."""
        found: dict[str, int] = {}
        for (workload, _), pool in self._pools.items():
            if pool.busy:
                found[workload] = found.get(workload, 0) + pool.busy
        return found

    # What clients ask

    def admit(self, client: Client) -> None:
        """Takes a new connection in, where there is room."""
        self._clients.add(client)
        self.counters.connections = len(self._clients)
        if len(self._clients) > self._most_clients or self.stopping:
            self.counters.turned_away += 1
            client.write(own.refusal(503, "There are too many connections. Try again in a moment."))
            client.hang_up()
            return
        peer = client.transport.get_extra_info("peername")
        if peer:
            client.peer = str(peer[0]).encode()
            client.trusted = bool(self._trusted) and self._is_trusted(str(peer[0]))
        client.deadline = self.tick + self.ticks.head

    def dismiss(self, client: Client) -> None:
        self._clients.discard(client)
        if not self._clients:
            self._empty.set()
        self.counters.connections = len(self._clients)

    def next_request_id(self) -> bytes:
        self._request_count += 1
        return b"%b-%x" % (self._request_prefix, self._request_count)

    def find_way(self, exchange: Exchange, *, fresh: bool = False) -> None:
        """Connects a request with its workload: at once, over a kept connection, if there is one."""
        exchange.leave()
        entry = self._table.lookup(exchange.request.host)
        if entry is not None and entry.route is Route.OPEN:
            pool = self._pool(entry)
            if pool.busy >= self.limits.under_way:
                exchange.give_up(Reason.BUSY)
                return
            upstream = None if fresh else pool.take(self.tick, repeatable=exchange.request.idempotent)
            exchange.enter(pool)
            if upstream is not None:
                exchange.attach(upstream)
                return
        elif entry is None or entry.route is not Route.STARTING:
            self._say_no(exchange, entry)
            return
        elif self._waiting.get(entry.workload_id, 0) >= self.limits.waiting:
            exchange.give_up(Reason.STARTING, entry.why)
            return
        exchange.task = asyncio.get_running_loop().create_task(self._wait_for_way(exchange, entry.workload_id))

    def leads_elsewhere(self, host: str, pool: Pool) -> bool:
        """Whether a request to that name would not go there any more."""
        entry = self._table.lookup(host)
        return entry is not None and self._pools.get((entry.workload_id, entry.address)) is not pool

    # The slow way

    async def _wait_for_way(self, exchange: Exchange, workload_id: str) -> None:
        self._waiting[workload_id] += 1
        try:
            await self._try_ways(exchange)
        except asyncio.CancelledError:
            raise
        except Exception:  # whatever it is: the client gets an answer
            _log.exception("no way to a workload")
            exchange.task = None
            exchange.give_up(Reason.UNREACHABLE)
        finally:
            self._waiting[workload_id] -= 1
            if not self._waiting[workload_id]:
                del self._waiting[workload_id]

    async def _try_ways(self, exchange: Exchange) -> None:
        """Until somebody is there, or there is no hope. Where the name leads elsewhere meanwhile, hope begins anew."""
        loop = asyncio.get_running_loop()
        last: Entry | None = None
        while True:
            entry = self._table.lookup(exchange.request.host)
            if entry is None or entry.route not in HOPEFUL:
                exchange.task = None
                self._say_no(exchange, entry)
                return
            if last is None or (entry.route, entry.address) != (last.route, last.address):
                last, until = entry, loop.time() + self._patience(entry)
            is_open = entry.route is Route.OPEN
            if is_open and await self._connect(exchange, self._pool(entry)):
                return
            if loop.time() >= until and self._table.lookup(entry.host) == entry:
                exchange.task = None
                exchange.give_up(Reason.UNREACHABLE if is_open else Reason.STARTING, entry.why)
                return
            await asyncio.sleep(self.limits.pause_seconds)

    def _patience(self, entry: Entry) -> float:
        return self.limits.patience_seconds if entry.route is Route.OPEN else self.limits.starting_seconds

    async def _connect(self, exchange: Exchange, pool: Pool) -> bool:
        """Tries it, as long as the name leads there."""
        exchange.enter(pool)
        connecting = asyncio.ensure_future(pool.connect())
        upstream: Upstream | None = None
        try:
            while not (await asyncio.wait([connecting], timeout=LOOKS_AGAIN_SECONDS))[0]:
                if self.leads_elsewhere(exchange.request.host, pool):
                    return False
            upstream = connecting.result()
        except OSError:  # a time-out is one, too
            return False
        finally:
            if upstream is None:
                connecting.cancel()
                connecting.add_done_callback(_let_go)
        exchange.task = None
        exchange.attach(upstream)
        return True

    def _say_no(self, exchange: Exchange, entry: Entry | None) -> None:
        if entry is None:
            exchange.give_up(Reason.UNKNOWN)
        else:
            exchange.give_up(NOT_OPEN[entry.route], entry.why)

    def _pool(self, entry: Entry) -> Pool:
        key = entry.workload_id, entry.address
        pool = self._pools.get(key)
        if pool is None:
            pool = self._pools[key] = Pool(entry.address, self.limits)
        return pool

    def _is_trusted(self, address: str) -> bool:
        found = ipaddress.ip_address(address.partition("%")[0])
        mapped = getattr(found, "ipv4_mapped", None) or found
        return any(mapped in network for network in self._trusted)

    # Time

    async def _watch_time(self) -> None:
        """Each tick: ends what has taken too long, and lets go of what nobody uses."""
        while True:
            await self._clock.sleep(self.limits.tick_seconds)
            self.tick += 1
            try:
                self._expire_clients()
                self._tidy_pools()
            except Exception:  # one connection's mishap must not stop the clock for all others
                _log.exception("the ingress stumbled")

    def _expire_clients(self) -> None:
        crowded = len(self._clients) > self._most_clients * CROWDED
        for client in list(self._clients):
            if client.deadline <= self.tick:
                client.expire()
            elif crowded and client.is_idle and self.tick - client.idle_since >= self.ticks.crowded:
                client.hang_up()

    def _tidy_pools(self) -> None:
        before = self.tick - self.ticks.idle_upstream
        for key, pool in list(self._pools.items()):
            pool.close_idle(before)
            if not pool.busy and not pool.idle:
                del self._pools[key]


def _let_go(connecting: asyncio.Future[Upstream]) -> None:
    """Of a connection that comes about when nobody waits for it any more."""
    if not connecting.cancelled() and connecting.exception() is None:
        connecting.result().close()
