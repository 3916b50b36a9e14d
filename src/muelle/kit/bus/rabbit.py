"""The bus between processes, over RabbitMQ: a durable queue for each consumer, and a connection that mends itself.

Every process declares the whole topology from all subscriptions whenever it connects, so that a fact finds the queue of
a consumer that was never started yet. Accepted means confirmed: the broker has the fact in every queue that wants it.

What is delivered goes to the consumer's inbox in batches and is acknowledged after it is durable there. A batch that
cannot be made durable (its database is away) is kept and tried again, not handed back: each time a message comes back
the broker counts, and after `DELIVERY_LIMIT` times it buries it. That count is for messages that kill whoever takes
them; so is the queue of the dead, `<namespace>.dead`, beside what cannot even be read. Delivery tags die with their
channel: after a reconnect everything unacknowledged comes again, and the inbox knows what it has.

The client library's connection does not know when its broker is gone; close callbacks do, and they are what is used.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import urlsplit

import aio_pika
import structlog
from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractExchange, AbstractIncomingMessage, AbstractQueue
from aio_pika.exceptions import ChannelPreconditionFailed

from muelle.kit.bus.facts import ALL, TAKE_SECONDS, Envelope, Subscription, Taker
from muelle.kit.clock import Clock
from muelle.kit.db import refuse_inside_transaction
from muelle.kit.errors import Conflict, Invalid, MuelleError, Unavailable

BATCH = 256
"""The most that is delivered to a consumer ahead of its acknowledgements, and so the most that it takes at once."""
DELIVERY_LIMIT = 100
CONFIRM_SECONDS = 10.0
CONNECT_SECONDS = 5.0
OPEN_SECONDS = 60.0
CONSUME_SECONDS = 10.0
HEARTBEAT_SECONDS = 10
CHECK_SECONDS = 2.0
FIRST_TRY_SECONDS = 1.0
FINISH_SECONDS = 3.0
CLOSE_SECONDS = 1.0
FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 5.0

_log = structlog.get_logger("muelle.bus")


class BadBrokerAddress(Invalid):
    """The address of the message broker makes no sense."""

    hint = "It has the form amqp://user:password@host:port/virtual-host, or amqps:// for TLS."


class BrokerUnavailable(Unavailable):
    """The message broker at {where} cannot be reached: {reason}."""

    hint = "Facts wait in the outbox. See that RabbitMQ runs, and that its address in the settings is right."


class BrokerDiffers(Conflict):
    """The message broker has "{name}" with other properties than this Muelle needs: {difference}."""

    hint = "Let it run empty and delete it (rabbitmqctl delete_queue {name}): it is then made anew."


class QueueSilent(Unavailable):
    """The queue "{name}" of the message broker does not answer."""

    hint = (
        "It may be recovering. Where this lasts it has no leader (RabbitMQ was killed within a second of making it): "
        "delete it (rabbitmqctl delete_queue {name}), and it is made anew."
    )


class RabbitBus:
    def __init__(
        self, url: str, subscriptions: Sequence[Subscription], clock: Clock, namespace: str = "muelle"
    ) -> None:
        self._url = url
        self._where = _host_and_port(url)
        self._topology = _Topology(namespace, tuple(subscriptions))
        self._clock = clock
        self._takers: dict[str, Taker] = {}
        self._link: _Link | None = None
        self._trouble = "not connected yet"
        self._tried = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def attach(self, taker: Taker) -> None:
        self._takers[taker.subscription.consumer] = taker

    async def start(self) -> None:
        """Returns when the first try to connect is over, or takes long; it goes on trying by itself."""
        for name in ("aiormq", "aio_pika"):  # what they have to say is said here, once and without a stack trace
            logging.getLogger(name).setLevel(logging.CRITICAL)
        self._task = asyncio.create_task(self._stay_connected(), name="message broker")
        with suppress(TimeoutError):
            async with asyncio.timeout(FIRST_TRY_SECONDS):
                await self._tried.wait()

    async def stop(self) -> None:
        """Takes no more, lets what was delivered be taken within `FINISH_SECONDS`, and closes."""
        if self._link is not None:
            await self._link.finish()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        self._trouble = "stopped"

    async def publish(self, envelopes: Sequence[Envelope]) -> set[str]:
        refuse_inside_transaction("the message broker")
        return await self._connected().publish(envelopes)

    async def check(self) -> str:
        link = self._connected()
        try:
            async with asyncio.timeout(CHECK_SECONDS):
                version, dead = await link.ask()
        except Exception as problem:
            raise BrokerUnavailable(where=self._where, reason=_words(problem)) from problem
        buried = f", {dead} messages in {self._topology.dead}" if dead else ""
        return f"connected to {self._where} (RabbitMQ {version}{buried})"

    def _connected(self) -> _Link:
        if self._link is None or self._link.ended.is_set():
            raise BrokerUnavailable(where=self._where, reason=self._trouble)
        return self._link

    async def _stay_connected(self) -> None:
        failures = 0
        while True:
            began = asyncio.get_running_loop().time()
            try:
                await self._connect_once()
            except (Exception, asyncio.CancelledError) as problem:  # the library also cancels what waits for the dead
                if _is_cancelled():
                    raise
                self._note(problem)
            lived_long = asyncio.get_running_loop().time() - began > LONGEST_PAUSE_SECONDS
            failures = 1 if lived_long else failures + 1
            await self._clock.sleep(_pause(failures))

    async def _connect_once(self) -> None:
        """One connection from its beginning to its end, which it raises."""
        name = f"{self._topology.namespace}, process {os.getpid()}"
        connection = await aio_pika.connect(
            self._url,
            timeout=CONNECT_SECONDS,
            client_properties={"connection_name": name},
            heartbeat=HEARTBEAT_SECONDS,
        )
        link = _Link(connection, self._topology)
        try:
            async with asyncio.timeout(OPEN_SECONDS):
                await link.open(self._takers.values(), self._clock)
            self._link, self._trouble = link, ""
            _log.info("message broker connected", broker=self._where)
            self._tried.set()
            await link.ended.wait()
            raise ConnectionError(link.why)
        finally:
            self._link = None
            await link.close()

    def _note(self, problem: BaseException) -> None:
        trouble, hint = _words(problem), problem.advice if isinstance(problem, MuelleError) else ""
        if trouble != self._trouble:
            _log.warning("message broker not connected", broker=self._where, error=trouble, hint=hint)
        self._trouble = trouble
        self._tried.set()


@dataclass(frozen=True)
class _Topology:
    """What has to be there in the broker. Declaring what is there already changes nothing."""

    namespace: str
    subscriptions: tuple[Subscription, ...]

    @property
    def facts(self) -> str:
        return f"{self.namespace}.facts"

    @property
    def dead(self) -> str:
        return f"{self.namespace}.dead"

    def queue(self, consumer: str) -> str:
        return f"{self.namespace}.{consumer}"

    def wanted(self, type: str) -> bool:
        return any(subscription.wants(type) for subscription in self.subscriptions)

    async def declare(self, channel: AbstractChannel) -> None:
        facts = await self._declare_exchange(channel, self.facts, aio_pika.ExchangeType.TOPIC)
        dead = await self._declare_exchange(channel, self.dead, aio_pika.ExchangeType.FANOUT)
        await (await self._declare_queue(channel, self.dead, {})).bind(dead)
        arguments: dict[str, str | int] = {
            "x-dead-letter-exchange": self.dead,
            "x-dead-letter-strategy": "at-least-once",
            "x-overflow": "reject-publish",  # without it the dead would be buried at most once
            "x-delivery-limit": DELIVERY_LIMIT,
        }
        for subscription in self.subscriptions:
            queue = await self._declare_queue(channel, self.queue(subscription.consumer), arguments)
            for key in _binding_keys(subscription):
                await queue.bind(facts, key)

    async def _declare_exchange(
        self, channel: AbstractChannel, name: str, type: aio_pika.ExchangeType
    ) -> AbstractExchange:
        try:
            return await channel.declare_exchange(name, type, durable=True)
        except ChannelPreconditionFailed as problem:
            raise BrokerDiffers(name=name, difference=problem) from problem

    async def _declare_queue(
        self, channel: AbstractChannel, name: str, arguments: dict[str, str | int]
    ) -> AbstractQueue:
        try:
            return await channel.declare_queue(name, durable=True, arguments={"x-queue-type": "quorum", **arguments})
        except ChannelPreconditionFailed as problem:
            raise BrokerDiffers(name=name, difference=problem) from problem


class _Link:
    """One connection and its channels, from opening to its end. When any part of it ends, all of it has ended."""

    _facts: AbstractExchange

    def __init__(self, connection: AbstractConnection, topology: _Topology) -> None:
        self.ended = asyncio.Event()
        self.leaving = asyncio.Event()
        self.why = ""
        self._connection = connection
        self._topology = topology
        self._intakes: list[_Intake] = []
        self._finished = False
        connection.close_callbacks.add(self._on_close)

    def end(self, why: str) -> None:
        if not self.ended.is_set():
            self.why = why
            self.leaving.set()
            self.ended.set()

    async def open(self, takers: Iterable[Taker], clock: Clock) -> None:
        channel = await self._new_channel()
        await self._topology.declare(channel)
        self._facts = await channel.get_exchange(self._topology.facts, ensure=False)
        for taker in takers:
            intake = _Intake(taker, self._topology.queue(taker.subscription.consumer), self, clock)
            await intake.open(await self._new_channel())
            self._intakes.append(intake)

    async def _new_channel(self) -> AbstractChannel:
        channel = self._connection.channel(on_return_raises=True)
        channel.close_callbacks.add(self._on_close)
        await channel.initialize()
        return channel

    async def publish(self, envelopes: Sequence[Envelope]) -> set[str]:
        """All at once, since waiting for each confirmation alone would take several times as long."""
        answers = await asyncio.gather(*(self._send(envelope) for envelope in envelopes), return_exceptions=True)
        confirmed, problems = set(), []
        for envelope, answer in zip(envelopes, answers, strict=True):
            if isinstance(answer, BaseException):
                problems.append(_words(answer))
            else:
                confirmed.add(envelope.id)
        if problems:
            _log.warning("facts not confirmed", number=len(problems), of=len(answers), first=problems[0])
        return confirmed

    async def _send(self, envelope: Envelope) -> None:
        await self._facts.publish(
            message_of(envelope),
            routing_key=f"{envelope.room}.{envelope.type}",
            mandatory=self._topology.wanted(envelope.type),
            timeout=CONFIRM_SECONDS,
        )

    async def ask(self) -> tuple[str, int]:
        """The broker's version and the number of the dead, from itself: only an answer says that it is there."""
        if self._connection.transport is None:
            raise ConnectionError("closed")
        version = self._connection.transport.connection.server_properties["version"]
        async with self._connection.channel() as channel:
            queue = await channel.declare_queue(self._topology.dead, passive=True)
            return str(version), queue.declaration_result.message_count or 0

    async def finish(self) -> None:
        """Lets no more come, and what has come be taken, as far as that is quickly done."""
        self.leaving.set()
        with suppress(Exception):
            async with asyncio.timeout(FINISH_SECONDS):
                for intake in self._intakes:
                    await intake.refuse_more()
                await self._all_taken()
        self._finished = True

    async def close(self) -> None:
        """Ends whatever is left of it; a batch that is just being taken may still be taken."""
        self.end("closed")
        if not self._finished:
            with suppress(TimeoutError):
                async with asyncio.timeout(FINISH_SECONDS):
                    await self._all_taken()
        await asyncio.gather(*(intake.close() for intake in self._intakes))
        with suppress(Exception):
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._connection.close()

    async def _all_taken(self) -> None:
        await asyncio.gather(*(intake.all_taken() for intake in self._intakes))

    def _on_close(self, _sender: object, problem: BaseException | None) -> None:
        self.end(_words(problem) if problem else "closed by the broker")


