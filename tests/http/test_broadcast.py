"""Events of a topic, for any number of subscribers: each of them once, and told when it missed some."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from muelle.kit.http.broadcast import Broadcast
from muelle.kit.http.streams import Batch, Event
from tests.waiting import eventually


async def numbers(batches: AsyncIterator[Batch], upto: int) -> list[Any]:
    found: list[Any] = []
    async for batch in batches:
        found += [event.data for event in batch.events]
        if found[-1] == upto:
            break
    return found


async def test_subscribers_get_what_comes_and_resume_where_they_were() -> None:
    broadcast = Broadcast("run", kept_events=100, pause_seconds=0.001)
    broadcast.publish("a", Event("n", 0))
    mark = broadcast.now
    batches = broadcast.subscribe("a")
    waiting = asyncio.create_task(numbers(batches, 9))
    await eventually(lambda: broadcast.subscribers("a"))
    ids = []
    for number in range(1, 10):
        ids.append(broadcast.publish("a", Event("n", number)).id)
        broadcast.publish("b", Event("n", -1))
        await asyncio.sleep(0)
    assert await waiting == list(range(1, 10))
    await batches.aclose()
    assert broadcast.subscribers("a") == 0
    assert await numbers(broadcast.subscribe("a", ids[4]), 9) == [6, 7, 8, 9]
    assert await numbers(broadcast.subscribe("a", mark), 9) == list(range(1, 10))


async def test_who_missed_something_is_told() -> None:
    broadcast = Broadcast("run", kept_events=100, pause_seconds=0)
    first = broadcast.publish("a", Event("n", 0))
    slow = broadcast.subscribe("a", "run.0")
    assert (await anext(slow)).events[0].data == 0
    for number in range(1, 1000):
        broadcast.publish("a", Event("n", number))
    missed = (await anext(slow)).events[0]
    assert missed.name == "missed"
    there = await numbers(slow, 999)
    assert there == list(range(999 - len(there) + 1, 1000))
    assert missed.data == {"events": 999 - len(there)}
    assert 75 <= len(there) <= 100
    for id in (first.id, "earlier.7", "rubbish", "run.x", "run.0"):
        again = broadcast.subscribe("a", id)
        assert (await anext(again)).events[0].name == "missed", id
        assert await numbers(again, 999) == there
        await again.aclose()


async def test_topics_that_nobody_needs_are_forgotten_but_not_that_they_were() -> None:
    broadcast = Broadcast("run", most_topics=10, pause_seconds=0)
    first = broadcast.publish("first", Event("n", 0))
    kept = broadcast.subscribe("kept", broadcast.now)
    waiting = asyncio.create_task(numbers(kept, 1))
    await eventually(lambda: broadcast.subscribers("kept"))
    for number in range(100):
        broadcast.publish(f"topic {number}", Event("n", number))
    assert len(broadcast._topics) == 10
    broadcast.publish("kept", Event("n", 1))
    assert await waiting == [1]
    again = broadcast.subscribe("first", first.id)
    assert (await anext(again)).events[0].name == "missed"
    small = Broadcast("run", most_bytes=50_000, pause_seconds=0)
    for number in range(1000):
        small.publish(f"topic {number % 5}", Event("n", "x" * 1000))
    assert small._bytes <= 50_000
    assert small._bytes == sum(topic.size for topic in small._topics.values())


async def test_what_nobody_published_to_leaves_no_trace() -> None:
    broadcast = Broadcast("run")
    waiting = asyncio.create_task(anext(broadcast.subscribe("a")))
    await eventually(lambda: broadcast.subscribers("a"))
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    await eventually(lambda: not broadcast._topics)
