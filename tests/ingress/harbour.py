"""Everything that a test of the proxy needs: a table, a proxy on a real port, and raw clients for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from muelle.events import Route, RouteChanged
from muelle.ingress.proxy import Limits, Proxy
from muelle.ingress.table import Table
from muelle.kit.clock import SystemClock
from tests.ingress.program import Program

HOST = "shop.ana.localhost"
SHORT = Limits(
    tick_seconds=0.02,
    head_seconds=20,
    answer_seconds=20,
    patience_seconds=1,
    starting_seconds=1,
    pause_seconds=0.01,
)
"""Waits of moments where a test has to see their end, and long ones where it must not."""
PATIENCE_SECONDS = 20.0


@dataclass
class Reply:
    status: int
    headers: dict[str, str]
    """In lower case."""
    body: bytes
    head: bytes


@dataclass
class Line:
    """A raw connection to the proxy."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def head(self) -> Reply:
        head = await self.until(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        return Reply(int(first.split(" ")[1]), headers, b"", head)

    async def reply(self, *, bodiless: bool = False) -> Reply:
        """An answer with its body."""
        reply = await self.head()
        if bodiless or reply.status in (204, 304) or reply.status < 200:
            return reply
        if "content-length" in reply.headers:
            reply.body = await self.exactly(int(reply.headers["content-length"]))
        elif reply.headers.get("transfer-encoding") == "chunked":
            reply.body = await self._chunks()
        else:
            reply.body = await self.rest()
        return reply

    async def ask(self, request: str) -> Reply:
        """Sends a request, written with plain line ends, and returns the answer."""
        await self.send(request.replace("\n", "\r\n").encode())
        return await self.reply(bodiless=request.startswith("HEAD"))

    async def get(self, target: str = "/", *, host: str = HOST, more: str = "", method: str = "GET") -> Reply:
        return await self.ask(f"{method} {target} HTTP/1.1\nHost: {host}\n{more}\n")

    async def until(self, end: bytes) -> bytes:
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await self.reader.readuntil(end)

    async def exactly(self, length: int) -> bytes:
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await self.reader.readexactly(length)

    async def rest(self) -> bytes:
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await self.reader.read()

    async def is_closed(self) -> bool:
        """Waits for the end, and for nothing before it."""
        try:
            return await self.rest() == b""
        except ConnectionError:
            return True

    def close(self) -> None:
        self.writer.close()

    async def _chunks(self) -> bytes:
        whole = b""
        while size := int(await self.until(b"\r\n"), 16):
            whole += await self.exactly(size)
            assert await self.exactly(2) == b"\r\n"
        assert await self.exactly(2) == b"\r\n"
        return whole


@dataclass
class Harbour:
    table: Table
    proxy: Proxy
    number: int
    lines: list[Line] = field(default_factory=list)
    _versions: int = 0

    async def line(self) -> Line:
        """One more client."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.number, limit=2**20)
        line = Line(reader, writer)
        self.lines.append(line)
        return line

    def lead(
        self,
        to: Program | str = "",
        *,
        host: str = HOST,
        route: Route = Route.OPEN,
        why: str = "",
        workload: str = "shop",
    ) -> None:
        """Makes the name lead there from now on."""
        self._versions += 1
        self.table.apply(
            RouteChanged(
                workload_id=workload,
                owner_id="ana",
                version=self._versions,
                hosts={host: "c1"},
                route=route,
                address=to if isinstance(to, str) else to.address,
                why=why,
            )
        )


@asynccontextmanager
async def harbour(limits: Limits = SHORT, **more: object) -> AsyncIterator[Harbour]:
    table = Table()
    proxy = Proxy(table, SystemClock(), limits=limits, **more)  # type: ignore[arg-type]
    place = Harbour(table, proxy, await proxy.start("127.0.0.1", 0))
    try:
        yield place
    finally:
        await proxy.stop(grace_seconds=0)
        for line in place.lines:
            line.close()
            with suppress(OSError):
                await line.writer.wait_closed()
