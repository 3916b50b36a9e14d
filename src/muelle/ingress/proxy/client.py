"""A client's connection: heads in, one exchange at a time, and what has to be true of it whatever the client does.

Requests that come before their turn (pipelining) wait in a buffer that is bounded: when it is full, nothing more is
read. So does a body, as long as its workload takes none of it.

There is one deadline for each connection, in ticks of the proxy. What it means depends on what is waited for; no
request costs a timer of its own.
"""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, cast

from muelle.ingress.pages import Reason
from muelle.ingress.proxy import own
from muelle.ingress.proxy.bodies import BadBody
from muelle.ingress.proxy.exchange import HEAD_END, At, Exchange
from muelle.ingress.proxy.heads import BadHead, Request, read_request
from muelle.ingress.proxy.own import Form

if TYPE_CHECKING:
    from muelle.ingress.proxy.server import Proxy

NEVER = 1 << 62
CLOSE = b"Connection: close\r\n"
STAY = b"Connection: keep-alive\r\n"
LINE_END = b"\r\n"
MOST_DISCARDED = 1 << 20
"""Of a body that nobody wants, before its client is cut off."""


class Client(asyncio.Protocol):
    __slots__ = (
        *(
            "_advancing",
            "_begun",
            "_buffer",
            "_discarded",
            "_full",
            "_held",
            "_lingering",
            "_paused",
            "deadline",
            "exchange",
        ),
        *("idle_since", "peer", "proxy", "transport", "trusted"),
    )

    def __init__(self, proxy: Proxy) -> None:
        self.proxy = proxy
        self.exchange: Exchange | None = None
        self.deadline = NEVER
        self.idle_since = proxy.tick
        self.peer = b"unknown"
        self.trusted = False
        self._buffer = b""
        self._advancing = False
        self._begun = True
        """Whether a head is expected already; between two requests there may be a pause."""
        self._held = False
        """Whether the workload takes nothing at the moment."""
        self._full = False
        """Whether as much waits here as may."""
        self._paused = False
        """Whether the client takes nothing at the moment."""
        self._lingering = False
        self._discarded = 0

    # What the network says

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(self.proxy.limits.buffer_bytes)
        self.proxy.admit(self)

    def data_received(self, data: bytes) -> None:
        exchange = self.exchange
        if exchange is not None and exchange.at is At.TUNNEL:
            exchange.pass_back(data)
        elif self._lingering:
            self._discard(data)
        else:
            self._buffer = self._buffer + data if self._buffer else data
            if exchange is None:
                self._advance()
            else:
                self._pump(exchange)

    def eof_received(self) -> bool:
        """A client that sends nothing more has gone, as far as can be told: what runs for it need not run on."""
        return self.exchange is not None and self.exchange.client_ended()

    def connection_lost(self, problem: Exception | None) -> None:
        self.proxy.dismiss(self)
        exchange, self.exchange = self.exchange, None
        if exchange is not None:
            if exchange.at is not At.TUNNEL:
                self.proxy.counters.abandoned += 1
            exchange.abandon()

    def pause_writing(self) -> None:
        self._paused = True
        self._await(self.proxy.ticks.stalled)
        if self.exchange is not None and self.exchange.upstream is not None:
            self.exchange.upstream.hold_reading(True)

    def resume_writing(self) -> None:
        self._paused = False
        self._set_deadline()
        if self.exchange is not None:
            if self.exchange.upstream is not None:
                self.exchange.upstream.hold_reading(False)
        else:
            self._advance()

    # What exchanges say

    def write(self, data: bytes) -> None:
        if not self.transport.is_closing():
            self.transport.write(data)

    def attached(self) -> None:
        """The request has been sent; its body follows."""
        exchange = self.exchange
        if exchange is not None:
            self._pump(exchange)
            self._set_deadline()

    def hold_reading(self, hold: bool) -> None:
        """Takes nothing more while the workload does not take it."""
        self._held = hold
        self._settle_reading()
        self._set_deadline()

    def answer_begins(self, status: int) -> None:
        self.proxy.counters.answers[status // 100] += 1
        self._set_deadline()

    def connection_header(self, request: Request) -> bytes:
        """What the answer has to say of the connection; nothing, where it is as the client expects."""
        if not request.keep_alive:
            return CLOSE
        return b"" if request.minor else STAY

    def tunnel_begins(self, data: bytes) -> None:
        counters = self.proxy.counters
        counters.answers[1] += 1
        counters.tunnels += 1
        self.deadline = NEVER
        self.write(data)
        waiting, self._buffer = self._buffer, b""
        self._full = False
        self._settle_reading()
        if waiting and self.exchange is not None:
            self.exchange.pass_back(waiting)

    def write_end(self) -> None:
        """The workload sends nothing more into a tunnel; the client may, but not for ever."""
        self._await(self.proxy.ticks.stalled)
        if not self.transport.is_closing():
            self.transport.write_eof()

    def finished(self, exchange: Exchange) -> None:
        """The answer is complete."""
        self.exchange = None
        self._next(exchange.request.keep_alive, body_done=exchange.body.done)

    def show(self, exchange: Exchange, reason: Reason, why: str) -> None:
        """Answers with a page of our own."""
        self.exchange = None
        self._show(exchange.request, reason, why, body_done=exchange.body.done)

    def hang_up(self) -> None:
        """Closes when everything is sent."""
        self.exchange = None
        self._await(self.proxy.ticks.stalled)
        self.transport.close()

    def cut(self) -> None:
        """Closes at once, so that the client sees that something is missing."""
        self.exchange = None
        self.transport.abort()

    # What time says

    def expire(self) -> None:
        """The deadline is over."""
        exchange = self.exchange
        if self._paused or self._lingering or self.transport.is_closing():
            self.cut_off(exchange)
        elif exchange is None:
            if self._buffer:
                self._refuse(408, "The request did not come to its end in time.")
            else:
                self.transport.close()
        elif exchange.at is not At.HEAD:
            self.cut_off(exchange)
        elif exchange.body.done or self._held:
            exchange.give_up(Reason.SILENT)
        else:
            exchange.abandon()
            self.exchange = None
            self._refuse(408, "The body of the request did not come to its end in time.")

    def cut_off(self, exchange: Exchange | None) -> None:
        if exchange is not None:
            exchange.abandon()
        self.cut()

    @property
    def is_idle(self) -> bool:
        return self.exchange is None and not self._buffer

    def _await(self, ticks: int) -> None:
        self.deadline = self.proxy.tick + ticks

    def _set_deadline(self) -> None:
        """By what is waited for now."""
        ticks, exchange = self.proxy.ticks, self.exchange
        if self._paused:
            return
        if exchange is None:
            self._await(ticks.idle)
        elif exchange.at is At.HEAD:
            self._await(ticks.answer if exchange.body.done or self._held else ticks.body)
        elif exchange.at is At.BODY and not exchange.body.done and not self._held:
            self._await(ticks.body)
        else:
            self.deadline = NEVER

    # One request after the other

    def _advance(self) -> None:
        """Begins the next request, and the next where that one is answered at once."""
        if self._advancing:
            return
        self._advancing = True
        try:
            while self.exchange is None and self._buffer and not (self._paused or self._lingering):
                if self.transport.is_closing() or not self._begin_next():
                    break
        finally:
            self._advancing = False
        self._settle_full()

    def _begin_next(self) -> bool:
        """Begins the request at the start of the buffer, if its head is there."""
        data, limits = self._buffer, self.proxy.limits
        if data.startswith(LINE_END):  # some old clients send one too many
            data = self._buffer = data[2:]
        end = data.find(HEAD_END) + len(HEAD_END)
        if end < len(HEAD_END) or end > limits.head_bytes:
            self._wait_for_head(data)
            return False
        try:
            request = read_request(data[:end], limits, trusted=self.trusted)
        except BadHead as bad:
            self._refuse(bad.status, bad.why)
            return False
        self._buffer = data[end:]
        self._begin(request)
        return True

    def _wait_for_head(self, data: bytes) -> None:
        most = self.proxy.limits.head_bytes
        if len(data) > most:
            self._refuse(431, f"The head of the request is longer than {most} bytes.")
        elif data and (data[0] in NO_METHOD or HOPELESS.search(data, 0, LOOKED_AT)):
            self._refuse(400, "This is no HTTP.")
        elif not self._begun:
            self._begun = True
            self._await(self.proxy.ticks.head)

    def _begin(self, request: Request) -> None:
        self.proxy.counters.requests += 1
        exchange = self.exchange = Exchange(self, request)
        self.proxy.find_way(exchange)
        if self.exchange is exchange and exchange.upstream is None:
            self._set_deadline()

    def _pump(self, exchange: Exchange) -> None:
        """Passes on what there is of the request's body."""
        if exchange.upstream is not None and self._buffer and not exchange.body.done:
            try:
                piece, self._buffer = exchange.body.take(self._buffer)
            except BadBody as bad:
                self._refuse_body(exchange, str(bad))
                return
            if piece:
                exchange.send_body(piece)
            self._set_deadline()
        self._settle_full()

    def _refuse_body(self, exchange: Exchange, why: str) -> None:
        answered = exchange.at is not At.HEAD
        exchange.abandon()
        self.exchange = None
        if answered:
            self.transport.abort()
        else:
            self._refuse(400, f"The body of the request cannot be read: {why}.")

    def _settle_full(self) -> None:
        self._full = len(self._buffer) > self.proxy.limits.buffer_bytes
        self._settle_reading()

    def _settle_reading(self) -> None:
        if self.transport.is_closing():
            return
        wanted = not (self._held or self._full)
        if wanted != self.transport.is_reading():
            (self.transport.resume_reading if wanted else self.transport.pause_reading)()

    # Ends

    def _next(self, keep_alive: bool, *, body_done: bool) -> None:
        """What comes after an answer."""
        self._held = False
        if not keep_alive or self.proxy.stopping:
            self._close(body_done)
            return
        self._begun = False
        self.idle_since = self.proxy.tick
        self._settle_reading()
        self._set_deadline()
        if self._buffer:
            self._advance()

    def _show(self, request: Request, reason: Reason, why: str, *, body_done: bool) -> None:
        counters = self.proxy.counters
        counters.pages[reason] += 1
        keep = request.keep_alive and body_done
        form = Form(
            host=request.host,
            accept=request.accept,
            accept_language=request.accept_language,
            bodiless=request.method == b"HEAD",
            connection=self.connection_header(request) if keep else CLOSE,
        )
        status, data = own.answer(reason, why, form)
        counters.answers[status // 100] += 1
        self.write(data)
        self._next(keep, body_done=body_done)

    def _refuse(self, status: int, why: str) -> None:
        """Says what is wrong with it, and ends: nobody knows where the next request would begin."""
        counters = self.proxy.counters
        counters.refused += 1
        counters.answers[status // 100] += 1
        self._buffer = b""
        self.write(own.refusal(status, why))
        self._close(body_done=False)

    def _close(self, body_done: bool) -> None:
        """Closes when everything is sent. A client that is still sending is listened to for a moment: otherwise it
        would be told of a broken connection, and not what the answer says."""
        if self.transport.is_closing():
            return
        if body_done and not self._buffer:
            self._await(self.proxy.ticks.linger)
            self.transport.close()
            return
        self._lingering = True
        self._buffer = b""
        self._full = False
        self._settle_reading()
        self._await(self.proxy.ticks.linger)
        self.transport.write_eof()

    def _discard(self, data: bytes) -> None:
        self._discarded += len(data)
        if self._discarded > MOST_DISCARDED:
            self.transport.abort()


NO_METHOD = (frozenset(range(0x21)) | {0x7F}) - {0x0D}
"""Bytes with which no request begins: TLS begins with one of them."""

HOPELESS = re.compile(rb"\0|\n\n|\r[^\n]")
"""Nothing that comes later makes a request of this."""
LOOKED_AT = 1024
"""How far: a head that comes byte by byte is looked at for each of them."""
