"""The words of the bus: a fact, the envelope that it travels in, who subscribes, and what a driver must do."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar, Protocol, Self, TypeVar

from pydantic import BaseModel, ConfigDict

from muelle.kit.ids import is_id

ALL = "*"
"""Subscribes to every fact."""

LONGEST_TYPE = 100
TAKE_SECONDS = 30.0
"""How long a driver lets a consumer take a batch before it calls that a failure."""
_WORDS = ("id", "type", "room", "subject", "at", "actor", "address", "request")


ANONYMOUS = "anonymous"
"""The actor of a request, as long as it is not known who asks."""


class Fact(BaseModel):
    """Something that happened, in the past tense and for ever. `subject` names the field that says to what.

    Unknown fields are passed over when reading, so that a newer publisher may add some.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")
    subject: ClassVar[str]


AnyFact = TypeVar("AnyFact", bound=Fact)
KindOf = type[AnyFact]


@dataclass(frozen=True)
class Origin:
    """On whose behalf something is done: an account's id or a word like `system`, from where, in which request."""

    actor: str = "system"
    address: str = ""
    request_id: str = ""


origin: ContextVar[Origin] = ContextVar("muelle_origin", default=Origin())  # noqa: B039 - it is frozen


class NoEnvelope(ValueError):
    """What came is no envelope."""


@dataclass(frozen=True)
class Envelope:
    """A fact with what the bus must know of it. `to_bytes` is the one form of it, wherever it goes."""

    id: str
    type: str
    room: str
    subject: str
    at: datetime
    origin: Origin
    data: dict[str, Any] = field(hash=False)

    def read(self, kind: KindOf[AnyFact]) -> AnyFact:
        return kind.model_validate(self.data)

    def to_bytes(self) -> bytes:
        return json.dumps(
            {
                "id": self.id,
                "type": self.type,
                "room": self.room,
                "subject": self.subject,
                "at": self.at.isoformat(),
                "actor": self.origin.actor,
                "address": self.origin.address,
                "request": self.origin.request_id,
                "data": self.data,
            },
            separators=(",", ":"),
        ).encode()

    @classmethod
    def from_bytes(cls, body: bytes) -> Self:
        """Reads an envelope; strict about what the tables of the bus have to hold of it. Raises NoEnvelope."""
        try:
            raw = json.loads(body)
            words = [raw[name] for name in _WORDS]
            if not all(isinstance(word, str) for word in words) or not isinstance(raw["data"], dict):
                raise TypeError("a part of it is of another kind")
            id, type, room, subject, at, *behalf = words
            if not is_id(id) or not type.isidentifier() or len(type) > LONGEST_TYPE:
                raise ValueError("id or type is none")
            return cls(id, type, room, subject, datetime.fromisoformat(at), Origin(*behalf), raw["data"])
        except (ValueError, KeyError, TypeError, RecursionError) as problem:
            raise NoEnvelope(str(problem)) from problem


@dataclass(frozen=True)
class Subscription:
    """Which facts a consumer wants. Known to every process, so that nothing is lost for a consumer not started yet."""

    consumer: str
    types: frozenset[str]

    def wants(self, type: str) -> bool:
        return ALL in self.types or type in self.types


class Taker(Protocol):
    """The consuming end, as a driver sees it."""

    @property
    def subscription(self) -> Subscription: ...

    async def take(self, bodies: Sequence[bytes]) -> list[int]:
        """Makes the batch durable (handled, parked or dead) and returns the places of those that are no envelopes.

        An exception means that nothing of the batch was taken: deliver it again later.
        """
        ...


class Bus(Protocol):
    """A driver. `attach` comes before `start`; `publish` may be called at any time and may take long."""

    def attach(self, taker: Taker) -> None: ...

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def publish(self, envelopes: Sequence[Envelope]) -> set[str]:
        """Delivers and returns the ids that every subscriber is now sure to get; the rest are tried again later."""
        ...

    async def check(self) -> str:
        """Says in a few words what it is connected to; raises where it is not."""
        ...
