"""A real address for a pretended program: HTTP on a port of the loopback that the system chose."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus

from muelle.engines.protocol import Address

HERE = "127.0.0.1"
LONGEST_HEAD = 65_536
LONGEST_BODY = 2**20


@dataclass(frozen=True)
class Answer:
    status: int
    kind: str
    body: bytes


def as_json(status: int, told: object) -> Answer:
    return Answer(status, "application/json", json.dumps(told).encode())


class Door:
    """The port is taken at once, so that the address is known; until it is opened, who knocks is refused."""

    def __init__(self, answer: Callable[[str], Awaitable[Answer]]) -> None:
        self._answer = answer
        self._socket = socket.socket()
        self._socket.bind((HERE, 0))
        self.address = Address(HERE, self._socket.getsockname()[1])
        self.received_bytes = 0
        self.sent_bytes = 0
        self._opening: asyncio.Task[None] | None = None
        self._server: asyncio.Server | None = None
        self._callers: set[asyncio.StreamWriter] = set()

    def open(self) -> None:
        if self._opening is None:
            self._opening = asyncio.get_running_loop().create_task(self._open())

    async def opened(self) -> None:
        if self._opening is not None:
            await asyncio.wait([self._opening])

    def close(self) -> None:
        """Also ends the calls that are in progress, as the end of a program does."""
        if self._opening is not None and not self._opening.done():
            self._opening.cancel()
        with suppress(RuntimeError):  # its event loop may have gone with the Muelle that was killed
            if self._server is not None:
                self._server.close()
            for caller in self._callers:
                caller.transport.abort()
        self._socket.close()

    async def _open(self) -> None:
        self._server = await asyncio.start_server(self._serve, sock=self._socket, limit=LONGEST_HEAD)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._callers.add(writer)
        try:
            with suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError):
                while await self._answer_one(reader, writer):
                    pass
        finally:
            self._callers.discard(writer)
            writer.close()

    async def _answer_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answers a request; whether there may be another."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *rest = head.split("\r\n")
        method, path, _ = first.split(" ", 2)
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in rest)}
        length = int(headers.get("content-length") or 0)
        if length > LONGEST_BODY:
            return False
        await reader.readexactly(length)
        stays = headers.get("connection", "").lower() != "close"
        data = as_bytes(await self._answer(path), stays, with_body=method != "HEAD")
        self.received_bytes += len(head) + length
        self.sent_bytes += len(data)
        writer.write(data)
        await writer.drain()
        return stays


def as_bytes(answer: Answer, stays: bool, with_body: bool) -> bytes:
    try:
        phrase = HTTPStatus(answer.status).phrase
    except ValueError:
        phrase = "Something"
    head = (
        f"HTTP/1.1 {answer.status} {phrase}\r\n"
        f"Content-Type: {answer.kind}\r\n"
        f"Content-Length: {len(answer.body)}\r\n"
        f"Connection: {'keep-alive' if stays else 'close'}\r\n\r\n"
    )
    return head.encode("latin-1") + (answer.body if with_body else b"")
