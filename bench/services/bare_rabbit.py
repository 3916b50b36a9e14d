"""The peer of the bus over RabbitMQ: aio-pika alone, publishing with confirmation and consuming. No database.

As ours does it: a durable quorum queue, persistent messages, acknowledged when they have come.
"""

from __future__ import annotations

import asyncio
import json
import signal
import time

import aio_pika
import uvloop
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage, AbstractQueue

from bench.services.orders import Orders
from bench.services.rooms import evenly

QUEUE = "bare"
PREFETCH = 256


async def run(orders: Orders) -> None:
    async with await aio_pika.connect(orders.rabbit_url) as connection:
        channel = await connection.channel(publisher_confirms=True)
        queue = await channel.declare_queue(QUEUE, durable=True, arguments={"x-queue-type": "quorum"})
        if "listener" in orders.roles:
            await listen(orders, channel, queue)
        else:
            await speak(orders, channel)


async def speak(orders: Orders, channel: AbstractChannel) -> None:
    moments = {}
    print("ready", flush=True)
    async with asyncio.TaskGroup() as publishing:
        async for number, due in evenly(range(1, orders.facts + 1), orders.per_second):
            moments[number] = due
            body = json.dumps({"number": number}).encode()
            message = aio_pika.Message(body, delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
            publishing.create_task(channel.default_exchange.publish(message, QUEUE))
    orders.moments("speaker").write_text(json.dumps(moments))
    print("told", flush=True)


async def listen(orders: Orders, channel: AbstractChannel, queue: AbstractQueue) -> None:
    moments = {}
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)

    async def hear(message: AbstractIncomingMessage) -> None:
        moments[json.loads(message.body)["number"]] = time.perf_counter()
        await message.ack()

    await channel.set_qos(prefetch_count=PREFETCH)
    await queue.consume(hear)
    print("ready", flush=True)
    await stopping.wait()
    orders.moments("listener").write_text(json.dumps(moments))


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # whoever is done ends by itself
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run(Orders.given()))
