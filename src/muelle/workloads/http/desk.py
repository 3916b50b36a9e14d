"""How a route finds the verbs of workloads."""

from __future__ import annotations

from typing import Annotated, cast

from fastapi import Depends
from starlette.requests import Request

from muelle.workloads.verbs import Verbs


async def _verbs(request: Request) -> Verbs:
    return cast(Verbs, request.app.state.desk.verbs["workloads"])


WorkloadsNow = Annotated[Verbs, Depends(_verbs)]
