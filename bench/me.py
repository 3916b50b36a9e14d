"""GET /api/v1/me, which recognises who asks, against a bare FastAPI route that answers an equal model.

Both on uvloop and httptools, in one process, without an access log of uvicorn's (Muelle writes its own). Rounds of
either alternate, and the load comes from a third process.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Iterator
from contextlib import suppress

from bench import load
from bench.figure import Beside, Figure, middle, ratio_at_least, spread
from bench.ground import Ground
from bench.load import Done, Work
from bench.muelle import Muelle, client_from, sign_up
from bench.program import Program, ProgramFailed
from tests.servers.private import free_port

OF_BARE_FASTAPI = 0.5
STARTS_WITHIN_SECONDS = 30.0
LOOKS_EVERY_SECONDS = 0.05


def measure(ground: Ground) -> Iterator[Figure]:
    bare_port = free_port()
    bare = Program.python(ground.folder / "bare.log", "-m", "bench.services.bare_http", str(bare_port))
    with Muelle(ground) as muelle, bare:
        _wait_for(bare_port)
        headers = {"Authorization": f"Bearer {asyncio.run(_token(muelle))}"}
        seconds = ground.size.load_seconds
        ours_to_do = Work(muelle.port, "/api/v1/me", seconds, headers=headers)
        bare_to_do = Work(bare_port, "/me", seconds, headers=headers)
        ours: list[Done] = []
        peer: list[Done] = []
        for _ in range(ground.size.load_rounds):
            ours.append(load.make(ours_to_do))
            peer.append(load.make(bare_to_do))
        bare.kill()
    per_second = [done.per_second for done in ours]
    slowest, peers = middle([done.p99_ms for done in ours]), middle([done.p99_ms for done in peer])
    note = f"{spread(per_second, 0)}; p99 {slowest:.1f} ms, bare {peers:.1f} ms"
    beside = Beside("bare FastAPI route", middle([done.per_second for done in peer]))
    yield Figure("GET /api/v1/me", "a second", middle(per_second), ratio_at_least(OF_BARE_FASTAPI), beside, note)


async def _token(muelle: Muelle) -> str:
    async with client_from(muelle) as client:
        return str((await sign_up(client, "ana"))["access_token"])


def _wait_for(port: int) -> None:
    until = time.monotonic() + STARTS_WITHIN_SECONDS
    while time.monotonic() < until:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return
        time.sleep(LOOKS_EVERY_SECONDS)
    raise ProgramFailed(f"nobody listens on port {port}")
