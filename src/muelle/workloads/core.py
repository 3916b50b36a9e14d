"""What every verb of the room stands on: the database, facts on their way out, and whom to wake after a change."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from muelle.engines.protocol import Engine, EngineUnavailable
from muelle.events import Route, RouteChanged, WorkloadAsked, WorkloadChanged
from muelle.kit.bus import Outbox, origin
from muelle.kit.clock import Clock
from muelle.kit.db import Database, Transaction
from muelle.kit.http import Caller
from muelle.kit.ids import new_id_at
from muelle.workloads import store
from muelle.workloads.model import (
    NO_REASON,
    Happening,
    IsBeingDeleted,
    NoSuchWorkload,
    Phase,
    Quota,
    QuotaReached,
    Why,
    Wish,
    Workload,
    release_of,
)
from muelle.workloads.store import Box


@dataclass
class Wakers:
    """Whom a change concerns in this process; filled in by the room when everybody is there."""

    steward: Callable[[str], None] = field(default=lambda _id: None)
    builder: Callable[[str], None] = field(default=lambda _id: None)
    live: Callable[[Workload], None] = field(default=lambda _workload: None)


@dataclass(frozen=True)
class Core:
    database: Database
    outbox: Outbox
    clock: Clock
    box: Box
    engine: Engine
    apps_domain: str
    wakers: Wakers

    def host_of(self, workload: Workload) -> str:
        return f"{workload.name}.{workload.owner_slug}.{self.apps_domain}"

    async def find(self, caller: Caller, id: str) -> Workload:
        """The caller's own workload, or anybody's for an administrator. To others it does not exist."""
        async with self.database.reading() as reader:
            found = await store.workload_by_id(reader, id)
        return _theirs(caller, found)

    async def lock(self, tx: Transaction, caller: Caller, id: str) -> Workload:
        found = _theirs(caller, await store.lock_workload(tx, id))
        if found.wish is Wish.DELETED:
            raise IsBeingDeleted
        return found

    async def change(self, tx: Transaction, workload: Workload, **values: object) -> Workload:
        """Writes, tells those who follow it, and wakes who looks after it."""
        await store.change_workload(tx, workload.id, **values)
        changed = await store.workload_by_id(tx, workload.id)
        if changed is None:
            raise NoSuchWorkload
        await self.tell(tx, changed)
        tx.after_commit(lambda: self.wakers.steward(workload.id))
        return changed

    async def tell(self, tx: Transaction, workload: Workload, *, gone: bool = False) -> None:
        """Everybody whom it may concern, once it is true."""
        tx.after_commit(lambda: self.wakers.live(workload))
        route = route_of(workload) if not gone else (Route.GONE, "")
        hosts = {} if gone or workload.wish is Wish.DELETED else await self._names_of(tx, workload)
        await self.outbox.emit(
            tx,
            RouteChanged(
                workload_id=workload.id,
                owner_id=workload.owner_id,
                version=workload.version,
                hosts=hosts,
                route=route[0],
                address=workload.address if route[0] is Route.OPEN else "",
                why=route[1],
            ),
            WorkloadChanged(
                workload_id=workload.id,
                owner_id=workload.owner_id,
                version=workload.version,
                kind=workload.kind,
                name=workload.name,
                wish=workload.wish.value,
                phase=workload.phase,
                code=workload.why.code,
                why=workload.why.words,
                release=workload.release,
                serving=release_of(workload.serving),
                gone=gone,
            ),
        )

    async def _names_of(self, tx: Transaction, workload: Workload) -> dict[str, str]:
        """All names that lead to it, each with the id of its claim."""
        return {self.host_of(workload): workload.claim, **await store.hosts_of(tx, workload.id)}

    async def note(
        self, tx: Transaction, workload: Workload, what: str, *, release: int = 0, why: Why = NO_REASON
    ) -> None:
        """A line of its history."""
        now = self.clock.now()
        happening = Happening(new_id_at(now), workload.id, now, what, release, why, origin.get().actor)
        await store.add_happening(tx, workload.owner_id, happening)

    async def asked(self, tx: Transaction, workload: Workload, what: str, release: int = 0) -> None:
        await self.note(tx, workload, what, release=release)
        fact = WorkloadAsked(
            workload_id=workload.id, owner_id=workload.owner_id, what=what, name=workload.name, release=release
        )
        await self.outbox.emit(tx, fact)

    async def highest_seen(self, id: str) -> int:
        """The highest release that the engine shows an instance of. More than the table knows, where a backup was put
        back: a number that was used once is never given again, since an instance is known by it."""
        try:
            sightings = await self.engine.observe(id)
        except EngineUnavailable:
            return 0
        return max((release_of(sighting.name) for sighting in sightings), default=0)

    async def refuse_beyond_quota(self, tx: Transaction, workload: Workload) -> None:
        """Whether the owner may have this workload running. Counted with the owner's row locked, so that two at once
        are counted one after the other."""
        owner = await store.lock_owner(tx, workload.owner_id)
        if owner is None:
            raise NoSuchWorkload
        held = await store.held_by(tx, workload.owner_id, but=workload.id)
        _refuse(owner.quota, held, workload)


def _refuse(quota: Quota, held: Quota, workload: Workload) -> None:
    wanted = (
        ("workloads", held.workloads + 1, quota.workloads),
        ("processor", held.cpu_millis + workload.limits.cpu_millis, quota.cpu_millis),
        ("memory", held.memory_bytes + workload.limits.memory_bytes, quota.memory_bytes),
    )
    for what, would_be, allowed in wanted:
        if would_be > allowed:
            raise QuotaReached(what=what, wanted=would_be, allowed=allowed)


def _theirs(caller: Caller, workload: Workload | None) -> Workload:
    if workload is None or (workload.owner_id != caller.account_id and not caller.is_admin):
        raise NoSuchWorkload
    return workload


_CLOSED = {
    Phase.STOPPED: Route.STOPPED,
    Phase.STOPPING: Route.STOPPED,
    Phase.FAILED: Route.FAILED,
    Phase.DELETING: Route.GONE,
}


def route_of(workload: Workload) -> tuple[Route, str]:
    """What is behind its names, and why nothing is."""
    if workload.serving and workload.address:
        return Route.OPEN, ""
    return _CLOSED.get(workload.phase, Route.STARTING), workload.why.words
