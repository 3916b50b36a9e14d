"""What an owner may wish of a workload: that it runs, stops, runs another release, has another name, goes.

Each verb writes a wish and returns; the steward sees to it that it comes true.
"""

from __future__ import annotations

import re
from dataclasses import replace

from muelle.kit.http import Caller
from muelle.kit.ids import new_id_at
from muelle.workloads import queue, store
from muelle.workloads.core import Core
from muelle.workloads.model import (
    LONGEST_NAME,
    NAME_PATTERN,
    BadName,
    NameTaken,
    NoSuchRelease,
    NothingBefore,
    NothingToRun,
    ReleaseIsBad,
    ReleaseIsGone,
    Verdict,
    Wish,
    Workload,
    turn_for,
)


class Wishes:
    def __init__(self, core: Core) -> None:
        self._core = core

    async def start(self, caller: Caller, id: str) -> Workload:
        """One that runs already is left alone."""
        async with self._core.database.transaction() as tx:
            workload = await self._core.lock(tx, caller, id)
            if not workload.release:
                raise NothingToRun
            if workload.wish is Wish.RUNNING:
                return workload
            await self._core.refuse_beyond_quota(tx, workload)
            await self._core.asked(tx, workload, "started")
            return await self._core.change(tx, workload, wish=Wish.RUNNING, turn=workload.turn + 1)

    async def stop(self, caller: Caller, id: str) -> Workload:
        """Gives up what is on its way, too: a release would start it again."""
        async with self._core.database.transaction() as tx:
            workload = await self._core.lock(tx, caller, id)
            if await queue.ask_to_end(tx, id):
                tx.after_commit(lambda: self._core.wakers.builder(id))
            if workload.wish is Wish.STOPPED:
                return workload
            await self._core.asked(tx, workload, "stopped")
            return await self._core.change(tx, workload, wish=Wish.STOPPED)

    async def restart(self, caller: Caller, id: str) -> Workload:
        """A fresh instance of the same release, beside the old one until it answers."""
        async with self._core.database.transaction() as tx:
            workload = await self._core.lock(tx, caller, id)
            if not workload.release:
                raise NothingToRun
            if workload.wish is not Wish.RUNNING:
                await self._core.refuse_beyond_quota(tx, workload)
            await self._core.asked(tx, workload, "restarted")
            return await self._core.change(tx, workload, wish=Wish.RUNNING, turn=workload.turn + 1)

    async def rollback(self, caller: Caller, id: str, number: int = 0) -> Workload:
        """To a release that proved good; without a number, to the newest such one before that which is wished now."""
        workload = await self._core.find(caller, id)
        number = number or await self._before(workload)
        async with self._core.database.reading() as reader:
            release = await store.release_by_number(reader, self._core.box, id, number)
        if release is None:
            raise NoSuchRelease(number=number)
        if release.verdict is Verdict.BAD:
            raise ReleaseIsBad(number=number, why=release.why.words)
        if not await self._core.engine.has_image(release.image):
            raise ReleaseIsGone(number=number)
        async with self._core.database.transaction() as tx:
            workload = await self._core.lock(tx, caller, id)
            await self._core.refuse_beyond_quota(tx, replace(workload, limits=release.spec.limits))
            await self._core.asked(tx, workload, "rolled back", number)
            if await queue.ask_to_end(tx, id):
                tx.after_commit(lambda: self._core.wakers.builder(id))
            runs = workload.wish is Wish.RUNNING and workload.release == number
            turn = workload.turn if runs else turn_for(workload, number)
            wished = store.wished(self._core.box, release.spec)
            return await self._core.change(tx, workload, wish=Wish.RUNNING, release=number, turn=turn, **wished)

    async def rename(self, caller: Caller, id: str, name: str) -> Workload:
        refuse_bad_name(name)
        async with self._core.database.transaction() as tx:
            workload = await self._core.lock(tx, caller, id)
            if name == workload.name:
                return workload
            if await store.workload_by_name(tx, workload.owner_id, name):
                raise NameTaken(name=name)
            await self._core.asked(tx, workload, "renamed")
            return await self._core.change(tx, workload, name=name, claim=new_id_at(self._core.clock.now()))

    async def remove(self, caller: Caller, id: str, *, keep_volumes: bool) -> Workload:
        async with self._core.database.transaction() as tx:
            workload = await self._core.lock(tx, caller, id)
            await self._core.asked(tx, workload, "deleted")
            await queue.ask_to_end(tx, id)
            tx.after_commit(lambda: self._core.wakers.builder(id))
            return await self._core.change(tx, workload, wish=Wish.DELETED, keep_volumes=keep_volumes)

    async def _before(self, workload: Workload) -> int:
        async with self._core.database.reading() as reader:
            known = await store.list_releases(reader, self._core.box, workload.id)
        earlier = [r.number for r in known if r.number < workload.release and r.verdict is Verdict.GOOD]
        if not earlier:
            raise NothingBefore
        return earlier[0]


def refuse_bad_name(name: str) -> None:
    if not re.fullmatch(NAME_PATTERN, name):
        raise BadName(name=name[:LONGEST_NAME], longest=LONGEST_NAME)
