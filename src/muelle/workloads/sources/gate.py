"""The one way out for a git that fetches for a stranger: a proxy of our own, that looks at each address it connects to.

Looking a name up first and handing it to git would be no check: git looks it up again, and may be told something else
(DNS rebinding); a redirect or a submodule leads to hosts that nobody looked up. Here the address that was judged is the
one that is connected to, for each connection, whoever asked for it.

It listens on loopback, for the one git that knows its password, as long as that fetches, and does nothing but CONNECT.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hmac
import secrets
from collections.abc import Collection, Sequence
from types import TracebackType
from typing import Self

from muelle.kit.errors import MuelleError
from muelle.workloads.sources.addresses import Resolve, objection, resolve_here
from muelle.workloads.sources.errors import HostRefused, HostUnreachable, SourceTooLarge, shown

HEAD_BYTES = 8192
HEAD_SECONDS = 10.0
RESOLVE_SECONDS = 10.0
CONNECT_SECONDS = 5.0
MOST_ADDRESSES = 8
MOST_CONNECTIONS = 32
CHUNK_BYTES = 64 * 1024
USER = "muelle"


class Gate:
    """Open between `async with`. `trouble` tells why it turned somebody away, in words for people."""

    def __init__(
        self, private_hosts: Collection[str], most_bytes: int, resolve: Resolve = resolve_here, limit_shown: int = 0
    ) -> None:
        self.trouble: MuelleError | None = None
        self.received = 0
        self._private = {host.lower().rstrip(".") for host in private_hosts}
        self._most = most_bytes
        self._shown = limit_shown or most_bytes
        self._resolve = resolve
        self._password = secrets.token_urlsafe(24)
        self._server: asyncio.Server | None = None
        self._talks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        """For git, with the password in it."""
        assert self._server is not None  # noqa: S101 - between `async with`
        port = self._server.sockets[0].getsockname()[1]
        return f"http://{USER}:{self._password}@127.0.0.1:{port}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._talk, "127.0.0.1", 0, limit=HEAD_BYTES)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None  # noqa: S101
        self._server.close()
        for talk in self._talks:
            talk.cancel()
        await asyncio.gather(*self._talks, return_exceptions=True)

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101
        self._talks.add(task)
        try:
            await self._serve(reader, writer)
        except (OSError, TimeoutError, ValueError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # whoever was there has gone, or speaks no HTTP
        except asyncio.CancelledError:
            pass  # the gate closes: that is no news for the server that started this task
        finally:
            self._talks.discard(task)
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with asyncio.timeout(HEAD_SECONDS):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        lines = head.split("\r\n")
        method, target, _ = lines[0].split(" ")
        if not self._knows_the_password(lines[1:]):
            await _answer(writer, 407, "Proxy-Authenticate: Basic realm=muelle\r\n")
        elif method != "CONNECT":
            await _answer(writer, 405)
        elif len(self._talks) > MOST_CONNECTIONS:
            await _answer(writer, 503)
        else:
            await self._pass(target, reader, writer)

    async def _pass(self, target: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host, _, port = target.rpartition(":")
        try:
            far = await self._connect(host.strip("[]").lower(), int(port))
        except MuelleError as trouble:
            self.trouble = trouble
            await _answer(writer, 403)
        else:
            await self._join((reader, writer), far)

    def _knows_the_password(self, headers: Sequence[str]) -> bool:
        expected = base64.b64encode(f"{USER}:{self._password}".encode()).decode()
        given = (line.partition(":") for line in headers)
        return any(
            name.lower() == "proxy-authorization"
            and hmac.compare_digest(value.strip().encode("latin-1"), f"Basic {expected}".encode())
            for name, _, value in given
        )

    async def _connect(self, host: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """To an address of that host, after all of them were looked at. Raises HostRefused, HostUnreachable."""
        addresses = await self._addresses(host, port)
        reason = "it has no address"
        for address in addresses[:MOST_ADDRESSES]:
            try:
                async with asyncio.timeout(CONNECT_SECONDS):
                    return await asyncio.open_connection(address, port, limit=CHUNK_BYTES)
            except TimeoutError:
                reason = f"it does not answer within {CONNECT_SECONDS:g} s"
            except OSError as error:
                reason = f"port {port}: {error.strerror or 'the connection failed'}"
        raise HostUnreachable(host=shown(host), reason=reason)

    async def _addresses(self, host: str, port: int) -> Sequence[str]:
        try:
            async with asyncio.timeout(RESOLVE_SECONDS):
                found = await self._resolve(host, port)
        except (OSError, UnicodeError, TimeoutError):
            raise HostUnreachable(host=shown(host), reason="there is no such name") from None
        name = host.rstrip(".")
        if name in self._private or f"{name}:{port}" in self._private:
            return found
        for address in found:
            if words := objection(address):
                raise HostRefused(host=shown(host), address=address, what=words)
        return found

    async def _join(
        self,
        near: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        far: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ) -> None:
        """Carries bytes both ways until either side is done with it."""
        with contextlib.closing(far[1]):
            near[1].write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            ways = [
                asyncio.create_task(self._carry(near[0], far[1], counted=False)),
                asyncio.create_task(self._carry(far[0], near[1], counted=True)),
            ]
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for way in ways:
                    way.cancel()
                await asyncio.gather(*ways, return_exceptions=True)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, counted: bool) -> None:
        while data := await reader.read(CHUNK_BYTES):
            if counted:
                self.received += len(data)
                if self.received > self._most:
                    self.trouble = SourceTooLarge(limit=self._shown)
                    return
            writer.write(data)
            await writer.drain()


async def _answer(writer: asyncio.StreamWriter, status: int, headers: str = "") -> None:
    writer.write(f"HTTP/1.1 {status} No\r\n{headers}Content-Length: 0\r\nConnection: close\r\n\r\n".encode())
    await writer.drain()
