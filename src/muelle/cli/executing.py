"""`muelle exec`: a command in a running workload, as if it were run here; its exit code is ours.

With a terminal at both ends everything that is typed goes there, Ctrl-C included, and a change of the window's size is
told. Otherwise bytes go in from stdin as long as there are some, and out to stdout.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sys
import termios
import threading
import tty
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any
from urllib.parse import urlencode, urlsplit

import typer
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

from muelle.cli import showing
from muelle.cli.client import SECONDS, Client, NotMuelle, ServerRefused, ServerSilent
from muelle.cli.naming import named
from muelle.kit.errors import Denied, MuelleError, Unavailable
from muelle.kit.hosts import is_loopback

PROTOCOL = "muelle.exec.v1"
PIECE_BYTES = 32 * 1024
LARGEST_CODE = 255
ANSWER_SECONDS = 300.0
"""How long the server's sign of life may take: it is not read while who reads our output takes their time."""
FRESH_SECONDS = 10.0
"""How often it is looked whether the token has to be renewed."""


class CannotExecute(Denied):
    """{name}: {detail}"""

    hint = "{next_step}"


class ConnectionCut(Unavailable):
    """{name}: the connection to the command was cut ({why}). It was ended."""


def execute(name: str, command: Sequence[str], terminal: bool | None) -> None:
    showing.ready()
    client = Opening.here()
    assert isinstance(client, Opening)  # noqa: S101 - for the type checker
    workload = named(client, name)
    both = sys.stdin.isatty() and sys.stdout.isatty()
    wanted = both if terminal is None else terminal
    query = [("command", word) for word in command]
    if wanted:
        size = shutil.get_terminal_size()
        query += [("terminal", "1"), ("rows", str(size.lines)), ("columns", str(size.columns))]
    path = f"/workloads/{workload['id']}/exec?{urlencode(query)}"
    with _raw(sys.stdin.fileno()) if wanted and sys.stdin.isatty() else _as_it_is():
        code = asyncio.run(_Talk(client, name, path, resizes=wanted and both).hold())
    raise typer.Exit(min(code, LARGEST_CODE) if code >= 0 else LARGEST_CODE)


class Opening(Client):
    """A client that opens WebSockets, too."""

    @asynccontextmanager
    async def opened(self, path: str) -> AsyncIterator[ClientConnection]:
        server = urlsplit(self.server)
        url = f"{'wss' if server.scheme == 'https' else 'ws'}://{server.netloc}{server.path}/api/v1{path}"
        beyond = not is_loopback(server.hostname or "")  # no proxy stands between a machine and itself
        with self._recognised() as token:
            headers = {"Authorization": f"Bearer {token}"}
            try:
                connection = await connect(
                    url,
                    additional_headers=headers,
                    subprotocols=[PROTOCOL],  # type: ignore[list-item]
                    proxy=True if beyond else None,
                    compression=None,
                    open_timeout=SECONDS,
                    ping_timeout=ANSWER_SECONDS,
                )
            except InvalidStatus as refused:
                raise _refusal(refused, self.server) from None
            except InvalidHandshake:
                raise NotMuelle(server=self.server) from None
            except OSError:
                raise ServerSilent(server=self.server) from None
        async with connection:
            yield connection

    def token(self) -> str:
        """One that is good for a while."""
        with self._recognised() as token:
            return token


class _Talk:
    def __init__(self, client: Opening, name: str, path: str, *, resizes: bool) -> None:
        self._client = client
        self._name = name
        self._path = path
        self._resizes = resizes
        self._problem: dict[str, Any] = {}
        self._code: int | None = None

    async def hold(self) -> int:
        async with self._client.opened(self._path) as connection:
            if self._resizes:
                self._tell_sizes(connection)
            typing = threading.Thread(target=self._type, args=(connection, asyncio.get_running_loop()), daemon=True)
            typing.start()
            renewing = asyncio.create_task(self._renew(connection))
            closed = await self._show(connection)
            renewing.cancel()
        if self._code is not None:
            return self._code
        if self._problem:
            raise CannotExecute(
                name=self._name, detail=self._problem["detail"], next_step=self._problem.get("hint") or ""
            )
        raise ConnectionCut(name=self._name, why=closed)

    async def _show(self, connection: ClientConnection) -> str:
        """Until it is closed, and then why."""
        try:
            while True:
                came = await connection.recv()
                if isinstance(came, bytes):
                    await asyncio.to_thread(_write, came)  # which may take as long as somebody reads a page
                    continue
                told = json.loads(came)
                self._code = told.get("exit", self._code)
                self._problem = told.get("problem", self._problem)
        except ConnectionClosed as closed:
            return closed.rcvd.reason or str(closed.rcvd.code) if closed.rcvd else "nothing was said"

    async def _renew(self, connection: ClientConnection) -> None:
        """A session outlives the token that it was opened with."""
        known = ""
        while True:
            await asyncio.sleep(FRESH_SECONDS)
            with suppress(MuelleError, ConnectionClosed):  # tried again; in the end the server says what is wrong
                token = await asyncio.to_thread(self._client.token)
                if token != known:
                    await connection.send(json.dumps({"token": token}))
                    known = token

    def _type(self, connection: ClientConnection, loop: asyncio.AbstractEventLoop) -> None:
        """In a thread, for nobody can wait for a file otherwise. It waits for each piece to be on its way."""
        with suppress(ConnectionClosed, OSError, RuntimeError):
            while data := os.read(sys.stdin.fileno(), PIECE_BYTES):
                asyncio.run_coroutine_threadsafe(connection.send(data), loop).result()

    def _tell_sizes(self, connection: ClientConnection) -> None:
        loop, telling = asyncio.get_running_loop(), set[asyncio.Task[None]]()

        async def tell() -> None:
            size = shutil.get_terminal_size()
            with suppress(ConnectionClosed):
                await connection.send(json.dumps({"resize": [size.lines, size.columns]}))

        def changed() -> None:
            task = loop.create_task(tell())
            telling.add(task)
            task.add_done_callback(telling.discard)

        loop.add_signal_handler(signal.SIGWINCH, changed)


def _refusal(refused: InvalidStatus, server: str) -> ServerRefused | NotMuelle:
    answer = refused.response
    try:
        problem = json.loads(answer.body or b"")
        return ServerRefused(
            detail=problem["detail"],
            next_step=problem.get("hint") or "",
            refusal=problem["code"],
            status=answer.status_code,
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return NotMuelle(server=server)


def _write(data: bytes) -> None:
    """All of it, also into a pipe whose reader is slow."""
    sys.stdout.flush()
    while data:
        data = data[os.write(sys.stdout.fileno(), data) :]


@contextmanager
def _raw(terminal: int) -> Iterator[None]:
    """What is typed is passed on as it is; the terminal is put back as it was, whatever happens."""
    before = termios.tcgetattr(terminal)
    tty.setraw(terminal)
    try:
        yield
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)


@contextmanager
def _as_it_is() -> Iterator[None]:
    yield
