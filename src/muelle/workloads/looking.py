"""What may be seen of workloads: they themselves, their releases, deployments and history, and 30 days in numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from muelle.kit.http import Caller, Cursor
from muelle.workloads import queue, store
from muelle.workloads.core import Core
from muelle.workloads.model import Deployment, Happening, NoSuchDeployment, Release, Spec, Workload

DAYS = 30
DEPLOYED = "released"
FAILED = ("failed", "crashed", "build failed")


@dataclass(frozen=True)
class Day:
    day: date
    deployments: int
    failures: int


class Looking:
    def __init__(self, core: Core) -> None:
        self._core = core

    async def get(self, caller: Caller, id: str) -> Workload:
        return await self._core.find(caller, id)

    async def list(
        self, caller: Caller, cursor: Cursor, *, kind: str = "", name: str = "", everybody: bool = False
    ) -> Sequence[Workload]:
        """One's own; of everybody, for an administrator who asks for it."""
        owner_id = "" if everybody and caller.is_admin else caller.account_id
        async with self._core.database.reading() as reader:
            return await store.list_workloads(reader, cursor, owner_id=owner_id, kind=kind, name=name)

    async def spec(self, caller: Caller, id: str) -> Spec:
        """What the next release will be made with."""
        await self._core.find(caller, id)
        async with self._core.database.reading() as reader:
            return await store.spec_of(reader, self._core.box, id)

    async def releases(self, caller: Caller, id: str) -> Sequence[Release]:
        await self._core.find(caller, id)
        async with self._core.database.reading() as reader:
            return await store.list_releases(reader, self._core.box, id)

    async def history(self, caller: Caller, cursor: Cursor, id: str) -> Sequence[Happening]:
        await self._core.find(caller, id)
        async with self._core.database.reading() as reader:
            return await store.list_history(reader, cursor, id)

    async def deployments(self, caller: Caller, cursor: Cursor, id: str) -> Sequence[Deployment]:
        await self._core.find(caller, id)
        async with self._core.database.reading() as reader:
            return await queue.list_of(reader, cursor, id)

    async def deployment(self, caller: Caller, id: str) -> Deployment:
        async with self._core.database.reading() as reader:
            found = await queue.by_id(reader, id)
        if found is None or (found.owner_id != caller.account_id and not caller.is_admin):
            raise NoSuchDeployment
        return found

    async def statistics(self, caller: Caller) -> Sequence[Day]:
        """Deployments that became releases, and failures, for each of the last 30 days, the oldest first."""
        today = self._core.clock.now()
        first = (today - timedelta(days=DAYS - 1)).replace(hour=0, minute=0, second=0, microsecond=0)
        async with self._core.database.reading() as reader:
            rows = await store.happenings_since(reader, caller.account_id, first, [DEPLOYED, *FAILED])
        made = Counter(row.at.date() for row in rows if row.what == DEPLOYED)
        failed = Counter(row.at.date() for row in rows if row.what in FAILED)
        days = [(first + timedelta(days=number)).date() for number in range(DAYS)]
        return [Day(day, made[day], failed[day]) for day in days]
