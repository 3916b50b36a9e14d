"""All that may be asked of the workloads room."""

from __future__ import annotations

from dataclasses import dataclass

from muelle.workloads.core import Core
from muelle.workloads.deploying import Deploying
from muelle.workloads.executing import Executing
from muelle.workloads.following import Following
from muelle.workloads.hosts import Hosts
from muelle.workloads.live import Live
from muelle.workloads.logbook import LogBook
from muelle.workloads.looking import Looking
from muelle.workloads.metrics import Metrics
from muelle.workloads.model import Workload
from muelle.workloads.quotas import Quotas
from muelle.workloads.uploads import Uploads
from muelle.workloads.wishes import Wishes


@dataclass(frozen=True)
class Verbs:
    core: Core
    apps_address: tuple[str, str]
    """Scheme and port of the addresses that people are shown, such as `("http", ":7080")`."""
    deploying: Deploying
    wishes: Wishes
    looking: Looking
    hosts: Hosts
    quotas: Quotas
    uploads: Uploads
    following: Following
    logs: LogBook
    live: Live
    executing: Executing
    metrics: Metrics

    def url_of(self, workload: Workload) -> str:
        scheme, port = self.apps_address
        return f"{scheme}://{self.core.host_of(workload)}{port}"
