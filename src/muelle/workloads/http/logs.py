"""What programs and builds said: pages of it, and as it comes."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated

from fastapi import Query
from pydantic import Field

from muelle.kit.errors import Invalid
from muelle.kit.http import Access, CallerNow, Id, PlainText, RoomRouter, Shown
from muelle.kit.http.streams import Batch, Event, EventStream, LastEventId, tells
from muelle.kit.http.values import Moment
from muelle.workloads.http.desk import WorkloadsNow
from muelle.workloads.http.shapes import ShownDeployment, ShownWorkload
from muelle.workloads.logbook import Kept, LogBook, Page, Skipped, Stream
from muelle.workloads.model import NoSuchDeployment, NoSuchWorkload
from muelle.workloads.verbs import Verbs

router = RoomRouter("workloads", tags=["Logs"])

READ = Access.owner_or_admin("workloads:read")
LARGEST_CURSOR = 2**53


class BadPlace(Invalid):
    """`Last-Event-ID` is none that this stream gave."""


class ShownLine(Shown):
    """A line."""

    cursor: int = Field(description="Goes up by one with each line, and never means another.", examples=[17])
    at: Moment
    release: int = Field(description="Which release said it; 0: a build.", examples=[1])
    stream: Stream = Field(description="`muelle`: said about the program, or by a build.")
    text: str = Field(examples=["Listening on port 8000"])

    @classmethod
    def of(cls, kept: Kept) -> ShownLine:
        entry = kept.entry
        return cls(cursor=kept.cursor, at=entry.at, release=entry.release, stream=entry.stream, text=entry.text)


class ShownGap(Shown):
    """Lines that came before the next one and are not kept any more."""

    lines: int = Field(examples=[12])


class Lines(Shown):
    """A part of a log, the oldest line first."""

    items: list[ShownLine]
    next: int | None = Field(description="Where to go on (`after`); null where nothing more was there.", examples=[17])

    @classmethod
    def of(cls, page: Page) -> Lines:
        return cls(items=[ShownLine.of(kept) for kept in page.entries], next=page.next)


After = Annotated[int | None, Query(ge=0, le=LARGEST_CURSOR, description="Only lines after this cursor.")]
Limit = Annotated[int, Query(ge=1, le=1000, description="How many at most.")]
Contains = Annotated[PlainText, Query(max_length=200, description="Only lines with this text, in whatever case.")]
Since = Annotated[Moment | None, Query(description="Only lines from this moment on.")]
Until = Annotated[Moment | None, Query(description="Only lines before this moment.")]
OfStream = Annotated[Stream | None, Query(description="Only lines of this one.")]
OfRelease = Annotated[int | None, Query(ge=0, le=10**6, description="Only lines of this release.")]
Tail = Annotated[int | None, Query(ge=1, le=1000, description="The last so many lines, instead of the first ones.")]


@router.get("/workloads/{workload_id}/logs", READ, raises=[NoSuchWorkload])
async def read_logs(
    workload_id: Id,
    caller: CallerNow,
    workloads: WorkloadsNow,
    after: After = None,
    limit: Limit = 200,
    contains: Contains = "",
    since: Since = None,
    until: Until = None,
    stream: OfStream = None,
    release: OfRelease = None,
    tail: Tail = None,
) -> Lines:
    """What its programs wrote, one timeline across all releases."""
    await workloads.looking.get(caller, workload_id)
    wanted = {"since": since, "until": until, "contains": contains, "stream": stream, "release": release}
    if tail is not None:
        return Lines.of(await workloads.logs.tail(workload_id, tail, **wanted))  # type: ignore[arg-type]
    return Lines.of(await workloads.logs.read(workload_id, after, limit, **wanted))  # type: ignore[arg-type]


@router.get(
    "/workloads/{workload_id}/logs/stream",
    READ,
    raises=[NoSuchWorkload, BadPlace],
    **tells(line=ShownLine, gap=ShownGap),
)
async def follow_logs(
    workload_id: Id,
    caller: CallerNow,
    workloads: WorkloadsNow,
    last: LastEventId,
    tail: Tail = None,
) -> EventStream:
    """As they come: from the last event on that was seen, else from the last lines, else from now on."""
    await workloads.looking.get(caller, workload_id)
    after = _place(last)
    if after is None:
        after = await _begin(workloads.logs, workload_id, tail)
    return EventStream(_lines(workloads.logs, workload_id, after))


@router.get("/deployments/{deployment_id}/logs", READ, raises=[NoSuchDeployment])
async def read_build_log(
    deployment_id: Id,
    caller: CallerNow,
    workloads: WorkloadsNow,
    after: After = None,
    limit: Limit = 200,
    contains: Contains = "",
    tail: Tail = None,
) -> Lines:
    """What its build said."""
    await workloads.looking.deployment(caller, deployment_id)
    if tail is not None:
        return Lines.of(await workloads.logs.tail(deployment_id, tail, contains=contains))
    return Lines.of(await workloads.logs.read(deployment_id, after, limit, contains=contains))


@router.get(
    "/deployments/{deployment_id}/logs/stream",
    READ,
    raises=[NoSuchDeployment, BadPlace],
    **tells(line=ShownLine, gap=ShownGap, end=ShownDeployment),
)
async def follow_build(deployment_id: Id, caller: CallerNow, workloads: WorkloadsNow, last: LastEventId) -> EventStream:
    """What its build says, from the beginning or from the last event on that was seen, and how it ended."""
    await workloads.looking.deployment(caller, deployment_id)
    return EventStream(_until_over(workloads, deployment_id, _place(last)))


@router.get("/live/workloads", Access.account("workloads:read"), raises=[BadPlace], **tells(workload=ShownWorkload))
async def follow_workloads(caller: CallerNow, workloads: WorkloadsNow, last: LastEventId) -> EventStream:
    """One's own workloads, each time that one has changed."""
    return EventStream(workloads.live.subscribe(caller.account_id, last))


async def _lines(book: LogBook, timeline: str, after: int | None) -> AsyncGenerator[Batch, None]:
    """Follows a timeline for as long as somebody listens, also one that has no line yet."""
    async with aclosing(book.batches(timeline, after)) as batches:
        async for batch in batches:
            yield _as_events(batch)


async def _until_over(workloads: Verbs, deployment_id: str, after: int | None) -> AsyncGenerator[Batch, None]:
    """Follows a build's log, and ends with what became of it."""
    async with aclosing(workloads.following.deployment(deployment_id, after)) as items:
        async for item in items:
            if isinstance(item, tuple):
                yield _as_events(item)
            else:
                yield Batch((Event("end", ShownDeployment.of(item)),))


def _as_events(batch: tuple[Kept | Skipped, ...]) -> Batch:
    return Batch(
        tuple(
            Event("gap", ShownGap(lines=item.lines))
            if isinstance(item, Skipped)
            else Event("line", ShownLine.of(item), id=str(item.cursor))
            for item in batch
        )
    )


async def _begin(book: LogBook, timeline: str, tail: int | None) -> int | None:
    """After which cursor to begin: before the last lines that are wanted, or at the end."""
    if tail is None:
        return await book.last(timeline)
    page = await book.tail(timeline, tail)
    return page.entries[0].cursor - 1 if page.entries else None


def _place(last: str | None) -> int | None:
    if last is None:
        return None
    if not (last.isascii() and last.isdigit() and len(last) < 17):
        raise BadPlace
    return int(last)
