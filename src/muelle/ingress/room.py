"""Puts the ingress room together from what the application hands in."""

from __future__ import annotations

from pathlib import Path

import structlog

from muelle.ingress.caddy import CaddyFailed
from muelle.ingress.drivers import Driver
from muelle.ingress.http import router
from muelle.ingress.proxy import IngressPortTaken, Proxy
from muelle.ingress.verbs import Verbs
from muelle.kit.bus import Consumer, Subscription
from muelle.kit.clock import Clock
from muelle.kit.db import Database
from muelle.kit.db.migrations import Line
from muelle.kit.errors import MuelleError
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


class Listening:
    """What stands at the door, and whether it could be opened."""

    def __init__(self, driver: Driver, proxy: Proxy) -> None:
        self.driver = driver
        self.proxy = proxy
        """The built-in one, which shows the pages whatever the driver is."""
        self._trouble: MuelleError | None = None

    @property
    def port(self) -> int:
        """Where workloads are reached."""
        return self.driver.port

    async def start(self) -> None:
        """A port that is taken is told, and everything else comes up."""
        try:
            await self.driver.start()
        except (IngressPortTaken, CaddyFailed) as problem:
            self._trouble = problem
            _log.error("workloads cannot be reached", error=problem.message, hint=problem.advice)

    async def check(self) -> str:
        if self._trouble is not None:
            raise self._trouble
        return f"{self.driver.name}, on port {self.port}"


def build(furniture: Furniture, verbs: Verbs, listening: Listening, clock: Clock) -> Room:
    verbs.listen(listening.driver.changed)

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
        close=listening.driver.stop,
    )


def loops(database: Database, verbs: Verbs, clock: Clock) -> list[Loop]:
    found = [Loop("ingress.cleaning", verbs.forget_gone, CLEANING_PERIOD_SECONDS, clock)]
    if database.shared:
        found.append(Loop("ingress.catching_up", verbs.catch_up, CATCHING_UP_PERIOD_SECONDS, clock))
    return found
