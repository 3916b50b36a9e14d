"""Housekeeping: gives back what nobody can want any more, by reference and with a grace, and only what Muelle made.

Images go when no protected release needs them, log lines beyond what an owner may keep, builds' logs with all but the
newest deployments, and history after its time. An engine tidies up after itself.
"""

from __future__ import annotations

from collections import defaultdict
from datetime import timedelta

import structlog

from muelle.kit.loops import Lease, Loop
from muelle.workloads import queue, store
from muelle.workloads.core import Core
from muelle.workloads.model import PROTECTED_RELEASES
from muelle.workloads.scribe import Scribe

PERIOD_SECONDS = 600.0
IMAGE_GRACE_SECONDS = 3600.0
"""How long an image is left that no release needs: one is just being made of it, perhaps."""
LOG_BYTES_PER_OWNER = 128 * 2**20
KEPT_DEPLOYMENT_LOGS = 20
"""Of a workload, the newest."""
HISTORY_DAYS = 180

_log = structlog.get_logger("muelle.workloads")


class Housekeeping:
    def __init__(self, core: Core, scribe: Scribe, lease: Lease) -> None:
        self._core = core
        self._engine = core.engine
        self._scribe = scribe
        self.loop = Loop("workloads.housekeeping", self.clean, PERIOD_SECONDS, core.clock, lease=lease)

    async def clean(self) -> bool:
        """Once through everything; what fails is tried again the next time, and keeps nothing else from being done."""
        problems = []
        for work in (self._images, self._logs, self._history, self._engine.tidy):
            try:
                await work()
            except Exception as problem:
                problems.append(problem)
        if problems:
            raise problems[0]
        return False

    async def _images(self) -> None:
        before = self._core.clock.now() - timedelta(seconds=IMAGE_GRACE_SECONDS)
        old = [image for image in await self._engine.images() if image.made_at < before]
        if not old:
            return
        async with self._core.database.reading() as reader:
            needed = await store.protected_images(reader, PROTECTED_RELEASES)
        for image in old:
            if image.id not in needed:
                await self._engine.remove_image(image.id)
                _log.info("image removed", image=image.id, build=image.build, bytes=image.size_bytes)

    async def _logs(self) -> None:
        async with self._core.database.reading() as reader:
            workloads = await store.all_workloads(reader)
            old = await queue.beyond_newest(reader, KEPT_DEPLOYMENT_LOGS)
        await self._scribe.forget(old)
        by_owner: dict[str, list[str]] = defaultdict(list)
        for workload in workloads:
            by_owner[workload.owner_id].append(workload.id)
        for timelines in by_owner.values():
            await self._scribe.book.bound(timelines, LOG_BYTES_PER_OWNER)

    async def _history(self) -> None:
        async with self._core.database.transaction() as tx:
            await store.forget_history(tx, self._core.clock.now() - timedelta(days=HISTORY_DAYS))
