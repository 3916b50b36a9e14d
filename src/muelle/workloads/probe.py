"""Whether an instance answers: over TCP, then over HTTP where that is what it speaks."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from muelle.engines.protocol import Address
from muelle.workloads.model import NO_REASON, Why

CONNECT_SECONDS = 1.0
ANSWER_SECONDS = 3.0
_REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\nUser-Agent: muelle-probe\r\nAccept: */*\r\nConnection: close\r\n\r\n"


async def probe(address: Address, port: int) -> Why:
    """No reason where it is well; `port` is how its owner knows it.

    What answers a request for `/` with anything below 500 is well, also with 404: it is a program that works. So is
    what speaks something else than HTTP, or hangs up: that it takes connections is all that can be asked of it.
    """
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            reader, writer = await asyncio.open_connection(address.host, address.port)
    except (OSError, TimeoutError):
        return Why("not_listening", f"Nothing listens on port {port}.")
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            writer.write(_REQUEST)
            return _judged(await reader.read(64))
    except TimeoutError:
        return Why("silent", f"It takes connections on port {port} and answers nothing.")
    except OSError:
        return NO_REASON
    finally:
        writer.close()
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(CONNECT_SECONDS):
                await writer.wait_closed()


def _judged(answer: bytes) -> Why:
    parts = answer.split(b" ", 2)
    if not answer.startswith(b"HTTP/") or len(parts) < 2 or not parts[1][:3].isdigit():
        return NO_REASON
    status = int(parts[1][:3])
    return Why("answers_error", f"It answers {status} to GET /.") if status >= 500 else NO_REASON
