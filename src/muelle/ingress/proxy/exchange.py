"""One request and its answer: between a client and a workload, piece by piece, with nothing kept but what must be.

Most requests find a kept connection and never see a task: what arrives on one side is written to the other from the
callback that brings it. Each side is read no faster than the other one takes it.

A request is sent again in one case only: its connection ended before a byte of the answer, and either it was a kept
one (its server closed it, as servers do) or the table leads elsewhere by now (what was there is gone); and then only
if a second time does no harm, or the workload cannot have had all of it the first time.
"""

from __future__ import annotations

import asyncio
from enum import Enum
from typing import TYPE_CHECKING

from muelle.ingress.pages import Reason
from muelle.ingress.proxy.bodies import BadBody, Body, UntilClose, follow
from muelle.ingress.proxy.heads import (
    FIRST_FINAL,
    Answer,
    BadAnswer,
    Framing,
    Request,
    read_answer,
    write_answer,
    write_request,
)
from muelle.ingress.proxy.upstream import Pool, Upstream

if TYPE_CHECKING:
    from muelle.ingress.proxy.client import Client

HEAD_END = b"\r\n\r\n"
SWITCHING = 101
MOST_INTERIM = 16
"""Answers such as `103 Early Hints` before the one that counts."""
MOST_ATTEMPTS = 3


class At(Enum):
    HEAD = "head"
    BODY = "body"
    TUNNEL = "tunnel"
    OVER = "over"


