"""Live: tells each person what becomes of their workloads, as it happens.

Told at the commit of the change, by the process that makes it.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable

from pydantic import BaseModel

from muelle.kit.http.broadcast import Broadcast
from muelle.kit.http.streams import Batch, Event
from muelle.workloads.model import Workload


class Live:
    def __init__(self, run: str, show: Callable[[Workload], BaseModel]) -> None:
        self._broadcast = Broadcast(run)
        self._show = show

    def tell(self, workload: Workload) -> None:
        self._broadcast.publish(workload.owner_id, Event("workload", self._show(workload)))

    def subscribe(self, owner_id: str, last: str | None) -> AsyncGenerator[Batch, None]:
        return self._broadcast.subscribe(owner_id, last)
