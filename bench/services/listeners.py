"""`python -m bench.services.listeners EARS`: people who follow what becomes of an owner's workloads, until SIGTERM.

Each has a connection of its own. When each heard what is noted as it comes, on the clock that all processes of a
machine share, and written to a file at the end.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import uvloop

BEGINS = b"HTTP/1.1 200 "


@dataclass(frozen=True)
class Ears:
    port: int
    token: str
    number: int
    heard: str
    """The file that is written: for each event who heard it, when, of which workload, its wish and its phase."""


async def _run(ears: Ears) -> None:
    over = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, over.set)
    frames: list[tuple[int, float, bytes]] = []
    opened = [await _open(ears) for _ in range(ears.number)]
    tasks = [asyncio.create_task(_listen(who, reader, frames)) for who, (reader, _) in enumerate(opened)]
    print("ready", flush=True)
    await over.wait()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    Path(ears.heard).write_text(json.dumps([said for frame in frames if (said := _read(*frame))]))


async def _open(ears: Ears) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", ears.port)
    path, host = "/api/v1/live/workloads", f"127.0.0.1:{ears.port}"
    lines = [f"GET {path} HTTP/1.1", f"Host: {host}", f"Authorization: Bearer {ears.token}", "", ""]
    writer.write("\r\n".join(lines).encode())
    head = await reader.readuntil(b"\r\n\r\n")
    if not head.startswith(BEGINS):
        raise OSError(f"a listener was not let in: {head[:100]!r}")
    return reader, writer


async def _listen(who: int, reader: asyncio.StreamReader, frames: list[tuple[int, float, bytes]]) -> None:
    """Keeps lines as they come: reading them would keep the others from being timed."""
    while line := await reader.readline():
        if line.startswith(b"data:"):
            frames.append((who, time.monotonic(), line))


def _read(who: int, at: float, line: bytes) -> tuple[int, float, str, str, str] | None:
    data = json.loads(line.removeprefix(b"data:"))
    return (who, at, data["id"], data["wish"], data["phase"]) if isinstance(data, dict) and "phase" in data else None


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_run(Ears(**json.loads(sys.argv[1]))))
