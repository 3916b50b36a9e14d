"""/internal: how a room in another process learns who is asking. Open to holders of the installation's secret alone."""

from __future__ import annotations

from typing import Annotated

from fastapi import Request
from pydantic import Field

from muelle.kit.http import Access, Body, RoomRouter
from muelle.kit.http.access import TokenExpired, TokenInvalid
from muelle.kit.http.callers import ShownCaller

router = RoomRouter("identity", prefix="/internal", tags=["Internal"], include_in_schema=False)


class Credential(Body):
    credential: Annotated[str, Field(max_length=4096)]


@router.post("/callers", Access.service(), raises=[TokenInvalid, TokenExpired])
async def identify_caller(body: Credential, request: Request) -> ShownCaller:
    """Tells who an access token or API key stands for."""
    return ShownCaller.of(await request.app.state.desk.callers.identify(body.credential))
