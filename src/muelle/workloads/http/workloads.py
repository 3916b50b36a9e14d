"""/api/v1/workloads: making them, wishing something of them, and looking at them."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query

from muelle.kit.http import Access, CallerNow, Id, Page, PageQuery, PlainText, RoomRouter, page_of
from muelle.kit.http.pages import BadCursor
from muelle.workloads.deploying import BadVariable, BadVolume, NoSuchUpload
from muelle.workloads.http.desk import WorkloadsNow
from muelle.workloads.http.shapes import (
    Deploy,
    Deployed,
    NewName,
    NewWorkload,
    Rollback,
    Settings,
    ShownDay,
    ShownDeployment,
    ShownHappening,
    ShownRelease,
    ShownSpec,
    ShownWorkload,
)
from muelle.workloads.model import (
    BadName,
    DeploymentIsOver,
    IsBeingDeleted,
    Kind,
    KindNotHere,
    NameTaken,
    NoSuchDeployment,
    NoSuchRelease,
    NoSuchWorkload,
    NothingBefore,
    NothingToRun,
    QuotaReached,
    ReleaseIsBad,
    ReleaseIsGone,
    Spec,
    Workload,
)
from muelle.workloads.sources.errors import (
    FolderRefused,
    NameRefused,
    PasswordInUrl,
    ReferenceRefused,
    RefRefused,
    SourceUnreadable,
    UrlRefused,
)

router = RoomRouter("workloads", tags=["Workloads"])

MINE = Access.account("workloads:read")
MAKE = Access.account("workloads:write")
READ = Access.owner_or_admin("workloads:read")
WRITE = Access.owner_or_admin("workloads:write")
LOCKED = [NoSuchWorkload, IsBeingDeleted]
SOURCE = [
    FolderRefused,
    NameRefused,
    PasswordInUrl,
    ReferenceRefused,
    RefRefused,
    SourceUnreadable,
    UrlRefused,
]
SETTINGS = [BadVariable, BadVolume, QuotaReached]


@router.post(
    "/workloads",
    MAKE,
    status_code=202,
    raises=[BadName, KindNotHere, NameTaken, *SOURCE, NoSuchUpload, *SETTINGS],
)
async def make_workload(body: NewWorkload, caller: CallerNow, workloads: WorkloadsNow) -> Deployed:
    """Makes a workload and begins its first deployment."""
    source = body.source()
    assert source is not None, "the body has been checked"  # noqa: S101
    workload, deployment = await workloads.deploying.make(
        caller,
        name=body.name,
        kind=body.kind,
        description=body.description,
        source=source,
        template=body.template,
        spec=body.change().applied(Spec()),
    )
    return Deployed(workload=_shown(workloads, workload), deployment=ShownDeployment.of(deployment))


@router.get("/workloads", MINE, raises=[BadCursor])
async def list_workloads(
    cursor: PageQuery,
    caller: CallerNow,
    workloads: WorkloadsNow,
    kind: Annotated[Kind | None, Query(description="Only of this kind.")] = None,
    name: Annotated[PlainText, Query(max_length=40, description="Only the one of this name.")] = "",
    everybody: Annotated[bool, Query(description="For administrators: of all owners.")] = False,
) -> Page[ShownWorkload]:
    """One's own workloads, the newest first."""
    found = await workloads.looking.list(caller, cursor, kind=kind or "", name=name, everybody=everybody)
    return page_of(found, cursor, lambda w: str(w.id), lambda w: _shown(workloads, w))


@router.get("/statistics/workloads", MINE)
async def get_statistics(caller: CallerNow, workloads: WorkloadsNow) -> list[ShownDay]:
    """Deployments and failures of the last 30 days, the oldest first."""
    return [ShownDay.of(day) for day in await workloads.looking.statistics(caller)]


@router.get("/workloads/{workload_id}", READ, raises=[NoSuchWorkload])
async def get_workload(workload_id: Id, caller: CallerNow, workloads: WorkloadsNow) -> ShownWorkload:
    """One workload."""
    return _shown(workloads, await workloads.looking.get(caller, workload_id))


@router.get("/workloads/{workload_id}/settings", READ, raises=[NoSuchWorkload])
async def get_settings(workload_id: Id, caller: CallerNow, workloads: WorkloadsNow) -> ShownSpec:
    """What its next release is made with."""
    return ShownSpec.of(await workloads.looking.spec(caller, workload_id))


@router.post(
    "/workloads/{workload_id}/deploy",
    WRITE,
    status_code=202,
    raises=[*LOCKED, NothingToRun, *SOURCE, NoSuchUpload, *SETTINGS],
)
async def deploy(workload_id: Id, body: Deploy, caller: CallerNow, workloads: WorkloadsNow) -> Deployed:
    """Brings something new to run, or the same once more. What served goes on until the new one has proven good."""
    workload, deployment = await workloads.deploying.deploy(
        caller, workload_id, source=body.source(), template=body.template, change=body.change()
    )
    return Deployed(workload=_shown(workloads, workload), deployment=ShownDeployment.of(deployment))


