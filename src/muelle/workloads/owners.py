"""What the room keeps of people: only what it needs of their accounts, taken from facts."""

from __future__ import annotations

from muelle.events import AccountChanged
from muelle.kit.bus import Envelope
from muelle.kit.db import Transaction
from muelle.workloads import store
from muelle.workloads.core import Core
from muelle.workloads.model import Wish


class Owners:
    def __init__(self, core: Core) -> None:
        self._core = core

    async def note(self, tx: Transaction, envelope: Envelope) -> None:
        """Holds what a suspended person has running, lets it run again, and deletes it with the account."""
        account = envelope.read(AccountChanged)
        await store.lock_workloads_of(tx, account.account_id)
        owner = await store.ensure_owner(tx, account.account_id, account.email)
        if not await store.note_owner_state(tx, owner.id, account.state, account.version):
            return
        if account.state == owner.state:
            return
        for workload in await store.workloads_of(tx, owner.id):
            gone = {"wish": Wish.DELETED, "keep_volumes": False} if account.state == "deleted" else {}
            await self._core.change(tx, workload, **gone)
