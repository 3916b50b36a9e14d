"""GET /api/v1/ingress/routes: where each name leads, for operators."""

from __future__ import annotations

from typing import Annotated, Literal, cast

from fastapi import Depends
from pydantic import Field
from starlette.requests import Request

from muelle.ingress.table import Entry
from muelle.ingress.verbs import Verbs
from muelle.kit.http import Access, Page, PageQuery, RoomRouter, Shown, page_of
from muelle.kit.http.pages import BadCursor

router = RoomRouter("ingress")


async def _verbs(request: Request) -> Verbs:
    return cast(Verbs, request.app.state.desk.verbs["ingress"])


IngressNow = Annotated[Verbs, Depends(_verbs)]


class ShownRoute(Shown):
    """Where a name leads."""

    host: str = Field(examples=["shop.ana.localhost"])
    workload_id: str = Field(examples=["019a2b3c4d5e6f708192a3b4"])
    owner_id: str = Field(examples=["019a2b3c4d5e6f708192a3b5"])
    route: Literal["open", "starting", "stopped", "failed"] = Field(examples=["open"])
    address: str = Field(description="Where the workload is reached; empty where nobody is.", examples=["127.0.0.1:1"])
    why: str = Field(description="What the page says that is shown instead.", examples=[""])

    @classmethod
    def of(cls, entry: Entry) -> ShownRoute:
        return cls(
            host=entry.host,
            workload_id=entry.workload_id,
            owner_id=entry.owner_id,
            route=cast(Literal["open", "starting", "stopped", "failed"], entry.route.value),
            address=entry.address,
            why=entry.why,
        )


@router.get("/ingress/routes", Access.operator("ingress:read"), raises=[BadCursor], tags=["Ingress"])
async def list_routes(cursor: PageQuery, ingress: IngressNow) -> Page[ShownRoute]:
    """Every name that leads to a workload, the oldest claim first."""
    return page_of(await ingress.list(cursor), cursor, lambda entry: entry.place, ShownRoute.of)
