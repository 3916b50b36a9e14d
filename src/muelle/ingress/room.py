"""Puts the ingress room together from what the application hands in."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import structlog

from muelle.ingress.http import router
from muelle.ingress.proxy import IngressPortTaken, Proxy
from muelle.ingress.verbs import Verbs
from muelle.kit.bus import Consumer, Subscription
from muelle.kit.clock import Clock
from muelle.kit.db import Database
from muelle.kit.db.migrations import Line
from muelle.kit.loops import Loop
from muelle.kit.room import Furniture, Room

NAME = "ingress"
MIGRATIONS = Line(NAME, Path(__file__).parent / "migrations")
ROUTES = Subscription("ingress.routes", frozenset({"RouteChanged"}))
SUBSCRIPTIONS = (ROUTES,)
CLEANING_PERIOD_SECONDS = 3600
CATCHING_UP_PERIOD_SECONDS = 1

_log = structlog.get_logger("muelle.ingress")


def consumers(verbs: Verbs) -> list[Consumer]:
    return [Consumer(ROUTES, verbs.record)]


@dataclass
class Listening:
    """The proxy and where it shall listen; `port` is where it does, 0 while it does not."""

    proxy: Proxy
    host: str
    wanted_port: int
    port: int = 0
    trouble: str = ""

    async def start(self) -> None:
        """A port that is taken is told, and everything else comes up."""
        try:
            self.port = await self.proxy.start(self.host, self.wanted_port)
        except IngressPortTaken as problem:
            self.trouble = problem.message
            _log.error("workloads cannot be reached", error=problem.message, hint=problem.advice)

    async def check(self) -> str:
        if self.trouble:
            raise IngressPortTaken(host=self.host, port=self.wanted_port, reason=self.trouble)
        return f"the built-in proxy, on port {self.port}"


def build(furniture: Furniture, verbs: Verbs, listening: Listening, clock: Clock) -> Room:
    async def open_up() -> None:
        await verbs.load()
        await listening.start()

    return Room(
        name=NAME,
        furniture=furniture,
        verbs=verbs,
        routers=[router],
        loops=loops(furniture.database, verbs, clock),
        open=open_up,
        close=listening.proxy.stop,
    )


def loops(database: Database, verbs: Verbs, clock: Clock) -> list[Loop]:
    found = [Loop("ingress.cleaning", verbs.forget_gone, CLEANING_PERIOD_SECONDS, clock)]
    if database.shared:
        found.append(Loop("ingress.catching_up", verbs.catch_up, CATCHING_UP_PERIOD_SECONDS, clock))
    return found
