"""What workloads use, as it is now and as it was."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query
from pydantic import Field

from muelle.kit.http import Access, CallerNow, Id, RoomRouter, Shown
from muelle.kit.http.streams import EventStream, LastEventId, tells
from muelle.kit.http.values import Moment
from muelle.workloads.http.desk import WorkloadsNow
from muelle.workloads.metrics import BadSpan, Measured, Point, TooManyPoints
from muelle.workloads.model import NoSuchWorkload

router = RoomRouter("workloads", tags=["Workloads"])

READ = Access.owner_or_admin("workloads:read")
DAY_SECONDS = 86_400


class ShownUsage(Shown):
    """What it used of a machine, on average over a time."""

    at: Moment
    cpu_percent: float = Field(description="Of one processor; 200 is two of them.", examples=[12.5])
    memory_bytes: int = Field(examples=[52_428_800])
    received_per_second: int = Field(description="Bytes.", examples=[1200])
    sent_per_second: int = Field(description="Bytes.", examples=[56_000])

    @classmethod
    def of(cls, point: Point) -> ShownUsage:
        return cls(at=point.at, **vars(point.rates))


class ShownMetrics(ShownUsage):
    """What it uses now."""

    uptime_seconds: int = Field(description="How long the instance that serves has run.", examples=[3600])

    @classmethod
    def now(cls, measured: Measured) -> ShownMetrics:
        return cls(at=measured.at, uptime_seconds=measured.uptime_seconds, **vars(measured.rates))


class UsageOverTime(Shown):
    """What it used over a time, the oldest first. Where nothing is known there is no item."""

    step_seconds: int = Field(description="How long each item's time is.", examples=[60])
    items: list[ShownUsage]


Since = Annotated[Moment | None, Query(description="From when on; else an hour before `until`. 30 days are kept.")]
Until = Annotated[Moment | None, Query(description="Up to when; else up to now.")]
Step = Annotated[
    int | None,
    Query(ge=60, le=DAY_SECONDS, multiple_of=60, description="Seconds of each item; else as short as the time allows."),
]


@router.get("/workloads/{workload_id}/metrics", READ, raises=[NoSuchWorkload, BadSpan, TooManyPoints])
async def read_metrics(
    workload_id: Id,
    caller: CallerNow,
    workloads: WorkloadsNow,
    since: Since = None,
    until: Until = None,
    step: Step = None,
) -> UsageOverTime:
    """What it used: processor, memory and network, by the minute or in longer steps."""
    await workloads.looking.get(caller, workload_id)
    taken, points = await workloads.metrics.series(workload_id, since, until, step)
    return UsageOverTime(step_seconds=taken, items=[ShownUsage.of(point) for point in points])


@router.get("/workloads/{workload_id}/metrics/stream", READ, raises=[NoSuchWorkload], **tells(metrics=ShownMetrics))
async def follow_metrics(workload_id: Id, caller: CallerNow, workloads: WorkloadsNow, last: LastEventId) -> EventStream:
    """What it uses, every four seconds while it runs."""
    await workloads.looking.get(caller, workload_id)
    return EventStream(workloads.metrics.follow(workload_id, last))
