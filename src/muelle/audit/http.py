"""/api/v1/audit for administrators, and /api/v1/me/history for everybody about themselves."""

from __future__ import annotations

import json
from typing import Annotated, Any, cast

from fastapi import Depends, Query
from pydantic import Field
from starlette.requests import Request

from muelle.audit.chain import Entry
from muelle.audit.verbs import Verbs
from muelle.kit.http import Access, CallerNow, Page, PageQuery, RoomRouter, Shown, page_of
from muelle.kit.http.pages import BadCursor
from muelle.kit.http.values import Moment, PlainText

router = RoomRouter("audit", tags=["Audit"])
Filter = Annotated[PlainText, Query(max_length=100)]


async def _verbs(request: Request) -> Verbs:
    return cast(Verbs, request.app.state.desk.verbs["audit"])


AuditNow = Annotated[Verbs, Depends(_verbs)]


class ShownEntry(Shown):
    seq: int = Field(examples=[17])
    at: Moment
    type: str = Field(examples=["LoggedIn"])
    room: str = Field(examples=["identity"])
    subject: str
    actor: str
    address: str
    request_id: str
    details: dict[str, Any] | None = Field(description="Null where they were erased with the account.")
    hash: str

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


class ShownVerdict(Shown):
    whole: bool
    entries: int
    broken: str
    head: str = Field(description="Note it elsewhere: it vouches for everything before it.")


@router.get("/audit", Access.admin("audit:read"), raises=[BadCursor])
async def list_entries(
    cursor: PageQuery, audit: AuditNow, subject: Filter = "", actor: Filter = "", type: Filter = ""
) -> Page[ShownEntry]:
    """Everything that happened, the newest first."""
    found = await audit.list(_counted(cursor), subject=subject, actor=actor, type=type)
    return page_of(found, cursor, lambda entry: str(entry.seq), ShownEntry.of)


@router.get("/audit/verify", Access.admin("audit:read"))
async def verify(audit: AuditNow) -> ShownVerdict:
    """Re-computes the whole chain and names the first entry that was changed, if any."""
    verdict = await audit.verify()
    return ShownVerdict(
        whole=verdict.whole, entries=verdict.entries, broken=verdict.broken, head=verdict.head.hash
    )


@router.get("/me/history", Access.account("audit:read"), raises=[BadCursor])
async def my_history(cursor: PageQuery, caller: CallerNow, audit: AuditNow) -> Page[ShownEntry]:
    """What happened to one's own account, the newest first."""
    found = await audit.list(_counted(cursor), subject=caller.account_id)
    return page_of(found, cursor, lambda entry: str(entry.seq), ShownEntry.of)


def _counted(cursor: PageQuery) -> PageQuery:
    if cursor.after is not None and not (cursor.after.isascii() and cursor.after.isdigit() and len(cursor.after) < 18):
        raise BadCursor
    return cursor
