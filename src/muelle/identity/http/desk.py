"""How a route finds the verbs of identity, and tells where a request comes from."""

from __future__ import annotations

from typing import Annotated, cast

from fastapi import Depends
from starlette.requests import Request

from muelle.identity.verbs import Verbs


async def _verbs(request: Request) -> Verbs:
    return cast(Verbs, request.app.state.desk.verbs["identity"])


async def _agent(request: Request) -> str:
    return request.headers.get("user-agent", "")


IdentityNow = Annotated[Verbs, Depends(_verbs)]
AgentNow = Annotated[str, Depends(_agent)]