@router.patch("/workloads/{workload_id}/settings", WRITE, status_code=202, raises=[*LOCKED, *SETTINGS])
async def change_settings(workload_id: Id, body: Settings, caller: CallerNow, workloads: WorkloadsNow) -> ShownWorkload:
    """Changes how it runs: a new release of the same image."""
    return _shown(workloads, await workloads.deploying.change(caller, workload_id, body.change()))


@router.post("/workloads/{workload_id}/start", WRITE, status_code=202, raises=[*LOCKED, NothingToRun, QuotaReached])
async def start_workload(workload_id: Id, caller: CallerNow, workloads: WorkloadsNow) -> ShownWorkload:
    """Starts it."""
    return _shown(workloads, await workloads.wishes.start(caller, workload_id))


@router.post("/workloads/{workload_id}/stop", WRITE, status_code=202, raises=LOCKED)
async def stop_workload(workload_id: Id, caller: CallerNow, workloads: WorkloadsNow) -> ShownWorkload:
    """Stops it, and what is on its way to it. Its volumes stay."""
    return _shown(workloads, await workloads.wishes.stop(caller, workload_id))


@router.post("/workloads/{workload_id}/restart", WRITE, status_code=202, raises=[*LOCKED, NothingToRun, QuotaReached])
async def restart_workload(workload_id: Id, caller: CallerNow, workloads: WorkloadsNow) -> ShownWorkload:
    """Starts it afresh; the old one serves until the new one answers."""
    return _shown(workloads, await workloads.wishes.restart(caller, workload_id))


@router.post(
    "/workloads/{workload_id}/rollback",
    WRITE,
    status_code=202,
    raises=[*LOCKED, NoSuchRelease, NothingBefore, ReleaseIsBad, ReleaseIsGone],
)
async def roll_back(workload_id: Id, body: Rollback, caller: CallerNow, workloads: WorkloadsNow) -> ShownWorkload:
    """Goes back to an earlier release."""
    return _shown(workloads, await workloads.wishes.rollback(caller, workload_id, body.release or 0))


@router.put("/workloads/{workload_id}/name", WRITE, raises=[*LOCKED, BadName, NameTaken])
async def rename_workload(workload_id: Id, body: NewName, caller: CallerNow, workloads: WorkloadsNow) -> ShownWorkload:
    """Gives it another name, and so another address."""
    return _shown(workloads, await workloads.wishes.rename(caller, workload_id, body.name))


@router.delete("/workloads/{workload_id}", WRITE, status_code=202, raises=LOCKED)
async def delete_workload(
    workload_id: Id,
    caller: CallerNow,
    workloads: WorkloadsNow,
    keep_volumes: Annotated[bool, Query(description="Whether its disks stay.")] = False,
) -> ShownWorkload:
    """Deletes it: it is gone when it is not found any more."""
    return _shown(workloads, await workloads.wishes.remove(caller, workload_id, keep_volumes=keep_volumes))


@router.get("/workloads/{workload_id}/releases", READ, raises=[NoSuchWorkload])
async def list_releases(workload_id: Id, caller: CallerNow, workloads: WorkloadsNow) -> list[ShownRelease]:
    """Its releases, the newest first."""
    return [ShownRelease.of(release) for release in await workloads.looking.releases(caller, workload_id)]


@router.get("/workloads/{workload_id}/history", READ, raises=[NoSuchWorkload, BadCursor])
async def list_happenings(
    workload_id: Id, cursor: PageQuery, caller: CallerNow, workloads: WorkloadsNow
) -> Page[ShownHappening]:
    """What happened to it and why, the newest first."""
    found = await workloads.looking.history(caller, cursor, workload_id)
    return page_of(found, cursor, lambda happening: happening.id, ShownHappening.of)


@router.get("/workloads/{workload_id}/deployments", READ, raises=[NoSuchWorkload, BadCursor])
async def list_deployments(
    workload_id: Id, cursor: PageQuery, caller: CallerNow, workloads: WorkloadsNow
) -> Page[ShownDeployment]:
    """Its deployments, the newest first."""
    found = await workloads.looking.deployments(caller, cursor, workload_id)
    return page_of(found, cursor, lambda deployment: str(deployment.id), ShownDeployment.of)


@router.get("/deployments/{deployment_id}", READ, raises=[NoSuchDeployment])
async def get_deployment(deployment_id: Id, caller: CallerNow, workloads: WorkloadsNow) -> ShownDeployment:
    """One deployment."""
    return ShownDeployment.of(await workloads.looking.deployment(caller, deployment_id))


@router.post(
    "/deployments/{deployment_id}/cancel",
    WRITE,
    status_code=202,
    raises=[NoSuchDeployment, DeploymentIsOver, IsBeingDeleted],
)
async def cancel_deployment(deployment_id: Id, caller: CallerNow, workloads: WorkloadsNow) -> ShownDeployment:
    """Gives it up."""
    return ShownDeployment.of(await workloads.deploying.cancel(caller, deployment_id))


def _shown(workloads: WorkloadsNow, workload: Workload) -> ShownWorkload:
    return ShownWorkload.of(workload, workloads.url_of(workload))
