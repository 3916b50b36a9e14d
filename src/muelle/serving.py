"""Serves an application on its listener until it is told to stop, and then stops in good order and in good time."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import structlog
import uvicorn
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from muelle.kit.errors import Conflict, Unavailable
from muelle.kit.http.problems import problem_response
from muelle.kit.http.streams import STOPPING

GRACE_SECONDS = 2
"""How long running requests have to end, once it is told to stop."""
LAST_SECONDS = 4.0
"""When the process ends for certain. What is not done by then stays written down, as it does in a power cut."""
BACKLOG = 2048
SOCKET_MESSAGE_BYTES = 64 * 1024
"""Of a message to us: a longer one closes the socket with 1009."""
SOCKET_PING_SECONDS = 20.0
"""How often a socket is asked whether anybody is there."""
SOCKET_ANSWER_SECONDS = 300.0
"""How long the answer may take: somebody who reads page by page answers when they turn over."""
MOST_FILES = 65_536

_log = structlog.get_logger("muelle.serving")


class PortTaken(Conflict):
    """Nobody can listen on {host}:{port}: {reason}."""

    hint = "Stop what listens there, or set MUELLE_PORT to another port (MUELLE_HOST to another address)."


class Stopping(Unavailable):
    """Muelle is being stopped, and the request did not come to its end in time."""

    hint = "Send it again in a moment, with the same Idempotency-Key if it has one."


def bind(host: str, port: int) -> socket.socket:
    """Takes the port before anything else is done, so that a taken one is told at once."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except (OSError, UnicodeError) as error:  # the latter for a host name that can be none
        listener.close()
        raise PortTaken(host=host, port=port, reason=getattr(error, "strerror", "") or str(error)) from error
    listener.setblocking(False)
    return listener


def raise_file_limit() -> None:
    """As many open files as the machine allows: each client of a workload holds two."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


class Stop:
    """Whether it was told to stop, by SIGINT or SIGTERM, from the moment on when this is made."""

    def __init__(self) -> None:
        self._told = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._tell)

    async def comes_after(self, task: asyncio.Task[Any]) -> bool:
        """Waits for the end of a task. Where it is told to stop before that, it cancels the task and says so."""
        told = asyncio.create_task(self._told.wait())
        await asyncio.wait([task, told], return_when=asyncio.FIRST_COMPLETED)
        told.cancel()
        if task.done():
            return True
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return False

    async def wait(self) -> None:
        await self._told.wait()

    @property
    def told(self) -> asyncio.Event:
        """Set when it is told to stop: what goes on for ever, such as a stream of events, ends by it."""
        return self._told

    def _tell(self) -> None:
        if not self._told.is_set():
            self._told.set()
            last = threading.Timer(LAST_SECONDS, _end_now)
            last.daemon = True
            last.start()


def _end_now() -> None:
    _log.warning("ended before everything came to rest; what is not done is written down")
    os._exit(0)


async def serve(
    app: ASGIApp, listener: socket.socket, trusted_proxies: Sequence[str], stop: Stop, on_ready: Callable[[], None]
) -> None:
    """Answers until it is told to stop; then lets running requests end, for a moment."""
    config = uvicorn.Config(
        _Interrupted(app, stop.told),
        lifespan="off",
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=bool(trusted_proxies),
        forwarded_allow_ips=list(trusted_proxies) or None,
        timeout_graceful_shutdown=GRACE_SECONDS,
        timeout_keep_alive=30,
        h11_max_incomplete_event_size=64 * 1024,
        ws="websockets-sansio",
        ws_max_size=SOCKET_MESSAGE_BYTES,
        ws_ping_interval=SOCKET_PING_SECONDS,
        ws_ping_timeout=SOCKET_ANSWER_SECONDS,
        ws_per_message_deflate=False,  # a keystroke is not worth a window for each connection
    )
    server = _Server(config, on_ready)
    answering = asyncio.create_task(server.serve(sockets=[listener]))
    told = asyncio.create_task(stop.wait())
    await asyncio.wait([answering, told], return_when=asyncio.FIRST_COMPLETED)
    told.cancel()
    server.should_exit = True
    await answering


class _Interrupted:
    """Lets requests know when the program stops, and gives an answer to one that is cancelled because the time that it
    had to end is over."""

    def __init__(self, app: ASGIApp, stopping: asyncio.Event) -> None:
        self._app = app
        self._stopping = stopping

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False
        scope[STOPPING] = self._stopping

        async def note(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, receive, note)
        except asyncio.CancelledError:
            if scope["type"] == "http" and not started:
                await problem_response(Stopping(), scope["path"])(scope, receive, send)


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_ready()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are for the whole program, not for one of its listeners."""
        yield
