"""`python -m bench.services.process ORDERS`: the speaker, the listener, or both on a bus inside the process.

Says `ready` when it is up, and `told` when the speaker has nothing left to tell. SIGTERM ends it in good order.
"""

from __future__ import annotations

import asyncio
import json
import signal
from pathlib import Path

import uvloop

from bench.services.orders import Orders
from bench.services.rooms import LINE, SUBSCRIPTION, Listener, Speaker
from muelle.kit import logs
from muelle.kit.bus import Bus
from muelle.kit.bus.memory import MemoryBus
from muelle.kit.bus.rabbit import RabbitBus
from muelle.kit.clock import SystemClock
from muelle.kit.db import Database, open_database
from muelle.kit.db.migrations import migrate


async def run(orders: Orders) -> None:
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    bus = bus_for(orders)
    databases = [await open_room(role, orders) for role in orders.roles]
    at = dict(zip(orders.roles, databases, strict=True))
    speaker = Speaker(at["speaker"], bus, orders.facts, orders.per_second) if "speaker" in at else None
    listener = Listener(at["listener"]) if "listener" in at else None
    for taker in listener.inbox.takers() if listener else []:
        bus.attach(taker)
    await bus.start()
    loops = [loop for room in (speaker, listener) if room for loop in room.loops]
    for loop in loops:
        loop.start()
    print("ready", flush=True)
    speaking = asyncio.create_task(speak(speaker)) if speaker else None
    await stopping.wait()
    if speaking is not None:
        speaking.cancel()
        await asyncio.gather(speaking, return_exceptions=True)
    await bus.stop()
    await asyncio.gather(*(loop.stop() for loop in loops))
    for database in databases:
        await database.close()
    if speaker:
        orders.moments("speaker").write_text(json.dumps(speaker.moments))
    if listener:
        orders.moments("listener").write_text(json.dumps(listener.moments))


async def speak(speaker: Speaker) -> None:
    await speaker.speak()
    print("told", flush=True)


def bus_for(orders: Orders) -> Bus:
    if not orders.rabbit_url:
        return MemoryBus([SUBSCRIPTION])
    return RabbitBus(orders.rabbit_url, [SUBSCRIPTION], SystemClock(), orders.namespace)


async def open_room(name: str, orders: Orders) -> Database:
    database = open_database(name, folder=Path(orders.folder), url=orders.database_url)
    await migrate(database, LINE)
    return database


if __name__ == "__main__":
    logs.set_up("info", "json")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run(Orders.given()))
