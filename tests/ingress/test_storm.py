"""After many clients and programs that do as they like, nothing is left behind, and nobody got another's answer."""

from __future__ import annotations

import asyncio
import logging
import random
from contextlib import suppress
from dataclasses import replace

import pytest

from muelle.events import Route
from tests.ingress.harbour import HOST, SHORT, Harbour, harbour
from tests.ingress.program import Call, Program
from tests.waiting import eventually

CLIENTS = 40
REQUESTS = 12


def moody(dice: random.Random, word: bytes) -> Program:
    """Answers with its own word and what it was asked for, or does something else."""

    async def handle(call: Call) -> bool:
        mood = dice.random()
        if mood < 0.08:
            call.writer.transport.abort()
            return False
        if mood < 0.12:
            await call.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
            return False
        if mood < 0.2:
            await call.answer(word + b" " + call.target.encode())
            return False
        body = await call.body()
        if mood < 0.3:
            await asyncio.sleep(dice.random() / 50)
        whole = word + b" " + call.target.encode() + b" " + b"%d" % len(body)
        if mood < 0.6:
            await call.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            await call.send(b"%x\r\n%b\r\n0\r\n\r\n" % (len(whole), whole))
        else:
            await call.answer(whole)
        return True

    return Program(handle)


async def moody_client(port: Harbour, dice: random.Random, number: int) -> int:
    answered = 0
    line = await port.line()
    for turn in range(REQUESTS):
        target = f"/{number}/{turn}"
        body = b"x" * dice.choice([0, 0, 10, 100_000])
        head = f"{dice.choice(['GET', 'PUT', 'POST'])} {target} HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {len(body)}"
        try:
            await line.send(head.encode() + b"\r\n\r\n" + body)
            if dice.random() < 0.1:
                line.writer.transport.abort()
                raise ConnectionError
            reply = await line.reply()
            if reply.status == 200:
                word, asked, *length = reply.body.split(b" ")
                assert (word, asked) == (b"shop", target.encode()), reply
                assert not length or int(length[0]) == len(body)
                answered += 1
            if reply.headers.get("connection") == "close":
                raise ConnectionError
        except (ConnectionError, asyncio.IncompleteReadError):
            line.close()
            line = await port.line()
    line.close()
    return answered


@pytest.mark.parametrize("seed", range(3))
async def test_after_a_storm_nothing_is_left(seed: int, caplog: pytest.LogCaptureFixture) -> None:
    dice = random.Random(seed)
    limits = replace(SHORT, answer_seconds=5, body_seconds=5, idle_upstream_seconds=0.1, buffer_bytes=8192)
    async with harbour(limits) as port, moody(dice, b"shop") as first, moody(dice, b"shop") as second:
        async with moody(dice, b"bar") as other:
            port.lead(first)
            port.lead(other, host="bar.localhost", workload="bar")
            clients = [asyncio.create_task(moody_client(port, dice, number)) for number in range(CLIENTS)]
            while not all(client.done() for client in clients):
                port.lead(*dice.choice([(first,), (second,), ("127.0.0.1:1",)]))
                if dice.random() < 0.2:
                    port.lead(route=Route.STARTING)
                    await asyncio.sleep(0.01)
                    port.lead(first)
                await asyncio.sleep(0.02)
            assert sum([await client for client in clients]) > CLIENTS
        await eventually(lambda: port.proxy.under_way() == {})
        await eventually(lambda: port.proxy.counters.connections == 0)
        await eventually(lambda: not port.proxy._pools)
        await eventually(lambda: not first._writers and not second._writers)
        assert not port.proxy._waiting
        with suppress(StopIteration):
            raise AssertionError(next(record for record in caplog.records if record.levelno >= logging.ERROR))
