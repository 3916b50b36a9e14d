"""A pretended instance: what was ordered, what its program does, and how far it has got.

It is small, since there may be thousands: what it does not need yet is not there, and nothing of it ticks by itself.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from datetime import datetime

from muelle.engines.fake.agenda import Agenda, Entry
from muelle.engines.fake.door import Door
from muelle.engines.fake.image import KnownImage
from muelle.engines.fake.program import Program
from muelle.engines.fake.record import Record
from muelle.engines.fake.session import FakeSession
from muelle.engines.protocol import Address, Condition, Order, Sighting, Stream, Usage

NEVER_RAN = 127
NOBODY_LISTENS = 1


class Instance:
    __slots__ = (
        "_due",
        "_ended",
        "_record",
        "_sessions",
        "condition",
        "door",
        "ended_at",
        "exit_code",
        "image",
        "number",
        "order",
        "out_of_memory",
        "reason",
        "started_at",
    )

    def __init__(self, order: Order, image: KnownImage, number: int) -> None:
        self.order = order
        self.image = image
        self.number = number
        """Unique in its world: its address is made of it."""
        self.condition = Condition.CREATED
        self.started_at: datetime | None = None
        self.ended_at: datetime | None = None
        self.exit_code: int | None = None
        self.out_of_memory = False
        self.reason = ""
        self.door: Door | None = None
        self._record: Record | None = None
        self._due: list[Entry] | None = None
        self._sessions: list[FakeSession] | None = None
        self._ended: asyncio.Event | None = None

    @property
    def runs(self) -> bool:
        return self.condition is Condition.RUNNING

    @property
    def program(self) -> Program:
        return self.image.program

    @property
    def record(self) -> Record:
        if self._record is None:
            self._record = Record()
        return self._record

    def environment(self) -> dict[str, str]:
        told = {**self.image.environment, **self.order.environment}
        return {**told, "PORT": str(self.order.port)} if self.order.port else told

    def listens_at_its_port(self) -> bool:
        """Whether who connects to its address finds somebody there, once it has started."""
        return self.program.listens and bool(self.order.port) and self.program.port in (0, self.order.port)

    def begin(self, now: datetime) -> None:
        self.condition = Condition.RUNNING
        self.started_at, self.ended_at, self.exit_code = now, None, None
        self.out_of_memory, self.reason = False, ""

    def end(self, now: datetime, exit_code: int, out_of_memory: bool = False) -> None:
        self.condition = Condition.EXITED
        self.ended_at, self.exit_code, self.out_of_memory = now, exit_code, out_of_memory
        self.forget_what_is_due()
        if self.door is not None:
            self.door.close()
            self.door = None
        for session in list(self._sessions or ()):
            session.kill()
        if self._ended is not None:
            self._ended.set()
            self._ended = None
        self.wake_readers()

    def refuse(self, now: datetime, reason: str) -> None:
        """It could not be started: it has ended without ever having run."""
        self.condition, self.reason = Condition.EXITED, reason
        self.started_at, self.ended_at, self.exit_code = None, now, NEVER_RAN

    def say(self, at: datetime, text: str, stream: Stream = Stream.OUT) -> None:
        self.record.add(at, stream, self.filled_in(text))

    def filled_in(self, text: str) -> str:
        if "{" not in text:
            return text
        environment = self.environment()
        return re.sub(r"\{(\w+)\}", lambda name: environment.get(name[1], name[0]), text)

    def will(self, agenda: Agenda, seconds: float, act: Callable[[], None]) -> None:
        """Lets something happen then, unless the instance has ended before."""
        self._due = [entry for entry in self._due or () if entry.act is not None]
        self._due.append(agenda.after(seconds, act))

    def forget_what_is_due(self) -> None:
        for entry in self._due or ():
            entry.strike()
        self._due = None

    def keep_session(self, session: FakeSession) -> None:
        self._sessions = [*(self._sessions or ()), session]

    def forget_session(self, session: FakeSession) -> None:
        self._sessions = [other for other in self._sessions or () if other is not session] or None

    def wake_readers(self) -> None:
        if self._record is not None:
            self._record.ring()

    def ended(self) -> asyncio.Event:
        """Set when it ends."""
        if self._ended is None:
            self._ended = asyncio.Event()
        return self._ended

    def sighting(self) -> Sighting:
        address = None
        if self.runs and self.order.port:
            address = told_address(self.number) if self.door is None else self.door.address
        return Sighting(
            name=self.order.name,
            workload=self.order.workload,
            condition=self.condition,
            address=address,
            started_at=self.started_at,
            ended_at=self.ended_at,
            exit_code=self.exit_code,
            out_of_memory=self.out_of_memory,
            reason=self.reason,
        )

    def usage(self, now: datetime) -> Usage:
        seconds = (now - (self.started_at or now)).total_seconds()
        limits, door = self.order.limits, self.door
        return Usage(
            at=now,
            cpu_micros=round(seconds * min(self.program.cores * 1000, limits.cpu_millis) * 1000),
            memory_bytes=min(self.program.memory_bytes, limits.memory_bytes),
            received_bytes=0 if door is None else door.received_bytes,
            sent_bytes=0 if door is None else door.sent_bytes,
        )


def told_address(number: int) -> Address:
    """Of an instance without a door: on the loopback, another for each, and nobody is there."""
    return Address(f"127.{64 + (number >> 16) % 128}.{(number >> 8) % 256}.{number % 256}", NOBODY_LISTENS)
