"""Serves an application on its listeners until it is told to stop, and then stops in good order."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import Callable, Iterator

import uvicorn
from starlette.types import ASGIApp

from muelle.kit.errors import Conflict

GRACE_SECONDS = 3
BACKLOG = 2048


class PortTaken(Conflict):
    """Nobody can listen on {host}:{port}: {reason}."""

    hint = "Stop what listens there, or set MUELLE_PORT."


class _Server(uvicorn.Server):
    """Signals are for the whole program, not for one of its listeners."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def bind(host: str, port: int) -> socket.socket:
    """Takes the port before anything else is done, so that a taken one is told at once."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise PortTaken(host=host, port=port, reason=error.strerror or str(error)) from error
    listener.setblocking(False)
    return listener


async def serve(app: ASGIApp, listener: socket.socket, trusted_proxies: list[str], on_ready: Callable[[], None]) -> None:
    """Answers until SIGINT or SIGTERM; then lets running requests end, for a moment."""
    config = uvicorn.Config(
        app,
        lifespan="off",
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=bool(trusted_proxies),
        forwarded_allow_ips=trusted_proxies or None,
        timeout_graceful_shutdown=GRACE_SECONDS,
        timeout_keep_alive=30,
        h11_max_incomplete_event_size=64 * 1024,
    )
    server = _Server(config)
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopping.set)
    answering = asyncio.create_task(server.serve(sockets=[listener]))
    on_ready()
    await asyncio.wait([answering, asyncio.ensure_future(stopping.wait())], return_when=asyncio.FIRST_COMPLETED)
    server.should_exit = True
    await answering
