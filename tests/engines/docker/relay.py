"""A way to the daemon that can be cut, blocked and measured: the daemon itself is everybody's."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path

PIECE_BYTES = 65_536


class Relay:
    def __init__(self, docker_host: str, path: Path) -> None:
        self._behind = docker_host.removeprefix("unix://")
        self._path = path
        self._servers: list[asyncio.Server] = []
        self._connections: set[asyncio.Task[None]] = set()
        self.address = f"unix://{path}"
        self.answers = True
        """Whether what is asked is passed on."""
        self.told_bytes = 0
        """What the daemon has told."""

    async def open(self) -> None:
        self._servers.append(await asyncio.start_unix_server(self._serve, self._path))

    async def open_port(self) -> str:
        """The same by TCP: an engine that is, for all one knows, on another machine."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self._servers.append(server)
        return f"tcp://127.0.0.1:{server.sockets[0].getsockname()[1]}"

    async def close(self) -> None:
        """As when the daemon is killed."""
        for server in self._servers:
            server.close()
        self._servers.clear()
        for connection in list(self._connections):
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)
        self._path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            if not self.answers:
                await asyncio.Event().wait()
            behind = await asyncio.open_unix_connection(self._behind)
            await self._both(reader, writer, *behind)
        except asyncio.CancelledError:
            pass  # cut
        finally:
            self._connections.discard(task)
            writer.transport.abort()

    async def _both(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        told: asyncio.StreamReader,
        asked: asyncio.StreamWriter,
    ) -> None:
        asking = asyncio.create_task(self._pass_on(reader, asked))
        try:
            await self._pass_on(told, writer, counted=True)
        finally:
            asking.cancel()
            asked.transport.abort()

    async def _pass_on(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, counted: bool = False) -> None:
        with suppress(OSError):
            while piece := await source.read(PIECE_BYTES):
                self.told_bytes += len(piece) if counted else 0
                sink.write(piece)
                await sink.drain()
            if sink.can_write_eof():
                sink.write_eof()
