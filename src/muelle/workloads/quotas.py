"""How much each owner may have running: looked at by themselves, set by administrators."""

from __future__ import annotations

from dataclasses import dataclass

from muelle.kit.errors import Missing
from muelle.workloads import store
from muelle.workloads.core import Core
from muelle.workloads.model import Quota

NOTHING = Quota(0, 0, 0)


class NoSuchOwner(Missing):
    """Nobody with that account has ever been heard of here."""


@dataclass(frozen=True)
class Standing:
    allowed: Quota
    held: Quota
    """In number all workloads there are; of the rest, what those hold that shall run."""


class Quotas:
    def __init__(self, core: Core) -> None:
        self._core = core

    async def standing(self, owner_id: str) -> Standing:
        async with self._core.database.reading() as reader:
            owner = await store.owner_by_id(reader, owner_id)
            if owner is None:
                return Standing(Quota(), NOTHING)
            return Standing(owner.quota, await store.held_by(reader, owner_id))

    async def allow(self, owner_id: str, quota: Quota) -> Standing:
        """What runs already goes on running, also where it is less than that."""
        async with self._core.database.transaction() as tx:
            if not await store.set_quota(tx, owner_id, quota):
                raise NoSuchOwner
        return await self.standing(owner_id)
