"""A room, as the application sees it: what every part of the business brings along, and nothing of what it is about."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from fastapi import APIRouter

from muelle.kit.bus import Inbox, Outbox
from muelle.kit.db import Database
from muelle.kit.http.idempotency import Answers
from muelle.kit.loops import Loop


@dataclass(frozen=True)
class Furniture:
    """What every room stands on: its database, its ways in and out, and the name of this process among replicas."""

    process: str
    database: Database
    outbox: Outbox
    inbox: Inbox
    answers: Answers

    @property
    def loops(self) -> list[Loop]:
        return [self.outbox.relay, self.inbox.redelivery, self.inbox.cleaning, self.answers.cleaning]


async def _nothing() -> None: ...


@dataclass(frozen=True)
class Room:
    name: str
    furniture: Furniture
    verbs: object
    """All that may be asked of it; its routes find it by the room's name."""
    routers: Sequence[APIRouter]
    internal: Sequence[APIRouter] = ()
    """Routes for other processes of the installation: served in the split shape only."""
    loops: Sequence[Loop] = ()
    open: Callable[[], Awaitable[None]] = field(default=_nothing)
    """Before facts come and loops run, when its database is up to date."""
    close: Callable[[], Awaitable[None]] = field(default=_nothing)
