"""A workload for tests: HTTP on a real socket, written out by hand, so that it can do wrong all there is."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Self


@dataclass
class Call:
    """A request, as it came; its body is still on the way."""

    first: str
    headers: list[tuple[str, str]]
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    number: int
    """Of its connection, beginning with 1."""

    @property
    def method(self) -> str:
        return self.first.split(" ")[0]

    @property
    def target(self) -> str:
        return self.first.split(" ")[1]

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key.lower() == name.lower()]

    def one(self, name: str) -> str:
        (value,) = self.all(name)
        return value

    async def body(self) -> bytes:
        if self.all("transfer-encoding"):
            return await self._chunks()
        length = self.all("content-length")
        return await self.reader.readexactly(int(length[0])) if length else b""

    async def _chunks(self) -> bytes:
        whole = b""
        while size := int((await self.reader.readuntil(b"\r\n")), 16):
            whole += await self.reader.readexactly(size)
            assert await self.reader.readexactly(2) == b"\r\n"
        assert await self.reader.readexactly(2) == b"\r\n", "trailers are dropped on the way"
        return whole

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self, body: bytes = b"", status: str = "200 OK", more: str = "") -> None:
        await self.send(f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{more}\r\n".encode() + body)


Handler = Callable[[Call], Awaitable[object]]


class Program:
    """Serves until the block ends. A handler that returns False closes its connection."""

    def __init__(self, handle: Handler | None = None, at: int = 0) -> None:
        self.handle = handle or _greet
        self.calls: list[Call] = []
        self.connections = 0
        self.port = at
        self._writers: set[asyncio.StreamWriter] = set()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, limit=2**20)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._server.close()
        self.cut()

    def cut(self) -> None:
        """All its connections, at once."""
        for writer in self._writers:
            writer.transport.abort()

    def hang_up(self) -> None:
        """All its connections, in good order."""
        for writer in self._writers:
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        number = self.connections
        self._writers.add(writer)
        try:
            with suppress(OSError, asyncio.IncompleteReadError):
                while True:
                    call = _read(await reader.readuntil(b"\r\n\r\n"), reader, writer, number)
                    self.calls.append(call)
                    if await self.handle(call) is False:
                        break
        finally:
            self._writers.discard(writer)
            writer.close()


def _read(head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> Call:
    first, *lines = head.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
    headers = [(name, value.strip()) for name, _, value in (line.partition(":") for line in lines)]
    return Call(first, headers, reader, writer, number)


async def _greet(call: Call) -> None:
    await call.body()
    await call.answer(f"hello {call.target}".encode())
