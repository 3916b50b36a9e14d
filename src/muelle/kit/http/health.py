"""Is it alive, is it ready, and how is each part: what load balancers, doctor and Prometheus ask."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

from prometheus_client import CollectorRegistry, Gauge, generate_latest
from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from muelle.kit.clock import Clock
from muelle.kit.http.access import Access
from muelle.kit.http.routes import RoomRouter
from muelle.kit.http.values import Moment
from muelle.kit.loops import Loop, Outcome
from muelle.kit.room import Room

FRESH_SECONDS = 2.0
CHECK_SECONDS = 3.0

Check = Callable[[], Awaitable[str]]


class ShownCheck(BaseModel):
    """A thing that is needed, and whether it answers."""

    ok: bool = Field(examples=[True])
    detail: str = Field(description="What it is, or what is wrong.", examples=["SQLite"])
    age_seconds: float = Field(description="How old this answer is.", examples=[0.4])


class ShownLoop(BaseModel):
    """A piece of work that repeats, and how it went the last time."""

    runs: int = Field(examples=[1204])
    failures_in_a_row: int = Field(examples=[0])
    last_at: Moment | None = Field(description="When it last ran.")
    last_error: str = Field(description="The kind of error, if it failed: the log says more.", examples=[""])
    took_seconds: float = Field(examples=[0.002])

    @classmethod
    def of(cls, outcome: Outcome) -> ShownLoop:
        """Anybody may ask, so that no words of an error are shown: they may name hosts, people and worse."""
        kind = outcome.last_error.partition(":")[0]
        return cls(**vars(outcome) | {"last_error": kind})


class ShownHealth(BaseModel):
    """How everything is that this process needs or does."""

    ready: bool = Field(description="Whether everything is well that nothing can be done without.", examples=[True])
    version: str = Field(examples=["0.1.0"])
    rooms: list[str] = Field(description="The rooms that this process serves.", examples=[["identity", "audit"]])
    checks: dict[str, ShownCheck]
    loops: dict[str, ShownLoop]


class ShownAlive(BaseModel):
    """The process answers."""

    alive: bool = Field(True, examples=[True])
    version: str = Field(examples=["0.1.0"])


@dataclass(frozen=True)
class _Answer:
    ok: bool
    detail: str
    at: datetime


class Health:
    """Asks each dependency at most every `FRESH_SECONDS`, however often it is asked itself."""

    def __init__(
        self,
        version: str,
        rooms: Sequence[Room],
        loops: Sequence[Loop],
        checks: Mapping[str, Check],
        clock: Clock,
        registry: CollectorRegistry,
        *,
        beside: frozenset[str] = frozenset(),
    ) -> None:
        """`beside` names checks without which there is still something to serve: they are shown, and decide nothing."""
        self.version = version
        self._beside = beside
        self._rooms = rooms
        self._loops = loops
        self._checks = checks
        self._clock = clock
        self._registry = registry
        self._answers: dict[str, _Answer] = {}
        self._asking: asyncio.Task[None] | None = None
        self._gauges = _gauges(registry)

    async def report(self) -> ShownHealth:
        await self._refresh()
        now = self._clock.now()
        checks = {
            name: ShownCheck(ok=a.ok, detail=a.detail, age_seconds=round((now - a.at).total_seconds(), 3))
            for name, a in self._answers.items()
        }
        return ShownHealth(
            ready=all(check.ok for name, check in checks.items() if name not in self._beside),
            version=self.version,
            rooms=[room.name for room in self._rooms],
            checks=checks,
            loops={loop.name: ShownLoop.of(loop.outcome) for loop in self._loops},
        )

    async def metrics(self) -> bytes:
        failing = self._gauges[-1]
        await asyncio.gather(*(self._count(room) for room in self._rooms))
        for loop in self._loops:
            failing.labels(loop.name).set(loop.outcome.failures_in_a_row)
        return generate_latest(self._registry)

    async def _count(self, room: Room) -> None:
        """Counts what waits. A database that does not answer must not take the other figures with it: those it has."""
        outbox, deliveries, _ = self._gauges
        waiting, counts = math.nan, {"parked": math.nan, "dead": math.nan}
        with suppress(Exception):  # whatever it is: readiness tells
            async with asyncio.timeout(CHECK_SECONDS):
                waiting = await room.furniture.outbox.waiting()
                counts |= await room.furniture.inbox.counts()
        outbox.labels(room.name).set(waiting)
        for state, count in counts.items():
            deliveries.labels(room.name, state).set(count)

    async def _refresh(self) -> None:
        """Equal questions at the same time share one round."""
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._ask_stale())
        await asyncio.shield(self._asking)

    async def _ask_stale(self) -> None:
        now = self._clock.now()
        known = self._answers
        stale = [n for n in self._checks if n not in known or (now - known[n].at).total_seconds() >= FRESH_SECONDS]
        await asyncio.gather(*(self._ask(name) for name in stale))

    async def _ask(self, name: str) -> None:
        try:
            async with asyncio.timeout(CHECK_SECONDS):
                answer = _Answer(True, await self._checks[name](), self._clock.now())
        except TimeoutError:
            answer = _Answer(False, f"no answer within {CHECK_SECONDS:g} s", self._clock.now())
        except Exception as error:  # whatever it is: it is the answer
            answer = _Answer(False, f"does not answer ({type(error).__name__})", self._clock.now())
        self._answers[name] = answer


def _gauges(registry: CollectorRegistry) -> tuple[Gauge, Gauge, Gauge]:
    return (
        Gauge("muelle_outbox_waiting", "Facts not yet relayed", ["room"], registry=registry),
        Gauge("muelle_deliveries", "Deliveries set aside", ["room", "state"], registry=registry),
        Gauge("muelle_loop_failures_in_a_row", "Failed runs since the last good one", ["loop"], registry=registry),
    )


router = RoomRouter("system", tags=["System"])


@router.get("/health/live", Access.anybody())
async def is_alive(request: Request) -> ShownAlive:
    """Whether the process answers at all."""
    return ShownAlive(alive=True, version=request.app.state.desk.health.version)


@router.get("/health/ready", Access.anybody(), responses={503: {"model": ShownHealth}})
async def is_ready(request: Request) -> ShownHealth:
    """Whether everything it needs answers: each dependency, with the age of its answer, and each loop.

    Answers 503 with the same body where something does not.
    """
    report = await request.app.state.desk.health.report()
    return JSONResponse(report.model_dump(mode="json"), 200 if report.ready else 503)  # type: ignore[return-value]


@router.get("/metrics", Access.operator("system:read"), response_class=PlainTextResponse)
async def get_metrics(request: Request) -> Response:
    """For Prometheus: free from the machine itself, elsewhere with an administrator's key."""
    text = await request.app.state.desk.health.metrics()
    return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")
