"""`python -m bench.services.ingress PORT NAMES ADDRESS`: the built-in proxy alone, with names that all lead there.

Says `ready` when it listens. Each name is a workload of its own.
"""

from __future__ import annotations

import asyncio
import sys

import uvloop

from muelle.events import Route, RouteChanged
from muelle.ingress.proxy import Proxy
from muelle.ingress.table import Table
from muelle.kit.clock import SystemClock


def route(number: int, address: str, version: int = 1) -> RouteChanged:
    return RouteChanged(
        workload_id=f"{number:024x}",
        owner_id="f" * 24,
        version=version,
        hosts={host(number): f"{number:024x}"},
        route=Route.OPEN,
        address=address,
    )


def host(number: int) -> str:
    return f"app-{number}.ana.localhost"


async def run(port: int, names: int, address: str) -> None:
    proxy = Proxy(Table(route(number, address) for number in range(names)), SystemClock())
    await proxy.start("127.0.0.1", port)
    print("ready", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]))