class _Intake:
    """One consumer's deliveries, on a channel of their own: taken in batches, then acknowledged."""

    _queue: AbstractQueue
    _tag: str
    _task: asyncio.Task[None]

    def __init__(self, taker: Taker, queue: str, link: _Link, clock: Clock) -> None:
        self._taker = taker
        self._queue_name = queue
        self._link = link
        self._clock = clock
        self._arrived: asyncio.Queue[AbstractIncomingMessage] = asyncio.Queue()
        self._settled = 0

    async def open(self, channel: AbstractChannel) -> None:
        await channel.set_qos(prefetch_count=BATCH)
        (await channel.get_underlay_channel()).on_consumer_cancel_callbacks.add(self._on_cancel)
        self._queue = await channel.get_queue(self._queue_name, ensure=False)
        try:
            self._tag = await self._queue.consume(self._on_message, timeout=CONSUME_SECONDS)
        except TimeoutError:
            raise QueueSilent(name=self._queue_name) from None
        self._task = asyncio.create_task(self._work(), name=f"intake {self._queue_name}")
        self._task.add_done_callback(lambda _: self._link.end(f"the intake of {self._queue_name} ended"))

    async def refuse_more(self) -> None:
        await self._queue.cancel(self._tag)

    async def all_taken(self) -> None:
        await self._arrived.join()

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _on_message(self, message: AbstractIncomingMessage) -> None:
        self._arrived.put_nowait(message)

    def _on_cancel(self, _frame: object) -> None:
        self._link.end(f"the broker took the queue {self._queue_name} away")

    async def _work(self) -> None:
        while True:
            batch = [await self._arrived.get()]
            while len(batch) < BATCH and not self._arrived.empty():
                batch.append(self._arrived.get_nowait())
            try:
                await self._take(batch)
            finally:
                for _ in batch:
                    self._arrived.task_done()

    async def _take(self, batch: Sequence[AbstractIncomingMessage]) -> None:
        """Takes a batch, with as many tries as it needs. One that is dropped when the link ends comes on the next."""
        wants = self._taker.subscription.wants  # the queue may still be bound for what an earlier version wanted
        wanted = [message for message in batch if message.type is None or wants(message.type)]
        failures = 0
        while not self._link.ended.is_set():
            try:
                async with asyncio.timeout(TAKE_SECONDS):
                    rejected = await self._taker.take([message.body for message in wanted])
            except Exception as problem:
                failures += 1
                _log.warning("delivery failed", queue=self._queue_name, times=failures, error=_words(problem))
                if await self._clock.wait(self._link.leaving, _pause(failures)):
                    return
            else:
                await self._settle(batch, {_tag(wanted[place]) for place in rejected})
                return

    async def _settle(self, batch: Sequence[AbstractIncomingMessage], rejected: set[int]) -> None:
        """Sends what is no fact to the dead and acknowledges the rest: in one frame where nothing lies between."""
        for message in batch:
            if _tag(message) in rejected:
                _log.warning("no fact, sent to the dead", queue=self._queue_name, message=message.message_id)
                await message.reject(requeue=False)
        taken = [message for message in batch if _tag(message) not in rejected]
        highest = max(_tag(message) for message in batch)
        if highest - self._settled == len(batch):
            self._settled = highest
            if taken:
                await max(taken, key=_tag).ack(multiple=True)
        else:
            for message in taken:
                await message.ack()


