"""Puts the audit room together from what the application hands in."""

from __future__ import annotations

from pathlib import Path

from muelle.audit.http import router
from muelle.audit.verbs import Verbs
from muelle.kit.bus import ALL, Consumer, Subscription
from muelle.kit.db.migrations import Line
from muelle.kit.room import Furniture, Room

NAME = "audit"
MIGRATIONS = Line(NAME, Path(__file__).parent / "migrations")
RECORD = Subscription("audit.record", frozenset({ALL}))
SUBSCRIPTIONS = (RECORD,)


def consumers(verbs: Verbs) -> list[Consumer]:
    return [Consumer(RECORD, verbs.record)]


def build(furniture: Furniture, verbs: Verbs) -> Room:
    return Room(name=NAME, furniture=furniture, verbs=verbs, routers=[router])
