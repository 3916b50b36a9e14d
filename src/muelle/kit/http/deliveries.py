"""/api/v1/rooms/<room>/deliveries: facts that a consumer could not take in, and trying them again."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import Path, Query
from pydantic import Field

from muelle.kit.bus import Inbox
from muelle.kit.bus.inbox import NoSuchDelivery
from muelle.kit.http.access import Access
from muelle.kit.http.routes import RoomRouter
from muelle.kit.http.values import Id, Moment, Shown

Consumer = Annotated[str, Path(pattern=r"^[a-z_.]{1,100}$", examples=["audit.record"])]
State = Annotated[Literal["parked", "dead"] | None, Query(description="Only these; both where it is left out.")]


class ShownDelivery(Shown):
    """A fact that a consumer could not take in."""

    consumer: str = Field(examples=["audit.record"])
    event_id: Id
    type: str = Field(description="The kind of fact.", examples=["LoggedIn"])
    state: Literal["parked", "dead"]
    attempts: int = Field(examples=[3])
    next_at: Moment = Field(description="When it is tried again, if it is parked.")
    last_error: str = Field(examples=["IntegrityError: FOREIGN KEY constraint failed"])


def deliveries_router(room: str, inbox: Inbox) -> RoomRouter:
    router = RoomRouter(room, prefix=f"/rooms/{room}/deliveries", tags=["System"])

    @router.get("", Access.admin("system:read"), operation_id=f"list_{room}_deliveries")
    async def list_deliveries(state: State = None) -> list[ShownDelivery]:
        """What is parked (tried again by itself) or dead (not any more), the oldest hundred."""
        return [ShownDelivery.model_validate(row) for row in await inbox.set_aside(state or "")]

    @router.post(
        "/{consumer}/{event_id}/redrive",
        Access.admin("system:write"),
        raises=[NoSuchDelivery],
        status_code=202,
        operation_id=f"redrive_{room}_delivery",
    )
    async def redrive(consumer: Consumer, event_id: Id) -> None:
        """Tries again at once, with all attempts ahead of it."""
        await inbox.redrive(consumer, event_id)

    return router
