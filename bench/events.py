"""How long a fact takes from its emit to the commit of whoever handles it, at a steady 200 a second.

Inside one process on SQLite, and between two processes on PostgreSQL over RabbitMQ. Each is held against a peer that
does no more than is needed to move a number that way. Times count from the moment at which a fact was due, so a service
that falls behind cannot hide it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace

from bench.figure import Beside, Figure, at_most, not_measured, percentile
from bench.ground import Ground
from bench.program import Program, ProgramFailed
from bench.services.orders import Orders

PER_SECOND = 200
WARM_UP_SECONDS = 1
IN_PROCESS_P99_MS = 20.0
RABBIT_P99_MS = 100.0
STARTS_WITHIN_SECONDS = 30.0
ARRIVES_WITHIN_SECONDS = 2.0
IN_PROCESS = "event, emit to handled, in process"
OVER_RABBIT = "event, emit to handled, over RabbitMQ"


@dataclass(frozen=True)
class Times:
    """Of those after the warm-up, in milliseconds."""

    p50: float
    p99: float
    most: float


def measure(ground: Ground) -> Iterator[Figure]:
    yield from in_process(ground.part("in-process"))
    if lack := ground.lack("postgres", "rabbitmq"):
        yield not_measured(OVER_RABBIT, lack)
    else:
        yield from over_rabbit(ground.part("over-rabbit"))


def in_process(ground: Ground) -> Iterator[Figure]:
    orders = [_orders(ground, "speaker", "listener")]
    ours = _times(ground, "process", orders)
    peer = _times(ground, "bare_queue", orders)
    what = "asyncio.Queue between two SQLite commits"
    yield from _figures(IN_PROCESS, ours, peer, what, IN_PROCESS_P99_MS)


def over_rabbit(ground: Ground) -> Iterator[Figure]:
    ground.say("starting PostgreSQL and RabbitMQ")
    with ground.postgres() as database_url, ground.rabbit() as rabbit:
        apart = [_orders(ground, "listener"), _orders(ground, "speaker")]
        orders = [replace(each, database_url=database_url, rabbit_url=rabbit.url) for each in apart]
        ours = _times(ground, "process", orders)
        peer = _times(ground, "bare_rabbit", orders)
    what = "aio-pika: publish with confirm, consume; no database"
    yield from _figures(OVER_RABBIT, ours, peer, what, RABBIT_P99_MS)


def _orders(ground: Ground, *roles: str) -> Orders:
    facts = int(PER_SECOND * (WARM_UP_SECONDS + ground.size.event_seconds))
    return Orders(list(roles), str(ground.folder), facts, PER_SECOND)


def _times(ground: Ground, service: str, orders: Sequence[Orders]) -> Times:
    """Runs the service once for each of the orders, the speaker last, and puts together what they noted."""
    ground.say(f"{orders[0].facts} facts through {service}")
    with ExitStack() as running:
        for each in orders:
            log = ground.folder / f"{service}-{'-'.join(each.roles)}.log"
            program = Program.python(log, "-m", f"bench.services.{service}", each.to_argument())
            running.enter_context(program).hear("ready", STARTS_WITHIN_SECONDS)
        program.hear("told", STARTS_WITHIN_SECONDS + orders[0].facts / PER_SECOND)
        time.sleep(ARRIVES_WITHIN_SECONDS)
    due, handled = (json.loads(orders[0].moments(role).read_text()) for role in ("speaker", "listener"))
    return _between(due, handled)


def _between(due: Mapping[str, float], handled: Mapping[str, float]) -> Times:
    if missing := due.keys() - handled.keys():
        raise ProgramFailed(f"{len(missing)} of {len(due)} facts were not handled in time")
    counted = [number for number in due if int(number) > PER_SECOND * WARM_UP_SECONDS]
    took = [1000 * (handled[number] - due[number]) for number in counted]
    return Times(percentile(took, 50), percentile(took, 99), max(took))


def _figures(name: str, ours: Times, peer: Times, what: str, bar_ms: float) -> Iterator[Figure]:
    note = f"at {PER_SECOND} a second; longest {ours.most:.1f} ms, the peer's {peer.most:.1f} ms"
    yield Figure(f"{name}, p50", "ms", ours.p50, None, Beside(what, peer.p50))
    yield Figure(f"{name}, p99", "ms", ours.p99, at_most(bar_ms), Beside(what, peer.p99), note)
