"""/api/v1/rooms/<room>/deliveries: facts that a consumer could not take in, and trying them again."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import Path
from pydantic import Field

from muelle.kit.bus import Inbox
from muelle.kit.bus.inbox import NoSuchDelivery
from muelle.kit.http.access import Access
from muelle.kit.http.routes import RoomRouter
from muelle.kit.http.values import Id, Moment, Shown

Consumer = Annotated[str, Path(pattern=r"^[a-z_.]{1,100}$", examples=["audit.record"])]


class ShownDelivery(Shown):
    consumer: str = Field(examples=["audit.record"])
    event_id: Id
    type: str = Field(examples=["LoggedIn"])
    state: Literal["parked", "dead"]
    attempts: int
    next_at: Moment
    last_error: str


def deliveries_router(room: str, inbox: Inbox) -> RoomRouter:
    router = RoomRouter(room, prefix=f"/rooms/{room}/deliveries", tags=["System"])

    @router.get("", Access.admin("system:read"), operation_id=f"deliveries_of_{room}")
    async def list_deliveries(state: Literal["parked", "dead"] | None = None) -> list[ShownDelivery]:
        """What is parked (tried again by itself) or dead (not any more), the oldest hundred."""
        return [ShownDelivery.model_validate(row) for row in await inbox.set_aside(state or "")]

    @router.post(
        "/{consumer}/{event_id}/redrive",
        Access.admin("system:write"),
        raises=[NoSuchDelivery],
        status_code=202,
        operation_id=f"redrive_of_{room}",
    )
    async def redrive(consumer: Consumer, event_id: Id) -> None:
        """Tries again at once, with all attempts ahead of it."""
        await inbox.redrive(consumer, event_id)

    return router
