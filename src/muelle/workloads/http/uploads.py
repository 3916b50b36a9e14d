"""/api/v1/uploads: archives of source, to be deployed from."""

from __future__ import annotations

from starlette.requests import Request

from muelle.kit.http import Access, CallerNow, RoomRouter
from muelle.workloads.http.desk import WorkloadsNow
from muelle.workloads.http.shapes import ShownUpload
from muelle.workloads.uploads import LARGEST_BYTES, UploadEmpty

router = RoomRouter("workloads", tags=["Workloads"])


@router.post(
    "/uploads",
    Access.account("workloads:write"),
    status_code=201,
    raises=[UploadEmpty],
    stream_limit=LARGEST_BYTES,
)
async def upload(request: Request, caller: CallerNow, workloads: WorkloadsNow) -> ShownUpload:
    """Takes a zip or a tar as the body; deploy it by its id."""
    id, size = await workloads.uploads.keep(caller, request.stream())
    return ShownUpload(id=id, bytes=size)