class Exchange:
    __slots__ = (
        *("answer", "answer_body", "at", "attempts", "body", "client", "ends", "head", "interim", "partial", "pool"),
        *("replay", "replay_bytes", "request", "sent_body", "task", "upstream"),
    )

    def __init__(self, client: Client, request: Request) -> None:
        self.client = client
        self.request = request
        self.body: Body = follow(request.framing, request.length)
        self.head = write_request(request, client.peer, client.proxy.next_request_id())
        self.pool: Pool | None = None
        self.upstream: Upstream | None = None
        self.task: asyncio.Task[None] | None = None
        self.at = At.HEAD
        self.answer: Answer | None = None
        self.answer_body: Body | None = None
        self.partial = b""
        self.interim = 0
        self.attempts = 0
        self.replay: list[bytes] | None = []
        """What of the body was sent, while it is little enough to be sent again."""
        self.replay_bytes = 0
        self.sent_body = False
        self.ends = 0
        """How many sides of a tunnel are closed."""

    # The way there

    def enter(self, pool: Pool) -> None:
        """Counts as under way at that address from now on, also while it waits for a connection."""
        self.leave()
        pool.busy += 1
        self.pool = pool

    def leave(self) -> None:
        if self.pool is not None:
            self.pool.busy -= 1
            self.pool = None

    def attach(self, upstream: Upstream) -> None:
        """Sends the request, and what there is of its body."""
        self.attempts += 1
        self.upstream = upstream
        upstream.exchange = self
        self.client.hold_reading(False)
        upstream.transport.write(self.head)
        for piece in self.replay or ():
            upstream.transport.write(piece)
        self.client.attached()

    def send_body(self, piece: bytes) -> None:
        assert self.upstream is not None  # noqa: S101 - for the type checker
        self.sent_body = True
        if self.replay is not None:
            self.replay.append(piece)
            self.replay_bytes += len(piece)
            if self.replay_bytes > self.client.proxy.limits.replay_bytes:
                self.replay = None
        if not self.upstream.transport.is_closing():
            self.upstream.transport.write(piece)

    def upstream_lost(self, *, clean: bool) -> None:
        """The workload, or what is between, has closed the connection."""
        lost, self.upstream = self.upstream, None
        if self.at is At.TUNNEL:
            self._end()
            self.client.hang_up()
        elif self.at is At.BODY and clean and isinstance(self.answer_body, UntilClose):
            self._finish(None, b"")
        elif self.at is At.BODY:
            self._break_off()
        elif self.at is At.HEAD:
            self._lost_before_answer(lost)

    def _lost_before_answer(self, lost: Upstream | None) -> None:
        if lost is not None and self._may_send_again(lost):
            self.client.proxy.counters.retried += 1
            self.client.proxy.find_way(self, fresh=True)
        else:
            self.give_up(Reason.UNREACHABLE)

    def _may_send_again(self, lost: Upstream) -> bool:
        if self.partial or self.interim or self.replay is None or self.attempts >= MOST_ATTEMPTS:
            return False
        has_body = self.request.framing is not Framing.NONE
        harmless = self.request.idempotent or (has_body and not self.sent_body)
        return harmless and (lost.used or self.client.proxy.leads_elsewhere(self.request.host, lost.pool))

    # The answer

    def answered(self, data: bytes) -> None:
        """Takes in what the workload sends."""
        if self.at is At.HEAD:
            self._take_head(self.partial + data if self.partial else data)
        elif self.at is At.BODY:
            self._pass_on(data, b"")
        elif self.at is At.TUNNEL:
            self.client.write(data)

    def _take_head(self, data: bytes) -> None:
        limits = self.client.proxy.limits
        while True:
            end = data.find(HEAD_END) + len(HEAD_END)
            if end < len(HEAD_END) or end > limits.head_bytes:
                self.partial = data
                if len(data) > limits.head_bytes:
                    self.give_up(Reason.NONSENSE)
                return
            try:
                answer = read_answer(data[:end], self.request.method, limits)
            except BadAnswer:
                self.give_up(Reason.NONSENSE)
                return
            data = data[end:]
            if answer.status >= FIRST_FINAL or answer.status == SWITCHING:
                break
            if not self._pass_interim(answer):
                return
        self.partial = b""
        if answer.status == SWITCHING:
            self._switch(answer, data)
        else:
            self._begin(answer, data)

    def _pass_interim(self, answer: Answer) -> bool:
        self.interim += 1
        if self.interim > MOST_INTERIM:
            self.give_up(Reason.NONSENSE)
            return False
        if self.request.minor:
            self.client.write(write_answer(answer, chunked=False, connection=b""))
        return True

    def _begin(self, answer: Answer, rest: bytes) -> None:
        self.at = At.BODY
        self.answer = answer
        client, request = self.client, self.request
        bare = answer.framing is Framing.CHUNKED and not request.minor
        self.answer_body = follow(answer.framing, answer.length, bare=bare)
        if bare or answer.framing is Framing.UNTIL_CLOSE or not self.body.done:
            request.keep_alive = False
        client.answer_begins(answer.status)
        head = write_answer(
            answer, chunked=answer.framing is Framing.CHUNKED and not bare, connection=client.connection_header(request)
        )
        self._pass_on(rest, head)

    def _pass_on(self, data: bytes, head: bytes) -> None:
        body = self.answer_body
        assert body is not None  # noqa: S101 - for the type checker
        try:
            piece, rest = (b"", data) if body.done else body.take(data)
        except BadBody:
            self.client.write(head)
            self._break_off()
            return
        if head or piece:
            self.client.write(head + piece if head else piece)
        if body.done:
            upstream, self.upstream = self.upstream, None
            self._finish(upstream, rest)

    def _finish(self, upstream: Upstream | None, rest: bytes) -> None:
        """The answer is complete: keeps the connection for the next request, where nothing speaks against it."""
        pool, answer = self.pool, self.answer
        self._end()
        if upstream is not None and pool is not None and answer is not None:
            if answer.keep_alive and not rest and self.body.done and not upstream.transport.is_closing():
                pool.keep(upstream, self.client.proxy.tick)
            else:
                upstream.close()
        self.client.finished(self)

    # Tunnels

    def _switch(self, answer: Answer, rest: bytes) -> None:
        if not self.request.upgrade or not answer.upgrade or not self.body.done:
            self.give_up(Reason.NONSENSE)
            return
        self.at = At.TUNNEL
        connection = b"Connection: Upgrade\r\nUpgrade: " + answer.upgrade + b"\r\n"
        self.client.tunnel_begins(write_answer(answer, chunked=False, connection=connection) + rest)

    def pass_back(self, data: bytes) -> None:
        """What a client sends into a tunnel."""
        if self.upstream is not None and not self.upstream.transport.is_closing():
            self.upstream.transport.write(data)

    def client_ended(self) -> bool:
        """The client sends nothing more. Tells whether it may still want to hear something: in a tunnel only."""
        if self.at is not At.TUNNEL or self.upstream is None or self.ends:
            return False
        self.ends += 1
        if not self.upstream.transport.is_closing():
            self.upstream.transport.write_eof()
        return True

    def upstream_ended(self) -> bool:
        """The same of the workload."""
        if self.at is not At.TUNNEL or self.ends:
            return False
        self.ends += 1
        self.client.write_end()
        return True

    # Ends before their time

    def give_up(self, reason: Reason, why: str = "") -> None:
        """Answers with a page of our own, if nothing has been answered yet."""
        if self.at is At.HEAD:
            self._end()
            self.client.show(self, reason, why)
        else:
            self._break_off()

    def abandon(self) -> None:
        """The client has gone."""
        self._end()

    def _break_off(self) -> None:
        """The client must not take what it has for the whole answer: its connection is cut."""
        self.client.proxy.counters.broken_off += 1
        self._end()
        self.client.cut()

    def _end(self) -> None:
        gently = self.at is At.TUNNEL  # what is still on its way through belongs to the workload
        self.at = At.OVER
        if self.task is not None:
            self.task.cancel()
            self.task = None
        if self.upstream is not None:
            self.upstream.close(gently=gently)
            self.upstream = None
        self.leave()
