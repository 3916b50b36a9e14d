"""10,000 facts while everything that carries them is killed: lost 0, doubled 0.

Over RabbitMQ: a speaker and a listener, each a process with its room on PostgreSQL; SIGKILL for the broker three times
and for either service once, at points that the seed chooses, each started again on the same data. In one process: both
rooms on SQLite, and SIGKILL for the program five times.

What must arrive is what the speaker's own table says was told, for a number is written there in the transaction of its
emit. The listener's table has a row for each time that a fact was handled, and no guard against a second one.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import aio_pika
from sqlalchemy import func, select

from bench.figure import Figure, exactly, not_measured
from bench.ground import Ground
from bench.program import Program
from bench.services.orders import Orders
from bench.services.rooms import LINE, SUBSCRIPTION, heard, told
from muelle.kit.bus.inbox import deliveries
from muelle.kit.bus.outbox import outbox
from muelle.kit.db import Database, open_database
from muelle.kit.db.migrations import migrate
from tests.servers.rabbit import Rabbit

PER_SECOND = 400
LONGEST_PAUSE_SECONDS = 1.0
LOOKS_EVERY_SECONDS = 0.02
STARTS_WITHIN_SECONDS = 60.0
NO_PROGRESS_SECONDS = 60.0
AFTERWARDS_SECONDS = 3.0
QUEUE_WRITTEN_WITHIN_SECONDS = 30.0
OVER_RABBIT = "kills, over RabbitMQ"
IN_PROCESS = "kills, in process"


def measure(ground: Ground) -> Iterator[Figure]:
    if lack := ground.lack("postgres", "rabbitmq"):
        yield not_measured(OVER_RABBIT, lack)
    else:
        yield from over_rabbit(ground.part("over-rabbit"))
    yield from in_process(ground.part("in-process"))


def over_rabbit(ground: Ground) -> Iterator[Figure]:
    ground.say("starting PostgreSQL and RabbitMQ")
    with ExitStack() as stack:
        database_url, rabbit = stack.enter_context(ground.postgres()), stack.enter_context(ground.rabbit())
        orders = Orders([], str(ground.folder), ground.size.facts, PER_SECOND, database_url, rabbit.url)
        diary = Diary(ground, "rabbit")
        listener = stack.enter_context(_service(replace(orders, roles=["listener"]), diary))
        _wait_until_written(rabbit, orders)
        speaker = stack.enter_context(_service(replace(orders, roles=["speaker"]), diary))
        dice, facts, kills = random.Random(ground.seed), ground.size.facts, ground.size.kills
        blows = [
            *(Blow("the broker", rabbit, "heard", at) for at in spread_out(dice, facts, kills.broker)),
            *(Blow("the speaker", speaker, "told", at) for at in spread_out(dice, facts, kills.speaker)),
            *(Blow("the listener", listener, "heard", at) for at in spread_out(dice, facts, kills.listener)),
        ]
        trial = _Trial(orders, blows, dice, diary)
        outcome = asyncio.run(trial.run([speaker, listener], lambda: _queued(rabbit, orders)))
    yield from _figures(OVER_RABBIT, outcome, diary)


def in_process(ground: Ground) -> Iterator[Figure]:
    orders = Orders(["speaker", "listener"], str(ground.folder), ground.size.facts, PER_SECOND)
    diary = Diary(ground, "in-process")
    with _service(orders, diary) as program:
        dice, size = random.Random(ground.seed), ground.size
        points = spread_out(dice, size.facts, size.kills.program)
        blows = [Blow("the program", program, "heard", at) for at in points]
        outcome = asyncio.run(_Trial(orders, blows, dice, diary).run([program], _nothing_queued))
    yield from _figures(IN_PROCESS, outcome, diary)


class Service(Program):
    def start(self) -> None:
        super().start()
        self.hear("ready", STARTS_WITHIN_SECONDS)


def spread_out(dice: random.Random, facts: int, times: int) -> list[int]:
    """Points on the way, one in each of so many equal stretches between a tenth and nine tenths of it."""
    return [int(facts * (0.1 + 0.8 * (place + dice.random()) / times)) for place in range(times)]


class Diary:
    """What happened when: a file that stays, beside what the services themselves have to say."""

    def __init__(self, ground: Ground, name: str) -> None:
        ground.logs.mkdir(parents=True, exist_ok=True)
        self.file = ground.logs / f"kills-{name}.log"
        self.services = ground.logs / f"kills-{name}-services.log"
        self._say = ground.say
        self._began = time.monotonic()
        self.note(f"{ground.size.facts} facts, seed {ground.seed}")

    def note(self, what: str) -> None:
        with self.file.open("a") as file:
            print(f"{time.monotonic() - self._began:8.3f}  {what}", file=file)
        self._say(what)


@dataclass(frozen=True)
class Blow:
    """One SIGKILL: for whom, and when so many facts are told or heard."""

    whom: str
    victim: Program | Rabbit
    counted: str
    at: int


@dataclass
class Progress:
    told: int = 0
    heard: int = 0
    moved: float = field(default_factory=time.monotonic)


@dataclass(frozen=True)
class Outcome:
    seconds: float
    told: int
    lost: int
    doubled: int
    made_up: int
    """Handled, but never told: the emit was rolled back."""
    left: str
    """What lies about afterwards and should not."""
    blows: str


class _Trial:
    """Watches the facts get through, strikes where the seed says, and counts when all is quiet."""

    def __init__(self, orders: Orders, blows: Sequence[Blow], dice: random.Random, diary: Diary) -> None:
        self._orders = orders
        self._blows = blows
        self._pauses = [dice.uniform(0, LONGEST_PAUSE_SECONDS) for _ in blows]
        self._diary = diary
        self._progress = Progress()

    async def run(self, services: Sequence[Program], queued: Callable[[], Awaitable[int]]) -> Outcome:
        self._told, self._heard = [await self._open(role) for role in ("speaker", "listener")]
        try:
            began = time.monotonic()
            watching = asyncio.create_task(self._watch())
            striking = [asyncio.create_task(self._strike(victim)) for victim in {blow.whom for blow in self._blows}]
            await self._all_through(striking)
            seconds = time.monotonic() - began
            self._diary.note(f"all is quiet after {seconds:.1f} s")
            await asyncio.sleep(AFTERWARDS_SECONDS)
            watching.cancel()
            for service in services:
                await asyncio.to_thread(service.stop)
            return await self._count(seconds, await queued())
        finally:
            for database in (self._told, self._heard):
                await database.close()

    async def _open(self, role: str) -> Database:
        """The service's own database, to look into."""
        database = open_database(role, folder=Path(self._orders.folder), url=self._orders.database_url)
        await migrate(database, LINE)
        return database

    async def _watch(self) -> None:
        while True:
            now = await _number_of(self._told, told), await _number_of(self._heard, heard)
            if now != (self._progress.told, self._progress.heard):
                self._progress = Progress(*now)
            await asyncio.sleep(LOOKS_EVERY_SECONDS)

    async def _strike(self, whom: str) -> None:
        """Each victim's blows, one after the other; different victims may be down at the same time."""
        for blow, pause in zip(self._blows, self._pauses, strict=True):
            if blow.whom != whom:
                continue
            while getattr(self._progress, blow.counted) < blow.at:
                await asyncio.sleep(LOOKS_EVERY_SECONDS / 4)
            await asyncio.to_thread(blow.victim.kill)
            self._diary.note(f"SIGKILL for {whom}: {self._progress.told} told, {self._progress.heard} heard")
            await asyncio.sleep(pause)
            began = time.monotonic()
            await asyncio.to_thread(blow.victim.start)
            self._diary.note(f"{whom} started again, which took {time.monotonic() - began:.1f} s")

    async def _all_through(self, striking: Sequence[asyncio.Task[None]]) -> None:
        """Until everything is told and heard; gives up when nothing moves any more."""
        while not (all(task.done() for task in striking) and await self._nothing_waits()):
            for task in striking:
                if task.done():
                    task.result()
            if time.monotonic() - self._progress.moved > NO_PROGRESS_SECONDS:
                self._diary.note(f"nothing has moved for {NO_PROGRESS_SECONDS:g} s: giving up")
                return
            await asyncio.sleep(LOOKS_EVERY_SECONDS)

    async def _nothing_waits(self) -> bool:
        if self._progress.told < self._orders.facts or self._progress.heard < self._orders.facts:
            return False
        async with self._heard.reading() as reader:
            distinct = await reader.scalar(select(func.count(heard.c.number.distinct())))
        return distinct >= self._orders.facts and not await _number_of(self._told, outbox)

    async def _count(self, seconds: float, queued: int) -> Outcome:
        async with self._told.reading() as reader:
            must = {row.number for row in await reader.all(select(told.c.number))}
        async with self._heard.reading() as reader:
            times = Counter(row.number for row in await reader.all(select(heard.c.number)))
        waiting, aside = await _number_of(self._told, outbox), await _number_of(self._heard, deliveries)
        struck = Counter(blow.whom for blow in self._blows)
        outcome = Outcome(
            seconds=seconds,
            told=len(must),
            lost=len(must - times.keys()),
            doubled=sum(number - 1 for number in times.values()),
            made_up=len(times.keys() - must),
            left=f"{waiting} in the outbox, {queued} in the queue, {aside} set aside",
            blows=", ".join(f"{whom} {times} times" for whom, times in struck.items()),
        )
        self._diary.note(str(outcome))
        return outcome


