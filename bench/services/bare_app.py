"""`python -m bench.services.bare_app PORT WORD`: the least that can be called a web application.

It says `ready` when it listens, and answers each request with the same bytes as soon as its head is there.
"""

from __future__ import annotations

import asyncio
import sys
from typing import cast

import uvloop

PADDING = 256
"""About the size of a small JSON answer."""


class App(asyncio.Protocol):
    transport: asyncio.Transport

    def __init__(self, answer: bytes) -> None:
        self._answer = answer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self.transport.write(self._answer * data.count(b"\r\n\r\n"))


async def run(port: int, word: str) -> None:
    body = word.ljust(PADDING).encode()
    answer = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    await asyncio.get_running_loop().create_server(lambda: App(answer), "127.0.0.1", port)
    print("ready", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run(int(sys.argv[1]), sys.argv[2]))
