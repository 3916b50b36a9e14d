"""The ingress: requests a second and the slowest of them, in front of a bare app, with 10 names and with 1,000; and how
long it takes until a changed name is in effect.

The app, the proxy and the load are processes of their own. Beside the built-in proxy stands the app alone, which is
what no proxy can reach, and Caddy in front of the same app where it is installed. Rounds alternate. A change is timed
from the moment in which the bus delivers the fact to the first answer from the new place, with a question every
millisecond in between.
"""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field

import uvloop

from bench import load
from bench.figure import (
    Beside,
    Figure,
    at_most,
    middle,
    percentile,
    ratio_at_least,
    spread,
)
from bench.ground import Ground
from bench.load import Done, Work
from bench.program import Program, ProgramFailed
from bench.services.bare_app import PADDING
from bench.services.ingress import host, route
from muelle.ingress import room
from muelle.ingress.caddy import Door, configuration
from muelle.ingress.proxy import Proxy
from muelle.ingress.table import Table
from muelle.ingress.verbs import Verbs
from muelle.kit.bus import Envelope, Inbox, Origin
from muelle.kit.clock import SystemClock
from muelle.kit.db import open_database
from muelle.kit.db.migrations import migrate
from muelle.kit.ids import new_id
from tests.servers import finding
from tests.servers.private import free_port

FEW, MANY = 10, 1000
OF_CADDY = 0.5
NO_SLOWER = 1.15
"""With many names, against few: what is more than noise."""
IN_EFFECT_WITHIN_MS = 20
READY_WITHIN_SECONDS = 30.0
LOOKS_EVERY_SECONDS = 0.05
ASKS_EVERY_SECONDS = 0.001
LIKE_A_BROWSER = {
    "User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    "Accept-Language": "en,es;q=0.8",
    "Accept-Encoding": "gzip, deflate, br, zstd",
    "Cookie": "session=0123456789abcdef0123456789abcdef",
}


def measure(ground: Ground) -> Iterator[Figure]:
    yield from _speed(ground)
    yield _change(ground)


@dataclass
class Contender:
    work: Work
    rounds: list[Done] = field(default_factory=list)

    @property
    def per_second(self) -> float:
        return middle([done.per_second for done in self.rounds])

    @property
    def p99_ms(self) -> float:
        return middle([done.p99_ms for done in self.rounds])

    @property
    def note(self) -> str:
        return f"{spread([done.per_second for done in self.rounds], 0)}; p99 {self.p99_ms:.1f} ms"


def _speed(ground: Ground) -> Iterator[Figure]:
    with ExitStack() as stack:
        app = _started(stack, ground, "app", "bare_app", "app")
        bare = Contender(_work(ground, app))
        ours = {names: Contender(_work(ground, _proxy(stack, ground, names, app), names)) for names in (FEW, MANY)}
        caddy = _caddy(stack, ground, app)
        contenders = [bare, *ours.values(), *([caddy] if caddy else [])]
        for _ in range(ground.size.load_rounds):
            for each in contenders:
                each.rounds.append(load.make(each.work))
    few, many = ours[FEW], ours[MANY]
    unmeasured = "" if caddy else "; not held against Caddy: needs caddy"
    floor = Beside("the bare app", bare.per_second)
    yield Figure("through the proxy", "a second", many.per_second, None, floor, many.note + unmeasured)
    if caddy is not None:
        peer = Beside("Caddy", caddy.per_second)
        yield Figure("through the proxy", "a second", many.per_second, ratio_at_least(OF_CADDY), peer, caddy.note)
        yield Figure("through the proxy, p99", "ms", many.p99_ms, None, Beside("Caddy", caddy.p99_ms))
    bar = ratio_at_least(1 / NO_SLOWER)
    yield Figure(f"with {MANY} names", "a second", many.per_second, bar, Beside(f"{FEW} names", few.per_second))
    yield Figure(f"with {MANY} names, p99", "ms", many.p99_ms, None, Beside(f"{FEW} names", few.p99_ms))