def message_of(envelope: Envelope) -> aio_pika.Message:
    """What travels. Headers hold words and whole numbers only: the protocol's fractions are too short for a time."""
    return aio_pika.Message(
        envelope.to_bytes(),
        content_type="application/json",
        delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
        message_id=envelope.id,
        type=envelope.type,
        headers={"room": envelope.room},
    )


def _binding_keys(subscription: Subscription) -> list[str]:
    return ["#"] if ALL in subscription.types else sorted(f"*.{type}" for type in subscription.types)


def _host_and_port(url: str) -> str:
    """The part of the address that may be shown."""
    try:
        parts = urlsplit(url)
        port = parts.port or {"amqp": 5672, "amqps": 5671}[parts.scheme]
    except (ValueError, KeyError):
        raise BadBrokerAddress from None  # the cause would quote the password
    if not parts.hostname:
        raise BadBrokerAddress
    return f"{parts.hostname}:{port}"


def _pause(failures: int) -> float:
    longest = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2 ** min(failures, 10))
    return float(longest * random.uniform(0.5, 1.0))


def _tag(message: AbstractIncomingMessage) -> int:
    return message.delivery_tag or 0


def _words(problem: BaseException) -> str:
    return f"{type(problem).__name__}: {problem}" if str(problem) else type(problem).__name__


def _is_cancelled() -> bool:
    """Whether somebody wants this task to end, rather than a library having cancelled what it waited for."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
