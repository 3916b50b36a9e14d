"""`python -m bench.load`: makes as many requests as it can from a process of its own, and counts them.

Written out here because it must not be what limits: a protocol on uvloop that sends the same bytes again as soon as the
answer has come, with httptools to find its end. What to do stands on stdin as JSON (it holds a token), the result on
stdout.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, cast

import httptools
import uvloop

from bench.figure import percentile
from bench.program import ROOT, ProgramFailed

WARM_UP_SECONDS = 0.5
PATIENCE_SECONDS = 30.0


@dataclass(frozen=True)
class Work:
    port: int
    path: str
    seconds: float
    connections: int = 16
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Done:
    per_second: float
    p50_ms: float
    p99_ms: float


def make(work: Work) -> Done:
    """Does the work in another process, and insists that every answer was a 200."""
    words = [sys.executable, "-m", "bench.load"]
    patience = work.seconds + PATIENCE_SECONDS
    told = json.dumps(asdict(work))
    made = subprocess.run(words, input=told, cwd=ROOT, capture_output=True, text=True, timeout=patience, check=False)
    if made.returncode:
        raise ProgramFailed(f"the load ended with {made.returncode}: {made.stderr}")
    found = json.loads(made.stdout)
    if others := {status: times for status, times in found.pop("statuses").items() if status != "200"}:
        raise ProgramFailed(f"answers to {work.path} other than 200, by status: {others}")
    return Done(**found)


class _Line(asyncio.Protocol):
    """One connection, one request after the other."""

    transport: asyncio.Transport

    def __init__(self, request: bytes, statuses: Counter[int], took: list[float]) -> None:
        self._request = request
        self._statuses = statuses
        self._took = took
        self._sent_at = 0.0
        self._parser = httptools.HttpResponseParser(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but name
        self._send()

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        self._took.append(time.perf_counter() - self._sent_at)
        self._statuses[self._parser.get_status_code()] += 1
        self._send()

    def connection_lost(self, problem: Exception | None) -> None:
        if problem is not None:
            self._statuses[0] += 1

    def _send(self) -> None:
        self._sent_at = time.perf_counter()
        self.transport.write(self._request)


async def _run(work: Work) -> dict[str, Any]:
    headers = {"Host": f"127.0.0.1:{work.port}", "Accept": "application/json", **work.headers}
    lines = [f"GET {work.path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
    request = "\r\n".join(lines).encode()
    statuses: Counter[int] = Counter()
    took: list[float] = []
    loop = asyncio.get_running_loop()
    connections = [
        await loop.create_connection(lambda: _Line(request, statuses, took), "127.0.0.1", work.port)
        for _ in range(work.connections)
    ]
    await asyncio.sleep(WARM_UP_SECONDS)
    took.clear()
    began = time.perf_counter()
    await asyncio.sleep(work.seconds)
    seconds = time.perf_counter() - began
    counted = list(took)
    for transport, _ in connections:
        transport.abort()
    if not counted:
        raise ProgramFailed("nothing was answered")
    return {
        "per_second": len(counted) / seconds,
        "p50_ms": 1000 * percentile(counted, 50),
        "p99_ms": 1000 * percentile(counted, 99),
        "statuses": statuses,
    }


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        json.dump(runner.run(_run(Work(**json.load(sys.stdin)))), sys.stdout)