def _work(ground: Ground, port: int, names: int = 0) -> Work:
    headers = LIKE_A_BROWSER | ({"Host": host(names // 2)} if names else {})
    return Work(port, "/some/page?with=a&query", ground.size.load_seconds, headers=headers)


def _proxy(stack: ExitStack, ground: Ground, names: int, app: int) -> int:
    return _started(stack, ground, f"proxy-{names}", "ingress", str(names), f"127.0.0.1:{app}")


def _caddy(stack: ExitStack, ground: Ground, app: int) -> Contender | None:
    """Caddy, set up as our driver does it, in front of the same app."""
    program = finding.KINDS["caddy"].look()
    if program is None:
        return None
    port = free_port()
    table = Table(route(number, f"127.0.0.1:{app}") for number in range(MANY))
    admin = f"unix/{ground.folder}/caddy.sock"
    made = configuration(table, Door("127.0.0.1", port), admin=admin, otherwise=f"127.0.0.1:{app}", version=())
    file = ground.folder / "caddy.json"
    file.write_text(json.dumps(made))
    homes = dict.fromkeys(("HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME"), str(ground.folder))
    running = Program([program, "run", "--config", str(file)], ground.folder / "caddy.log", homes)
    running.start()
    stack.callback(running.kill)
    _wait_for(port)
    return Contender(_work(ground, port, MANY))


def _wait_for(port: int) -> None:
    until = time.monotonic() + READY_WITHIN_SECONDS
    while time.monotonic() < until:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return
        time.sleep(LOOKS_EVERY_SECONDS)
    raise ProgramFailed(f"nobody listens on port {port}")


def _started(stack: ExitStack, ground: Ground, name: str, service: str, *words: str) -> int:
    """A service in a process of its own; where it listens."""
    port = free_port()
    program = Program.python(ground.folder / f"{name}.log", "-m", f"bench.services.{service}", str(port), *words)
    program.start()
    stack.callback(program.kill)
    program.hear("ready", READY_WITHIN_SECONDS)
    return port


def _change(ground: Ground) -> Figure:
    with ExitStack() as stack:
        apps = [_started(stack, ground, f"app-{word}", "bare_app", word) for word in ("old", "new")]
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            took = runner.run(_switch(ground, apps))
    slowest = percentile(took, 99)
    note = f"p99 of {len(took)} changes among {MANY} names; p50 {percentile(took, 50):.1f} ms"
    return Figure("a changed name in effect", "ms", slowest, at_most(IN_EFFECT_WITHIN_MS), note=note)


async def _switch(ground: Ground, apps: Sequence[int]) -> list[float]:
    clock = SystemClock()
    database = open_database(room.NAME, folder=ground.folder)
    await migrate(database, room.MIGRATIONS)
    verbs = Verbs(database, clock)
    (taker,) = Inbox(room.NAME, database, clock, room.consumers(verbs)).takers()
    await taker.take([_delivery(number, apps[0], 1) for number in range(MANY)])
    proxy = Proxy(verbs.table, clock)
    reader, writer = await asyncio.open_connection("127.0.0.1", await proxy.start("127.0.0.1", 0))
    took: list[float] = []
    for turn in range(20 * ground.size.repetitions):
        number, place = turn * 7 % MANY, (turn + 1) % 2
        version = 2 + turn
        question = f"GET / HTTP/1.1\r\nHost: {host(number)}\r\n\r\n".encode()
        began = time.perf_counter()
        taking = asyncio.create_task(taker.take([_delivery(number, apps[place], version)]))
        while True:
            writer.write(question)
            answer = await reader.readuntil(b"\r\n\r\n") + await reader.readexactly(PADDING)
            if answer.rstrip().endswith((b"old", b"new")[place]):
                break
            if time.perf_counter() - began > READY_WITHIN_SECONDS:
                raise ProgramFailed("a change did not come into effect")
            await asyncio.sleep(ASKS_EVERY_SECONDS)
        took.append(1000 * (time.perf_counter() - began))
        await taking
    writer.close()
    await proxy.stop(0)
    await database.close()
    return took


def _delivery(number: int, port: int, version: int) -> bytes:
    fact = route(number, f"127.0.0.1:{port}", version)
    now = SystemClock().now()
    data = fact.model_dump(mode="json")
    return Envelope(new_id(), "RouteChanged", "workloads", fact.workload_id, now, Origin(), data).to_bytes()
