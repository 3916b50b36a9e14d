"""/api/v1/audit for administrators, and /api/v1/me/history for everybody about themselves."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Annotated, Any, cast

from fastapi import Depends, Query
from pydantic import Field
from starlette.requests import Request

from muelle.audit.chain import Entry
from muelle.audit.verbs import Verbs
from muelle.kit.bus import ANONYMOUS
from muelle.kit.http import Access, Caller, CallerNow, Page, PageQuery, RoomRouter, Shown, page_of
from muelle.kit.http.pages import BadCursor
from muelle.kit.http.values import Moment, PlainText

router = RoomRouter("audit")
Subject = Annotated[PlainText, Query(max_length=100, description="Only what happened to this account.")]
Actor = Annotated[PlainText, Query(max_length=100, description="Only what was done on behalf of this one.")]
Type = Annotated[PlainText, Query(max_length=100, description="Only this kind, such as `LoggedIn`.")]


async def _verbs(request: Request) -> Verbs:
    return cast(Verbs, request.app.state.desk.verbs["audit"])


AuditNow = Annotated[Verbs, Depends(_verbs)]


class ShownEntry(Shown):
    """Something that happened."""

    seq: int = Field(description="Its place in the log.", examples=[17])
    at: Moment
    type: str = Field(examples=["LoggedIn"])
    room: str = Field(description="Where it happened.", examples=["identity"])
    subject: str = Field(description="To what: an account's id.", examples=["019a2b3c4d5e6f708192a3b4"])
    actor: str = Field(
        description="On whose behalf: an account's id, or a word such as `anonymous` or `system`.",
        examples=["019a2b3c4d5e6f708192a3b4"],
    )
    address: str = Field(description="Where the request came from.", examples=["203.0.113.7"])
    request_id: str = Field(examples=["019a2b3c4d5e6f708192a3b5"])
    details: dict[str, Any] | None = Field(
        description="Null where they were erased with the account.", examples=[{"by": "password"}]
    )
    hash: str = Field(description="Of this entry and of all before it.", examples=["9f86d081884c7d65" * 4])

    @classmethod
    def of(cls, entry: Entry) -> ShownEntry:
        return cls(
            seq=entry.seq,
            at=entry.at,
            type=entry.type,
            room=entry.room,
            subject=entry.subject,
            actor=entry.actor,
            address=entry.address,
            request_id=entry.request_id,
            details=None if entry.details is None else json.loads(entry.details),
            hash=entry.hash,
        )

    @classmethod
    def to(cls, caller: Caller, entry: Entry) -> ShownEntry:
        """As the person sees it whom it is about: where somebody who is known sits is not their business."""
        theirs = entry.actor in (caller.account_id, ANONYMOUS)
        return cls.of(entry if theirs else replace(entry, address=""))


class ShownVerdict(Shown):
    """Whether the log is as it was written."""

    whole: bool = Field(examples=[True])
    entries: int = Field(description="How many there are.", examples=[17])
    broken: str = Field(description="What was changed, if anything was.", examples=[""])
    head: str = Field(
        description="Note it elsewhere: it vouches for everything before it.", examples=["9f86d081884c7d65" * 4]
    )


@router.get("/audit", Access.admin("audit:read"), raises=[BadCursor], tags=["Audit"])
async def list_audit_entries(
    cursor: PageQuery, audit: AuditNow, subject: Subject = "", actor: Actor = "", type: Type = ""
) -> Page[ShownEntry]:
    """Everything that happened, the newest first."""
    found = await audit.list(_counted(cursor), subject=subject, actor=actor, type=type)
    return page_of(found, cursor, lambda entry: str(entry.seq), ShownEntry.of)


@router.get("/audit/verify", Access.admin("audit:read"), tags=["Audit"])
async def verify_audit(audit: AuditNow) -> ShownVerdict:
    """Re-computes the whole chain and names the first entry that was changed, if any."""
    verdict = await audit.verify()
    return ShownVerdict(whole=verdict.whole, entries=verdict.entries, broken=verdict.broken, head=verdict.head.hash)


@router.get("/me/history", Access.account("audit:read"), raises=[BadCursor], tags=["Me"])
async def list_my_history(cursor: PageQuery, caller: CallerNow, audit: AuditNow) -> Page[ShownEntry]:
    """What happened to one's own account, the newest first."""
    found = await audit.list(_counted(cursor), subject=caller.account_id)
    return page_of(found, cursor, lambda entry: str(entry.seq), lambda entry: ShownEntry.to(caller, entry))


def _counted(cursor: PageQuery) -> PageQuery:
    if cursor.after is not None and not (cursor.after.isascii() and cursor.after.isdigit() and len(cursor.after) < 18):
        raise BadCursor
    return cursor
