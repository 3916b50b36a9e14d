"""/api/v1/workloads/{id}/hosts: names of one's own."""

from __future__ import annotations

from pydantic import Field

from muelle.kit.http import Access, Body, CallerNow, Id, PlainText, RoomRouter, Shown
from muelle.workloads.hosts import MOST_HOSTS, BadHost, HostTaken
from muelle.workloads.http.desk import WorkloadsNow
from muelle.workloads.model import IsBeingDeleted, NoSuchWorkload

router = RoomRouter("workloads", tags=["Workloads"])


class HostsBody(Body):
    """All names of its own that a workload shall have."""

    hosts: list[PlainText] = Field(max_length=MOST_HOSTS, examples=[["shop.example.com"]])


class ShownHosts(Shown):
    """Its names, beside the one that every workload has."""

    hosts: list[str] = Field(max_length=MOST_HOSTS, examples=[["shop.example.com"]])


@router.get("/workloads/{workload_id}/hosts", Access.owner_or_admin("workloads:read"), raises=[NoSuchWorkload])
async def get_hosts(workload_id: Id, caller: CallerNow, workloads: WorkloadsNow) -> ShownHosts:
    """The names of its own that lead to it."""
    return ShownHosts(hosts=list(await workloads.hosts.get(caller, workload_id)))


@router.put(
    "/workloads/{workload_id}/hosts",
    Access.owner_or_admin("workloads:write"),
    raises=[NoSuchWorkload, IsBeingDeleted, BadHost, HostTaken],
)
async def set_hosts(workload_id: Id, body: HostsBody, caller: CallerNow, workloads: WorkloadsNow) -> ShownHosts:
    """Gives it exactly these names. Where they lead to is in the hands of their owner, in the DNS."""
    await workloads.hosts.set(caller, workload_id, body.hosts)
    return ShownHosts(hosts=list(await workloads.hosts.get(caller, workload_id)))
