"""`python -m bench.services.visitor WORK`: makes so many requests a second, whatever becomes of them, until SIGTERM.

Open-loop: a request is made when it is due, not when the one before was answered, and its time counts from the moment
at which it was due. Every other one comes on a connection of its own, the rest on connections that are kept, as
browsers do it. What was seen is written to a file at the end.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import uvloop

ANSWERS_WITHIN_SECONDS = 10.0
LAST_ONES_SECONDS = 8.0
"""For what is under way at the end."""
MOST_TOLD = 200


@dataclass(frozen=True)
class Visits:
    port: int
    host: str
    per_second: int
    expected: str
    """What every body has to contain."""
    seen: str
    """The file that is written."""


@dataclass
class Seen:
    made: int = 0
    failed: int = 0
    failures: list[tuple[str, str]] = field(default_factory=list)
    """The first ones: when, and what."""
    took_ms: list[float] = field(default_factory=list)
    kinds: Counter[str] = field(default_factory=Counter)


Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Visitor:
    def __init__(self, visits: Visits) -> None:
        self.seen = Seen()
        self._visits = visits
        self._kept: list[Connection] = []

    async def visit(self, number: int, due: float) -> None:
        kept = number % 2 == 1
        try:
            async with asyncio.timeout(ANSWERS_WITHIN_SECONDS):
                status, body = await self._ask(kept)
        except (OSError, asyncio.IncompleteReadError, TimeoutError, ValueError) as problem:
            self._fail(f"{'kept' if kept else 'new'} connection: {type(problem).__name__}: {problem}")
            return
        self.seen.took_ms.append(1000 * (time.monotonic() - due))
        if status != 200 or self._visits.expected.encode() not in body:
            self._fail(f"{status}: {body[:200].decode(errors='replace')}")

    async def _ask(self, kept: bool) -> tuple[int, bytes]:
        reader, writer = await self._connection(kept)
        well = False
        try:
            close = "" if kept else "Connection: close\r\n"
            writer.write(f"GET / HTTP/1.1\r\nHost: {self._visits.host}\r\n{close}\r\n".encode())
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            length = next(int(line[15:]) for line in head.lower().split("\r\n") if line.startswith("content-length:"))
            body = await reader.readexactly(length)
            well = kept and "connection: close" not in head.lower()
            return int(head[9:12]), body
        finally:
            if well:
                self._kept.append((reader, writer))
            else:
                writer.close()

    async def _connection(self, kept: bool) -> Connection:
        while kept and self._kept:
            reader, writer = self._kept.pop()
            if not reader.at_eof() and not writer.is_closing():
                return reader, writer
            writer.close()
        return await asyncio.open_connection("127.0.0.1", self._visits.port)

    def _fail(self, what: str) -> None:
        self.seen.failed += 1
        self.seen.kinds[what.partition("{")[0][:100]] += 1
        if len(self.seen.failures) < MOST_TOLD:
            self.seen.failures.append((datetime.now(UTC).isoformat(timespec="milliseconds"), what))


async def _run(visits: Visits) -> None:
    visitor, over = Visitor(visits), asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, over.set)
    print("ready", flush=True)
    began, tasks = time.monotonic(), set[asyncio.Task[None]]()
    while not over.is_set():
        due = began + visitor.seen.made / visits.per_second
        if (left := due - time.monotonic()) > 0:
            await asyncio.sleep(left)
        task = asyncio.create_task(visitor.visit(visitor.seen.made, due))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        visitor.seen.made += 1
    if tasks:
        await asyncio.wait(set(tasks), timeout=LAST_ONES_SECONDS)
    Path(visits.seen).write_text(json.dumps(vars(visitor.seen)))


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_run(Visits(**json.loads(sys.argv[1]))))