def _service(orders: Orders, diary: Diary) -> Service:
    return Service.python(diary.services, "-m", "bench.services.process", orders.to_argument())


async def _number_of(database: Database, table: Any) -> int:
    async with database.reading() as reader:
        return int(await reader.scalar(select(func.count()).select_from(table)))


def _wait_until_written(rabbit: Rabbit, orders: Orders) -> None:
    """RabbitMQ 3.10 forgets a quorum queue for good when it is killed before its name is on disk, about a second after
    the queue was made. No driver can mend that, and it happens once in the life of a queue: it is not measured here."""
    until = time.monotonic() + QUEUE_WRITTEN_WITHIN_SECONDS
    while not rabbit.has_written_down(f"{orders.namespace}.{SUBSCRIPTION.consumer}"):
        if time.monotonic() > until:
            raise TimeoutError("the broker has not written the queue down")
        time.sleep(LOOKS_EVERY_SECONDS)


async def _queued(rabbit: Rabbit, orders: Orders) -> int:
    """What is still in the listener's queue: nobody consumes it any more."""
    async with await aio_pika.connect(rabbit.url) as connection:
        queue = await (await connection.channel()).declare_queue(
            f"{orders.namespace}.{SUBSCRIPTION.consumer}", passive=True
        )
        return queue.declaration_result.message_count or 0


async def _nothing_queued() -> int:
    return 0


def _figures(name: str, outcome: Outcome, diary: Diary) -> Iterator[Figure]:
    yield Figure(f"{name}: lost", "facts", outcome.lost, exactly(0), note=f"of {outcome.told} told; {outcome.left}")
    yield Figure(f"{name}: doubled", "facts", outcome.doubled, exactly(0), note=f"SIGKILL: {outcome.blows}")
    yield Figure(f"{name}: handled, never told", "facts", outcome.made_up, exactly(0))
    note = f"at {PER_SECOND} a second it takes {outcome.told / PER_SECOND:.0f} s undisturbed; log: {diary.file}"
    yield Figure(f"{name}: time until all is quiet", "s", outcome.seconds, note=note)
