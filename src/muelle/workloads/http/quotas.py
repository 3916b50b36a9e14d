"""/api/v1/quota and /api/v1/quotas: how much may run."""

from __future__ import annotations

from pydantic import Field

from muelle.kit.http import Access, Body, CallerNow, Id, RoomRouter, Shown
from muelle.kit.http.values import Whole
from muelle.workloads.http.desk import WorkloadsNow
from muelle.workloads.http.shapes import MIB
from muelle.workloads.model import Quota
from muelle.workloads.quotas import NoSuchOwner, Standing

router = RoomRouter("workloads", tags=["Workloads"])


class QuotaBody(Body):
    """What an owner may have."""

    workloads: Whole = Field(ge=0, le=100_000, description="In number, whether they run or not.", examples=[20])
    cpu_millis: Whole = Field(ge=0, le=10**9, description="Thousandths of a processor, together.", examples=[8000])
    memory_mib: Whole = Field(ge=0, le=2**30, description="Together.", examples=[8192])


class ShownQuota(Shown):
    """How much of each."""

    workloads: int = Field(examples=[3])
    cpu_millis: int = Field(examples=[3000])
    memory_mib: int = Field(examples=[1536])

    @classmethod
    def of(cls, quota: Quota) -> ShownQuota:
        return cls(workloads=quota.workloads, cpu_millis=quota.cpu_millis, memory_mib=quota.memory_bytes // MIB)


class ShownStanding(Shown):
    """What somebody may have, and has."""

    allowed: ShownQuota
    held: ShownQuota = Field(description="Of processors and memory, by what shall run.")

    @classmethod
    def of(cls, standing: Standing) -> ShownStanding:
        return cls(allowed=ShownQuota.of(standing.allowed), held=ShownQuota.of(standing.held))


@router.get("/quota", Access.account("workloads:read"))
async def get_quota(caller: CallerNow, workloads: WorkloadsNow) -> ShownStanding:
    """How much one may have running, and how much of it is taken."""
    return ShownStanding.of(await workloads.quotas.standing(caller.account_id))


@router.get("/quotas/{account_id}", Access.admin("workloads:read"))
async def get_quota_of(account_id: Id, workloads: WorkloadsNow) -> ShownStanding:
    """The same of somebody else."""
    return ShownStanding.of(await workloads.quotas.standing(account_id))


@router.put("/quotas/{account_id}", Access.admin("workloads:write"), raises=[NoSuchOwner])
async def set_quota(account_id: Id, body: QuotaBody, workloads: WorkloadsNow) -> ShownStanding:
    """Allows somebody more, or less. What runs already goes on running."""
    quota = Quota(body.workloads, body.cpu_millis, body.memory_mib * MIB)
    return ShownStanding.of(await workloads.quotas.allow(account_id, quota))
