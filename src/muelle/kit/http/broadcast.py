"""`Broadcast`: tells events of a topic to whoever listens to it, and keeps the last ones for who comes back.

    broadcast.publish(f"owner:{account_id}", Event("phase", shown))
    EventStream(broadcast.subscribe(f"owner:{account_id}", last_id))

A subscriber is a place in the topic's ring and nothing more, so that a slow one costs as much as a quick one; when the
ring has turned past its place it is told `missed`, and goes on with what there is. Subscribers of a topic are woken
together: at once when it was quiet, and at most every `pause_seconds` when it is busy, with all that came meanwhile.

It is about this process only. Ids are good within it: with one of an earlier process a reader is told `missed` as well.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import AsyncGenerator
from dataclasses import replace

from muelle.kit.http.streams import Batch, Event

KEPT_EVENTS = 1024
KEPT_BYTES = 256 * 1024
"""Of a topic."""
MOST_BYTES = 64 * 1024 * 1024
MOST_TOPICS = 10_000
"""Of all topics together: those without subscribers that were quiet longest are forgotten first."""
PAUSE_SECONDS = 0.05
MISSED = "missed"


class Broadcast:
    def __init__(
        self,
        run: str,
        *,
        kept_events: int = KEPT_EVENTS,
        kept_bytes: int = KEPT_BYTES,
        most_bytes: int = MOST_BYTES,
        most_topics: int = MOST_TOPICS,
        pause_seconds: float = PAUSE_SECONDS,
    ) -> None:
        """`run` tells this process from those before it: any name without a dot."""
        self._run = run
        self._kept_events = kept_events
        self._kept_bytes = kept_bytes
        self._most_bytes = most_bytes
        self._most_topics = most_topics
        self._pause = pause_seconds
        self._topics: OrderedDict[str, _Topic] = OrderedDict()
        self._number = 0
        self._forgotten = 0
        """The highest number of an event in a topic that was forgotten as a whole."""
        self._bytes = 0

    def publish(self, topic: str, event: Event) -> Event:
        """Tells it to all subscribers. Its id, whatever it was, becomes one by which they can resume."""
        self._number += 1
        numbered = replace(event, id=f"{self._run}.{self._number}")
        found = self._topic(topic)
        self._bytes += found.add(self._number, numbered)
        self._bytes -= found.trim(self._kept_events, self._kept_bytes)
        found.wake(self._pause)
        self._topics.move_to_end(topic)
        self._forget_some(topic)
        return numbered

    async def subscribe(self, topic: str, last_id: str | None = None) -> AsyncGenerator[Batch, None]:
        """The events after that one, and then those that come; without one, those that come.

        To be called when the reader is there: it is subscribed from the first time that it is asked for an event.
        """
        found = self._topic(topic)
        found.subscribers += 1
        found.show()
        try:
            place = found.end if last_id is None else found.place_after(self._number_of(last_id))
            while True:
                changed = found.changed
                if place < found.begin:
                    missed = Event(MISSED, {"events": None if place < 0 else found.begin - place})
                    place = found.begin
                    yield Batch((missed,))
                batch = found.since(place)
                if batch is not None:
                    place += len(batch.events)
                    yield batch
                else:
                    await changed.wait()
        finally:
            found.subscribers -= 1
            if not found.end and not found.subscribers and self._topics.get(topic) is found:
                del self._topics[topic]

    @property
    def now(self) -> str:
        """The id to subscribe from, taken before looking how things are, so that no change is missed."""
        return f"{self._run}.{self._number}"

    def subscribers(self, topic: str) -> int:
        found = self._topics.get(topic)
        return found.subscribers if found else 0

    def _topic(self, name: str) -> _Topic:
        found = self._topics.get(name)
        if found is None:
            found = self._topics[name] = _Topic(self._forgotten)
        return found

    def _number_of(self, id: str) -> int:
        run, _, number = id.rpartition(".")
        return int(number) if run == self._run and number.isdigit() and len(number) < 20 else -1

    def _forget_some(self, but: str) -> None:
        if self._bytes <= self._most_bytes and len(self._topics) <= self._most_topics:
            return
        for name, topic in list(self._topics.items()):
            if not topic.subscribers and name != but:
                del self._topics[name]
                self._forgotten = max(self._forgotten, topic.last)
                self._bytes -= topic.size
            if self._bytes <= self._most_bytes and len(self._topics) <= self._most_topics:
                return


class _Topic:
    """A ring of events. `begin` and `end` are places, counted from the topic's first event on."""

    def __init__(self, forgotten: int) -> None:
        self.subscribers = 0
        self.changed = asyncio.Event()
        self.begin = 0
        self.size = 0
        self._forgotten = forgotten
        """The highest number of an event that was in it and is not any more."""
        self._events: list[Event] = []
        self._numbers: list[int] = []
        self._shared: tuple[int, int, Batch] | None = None
        self._shown = 0
        self._woken_at = 0.0
        self._waking = False

    @property
    def end(self) -> int:
        return self.begin + len(self._events)

    @property
    def last(self) -> int:
        return self._numbers[-1] if self._numbers else self._forgotten

    def add(self, number: int, event: Event) -> int:
        self._events.append(event)
        self._numbers.append(number)
        self.size += len(event.frame)
        return len(event.frame)

    def trim(self, most_events: int, most_bytes: int) -> int:
        """Drops a quarter at a time, and not each time: lists are quick at the end and slow at the beginning."""
        if len(self._events) <= most_events and self.size <= most_bytes:
            return 0
        count, before = 0, self.size
        while count < len(self._events) - 1 and (
            len(self._events) - count > most_events * 3 // 4 or self.size > most_bytes * 3 // 4
        ):
            self.size -= len(self._events[count].frame)
            count += 1
        if count:
            self._forgotten = self._numbers[count - 1]
            del self._events[:count], self._numbers[:count]
            self.begin += count
            self._shown = max(self._shown, self.begin)
        return before - self.size

    def place_after(self, number: int) -> int:
        """Where who has seen that event goes on; -1 where it is not known what they missed."""
        return -1 if number < self._forgotten else self.begin + bisect_right(self._numbers, number)

    def since(self, place: int) -> Batch | None:
        """The events from a place on. Subscribers that are equally far share one batch."""
        if place >= self._shown:
            return None
        if self._shared is None or self._shared[:2] != (place, self._shown):
            events = self._events[place - self.begin : self._shown - self.begin]
            self._shared = place, self._shown, Batch(tuple(events))
        return self._shared[2]

    def show(self) -> None:
        """Lets subscribers see all that there is. Between two wakes they see no more than at the first, or a busy topic
        would hand its events out one by one."""
        self._shown = self.end
        self._shared = None

    def wake(self, pause: float) -> None:
        if self._waking or not self.subscribers:
            return
        loop = asyncio.get_running_loop()
        self._waking = True
        loop.call_at(max(loop.time(), self._woken_at + pause), self._wake_now, loop)

    def _wake_now(self, loop: asyncio.AbstractEventLoop) -> None:
        self._waking = False
        self._woken_at = loop.time()
        self.show()
        self.changed.set()
        self.changed = asyncio.Event()
