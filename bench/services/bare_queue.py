"""The peer of the bus inside a process: a row in one SQLite file, an `asyncio.Queue`, a row in another. No more."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from pathlib import Path

import aiosqlite
import uvloop

from bench.services.orders import Orders
from bench.services.rooms import evenly


async def run(orders: Orders) -> None:
    told, heard = [await open_file(Path(orders.folder) / f"bare_{role}.db") for role in ("speaker", "listener")]
    queue: asyncio.Queue[int] = asyncio.Queue()
    due_at: dict[int, float] = {}
    heard_at: dict[int, float] = {}
    turn = asyncio.Lock()

    async def tell(number: int) -> None:
        async with turn:
            await told.execute("INSERT INTO numbers VALUES (?)", (number,))
            await told.commit()
        queue.put_nowait(number)

    async def hear() -> None:
        while len(heard_at) < orders.facts:
            number = await queue.get()
            await heard.execute("INSERT INTO numbers VALUES (?)", (number,))
            await heard.commit()
            heard_at[number] = time.perf_counter()

    print("ready", flush=True)
    async with asyncio.TaskGroup() as both:
        both.create_task(hear())
        async for number, due in evenly(range(1, orders.facts + 1), orders.per_second):
            due_at[number] = due
            both.create_task(tell(number))
    for database in (told, heard):
        await database.close()
    orders.moments("speaker").write_text(json.dumps(due_at))
    orders.moments("listener").write_text(json.dumps(heard_at))
    print("told", flush=True)


async def open_file(path: Path) -> aiosqlite.Connection:
    """As safe as ours: in WAL mode, and on the disk with each commit."""
    database = await aiosqlite.connect(path)
    for statement in ("PRAGMA journal_mode=WAL", "PRAGMA synchronous=FULL", "CREATE TABLE numbers (number INTEGER)"):
        await database.execute(statement)
    await database.commit()
    return database


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # whoever is done ends by itself
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run(Orders.given()))
