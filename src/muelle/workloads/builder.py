"""The builder: turns deployments into releases, a few at a time.

A deployment is a row; who builds it holds a lease on the row. One that its builder did not live to end is begun again
by whoever finds it, twice at most. The newest of a workload wins: an older one is given up as soon as it is seen. To
cancel is to mark the row: the task that builds it is cancelled at once where it runs in this process, within a second
elsewhere, and nothing else is touched.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import structlog

from muelle.engines.protocol import BuildOrder, Disk, Image, Limits
from muelle.engines.recipe import OwnDockerfile, Recipe
from muelle.events import DeploymentEnded
from muelle.kit.db import Transaction
from muelle.kit.errors import Invalid, MuelleError, Unavailable
from muelle.kit.loops import Loop
from muelle.workloads import queue, store
from muelle.workloads.core import Core
from muelle.workloads.deploying import add_release
from muelle.workloads.materials import Materials
from muelle.workloads.model import (
    NO_REASON,
    Deployment,
    DeploymentState,
    Release,
    Spec,
    Verdict,
    Why,
    Wish,
    Workload,
)
from muelle.workloads.scribe import Journal, Scribe
from muelle.workloads.sources import model as sources
from muelle.workloads.sources.model import ImageSource

PERIOD_SECONDS = 10.0
AT_ONCE = 2
MOST_ATTEMPTS = 3
BUILD_SECONDS = 900.0
RENEW_SECONDS = 1.0
DISK_RESERVE = 0.05
"""The part of the engine's disk that no build may eat into."""
DISK_RESERVE_BYTES = 1 * 2**30

Say = Callable[[str], None]
_log = structlog.get_logger("muelle.workloads")


class DiskNearlyFull(Unavailable):
    """The disk is nearly full: {free_mib} MiB are left, and {reserve_mib} MiB are kept free for what runs."""

    hint = "Delete workloads that are not needed any more, or give the machine more room."


class BuildTookTooLong(Invalid):
    """The build took longer than {seconds} seconds."""


class GaveUp(Unavailable):
    """The build was interrupted {times} times."""

    hint = "Deploy it again."


@dataclass(frozen=True)
class BuildRules:
    folder: Path
    limits: Limits = field(default_factory=lambda: Limits(2000, 2 * 2**30, 1024))
    seconds: float = BUILD_SECONDS
    at_once: int = AT_ONCE
    trusted: str = ""


class Builder:
    def __init__(self, core: Core, process: str, rules: BuildRules, materials: Materials, scribe: Scribe) -> None:
        self._core = core
        self._engine = core.engine
        self._process = process
        self._rules = rules
        self._materials = materials
        self._scribe = scribe
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._swept = False
        self.loop = Loop("workloads.build", self._take_up, PERIOD_SECONDS, core.clock)

    def wake(self, _workload: str = "") -> None:
        self.loop.wake()

    async def close(self) -> None:
        """Ends what is being built; the rows stay, and it is begun again at the next start."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def _take_up(self) -> bool:
        """Ends what shall end, then takes as much as there is room for."""
        await self._end_what_shall_end()
        room = self._rules.at_once - len(self._tasks)
        now = self._core.clock.now()
        if not self._core.database.shared:
            await self._let_go_of_orphans()
        if not self._swept:
            await asyncio.to_thread(self._sweep)
        async with self._core.database.reading() as reader:
            if room <= 0 or not await queue.any_due(reader, now):
                return False
        async with self._core.database.transaction() as tx:
            taken = await queue.claim(tx, self._process, now, room)
        for id in taken:
            self._tasks[id] = asyncio.create_task(self._see_through(id), name=f"build {id}")
        return False

    def _sweep(self) -> None:
        """What builds left behind that did not live to clean up: none is under way when this first runs."""
        self._swept = True
        if self._rules.folder.is_dir():
            for left in self._rules.folder.iterdir():
                shutil.rmtree(left, ignore_errors=True)

    async def _let_go_of_orphans(self) -> None:
        async with self._core.database.reading() as reader:
            if not await queue.any_building(reader, list(self._tasks)):
                return
        async with self._core.database.transaction() as tx:
            await queue.let_go_of_all(tx, list(self._tasks), self._core.clock.now())

    async def _end_what_shall_end(self) -> None:
        async with self._core.database.reading() as reader:
            waiting = await queue.cancelled_in_queue(reader)
            ending = [id for id in self._tasks if await queue.shall_end(reader, id)]
        for id in ending:
            self._tasks[id].cancel()
        for id in waiting:
            await self._close(id, DeploymentState.CANCELLED, Why("cancelled", "It was cancelled."))

    async def _see_through(self, id: str) -> None:
        """Builds, keeps the lease meanwhile, and writes down how it ended."""
        keeping = asyncio.create_task(self._keep(id, asyncio.current_task()))
        try:
            async with self._scribe.journal(id) as journal:
                await self._try(id, journal)
        finally:
            keeping.cancel()
            self._tasks.pop(id, None)
            await asyncio.to_thread(shutil.rmtree, self._rules.folder / id, ignore_errors=True)
            self.loop.wake()

    async def _try(self, id: str, journal: Journal) -> None:
        """Whoever sees that it is over finds its whole log: what was said is kept before the verdict is."""
        try:
            await self._build(id, journal)
        except asyncio.CancelledError:
            async with self._core.database.reading() as reader:
                asked = await queue.shall_end(reader, id)
            if asked:
                await self._fail(id, journal, Why("cancelled", "It was cancelled."), DeploymentState.CANCELLED)
            raise
        except MuelleError as problem:
            await self._fail(id, journal, Why(problem.code, problem.message))
        except Exception as problem:
            _log.exception("build broke", deployment=id)
            await self._fail(id, journal, Why("unexpected", f"Muelle made a mistake: {type(problem).__name__}."))

    async def _fail(self, id: str, journal: Journal, why: Why, state: DeploymentState = DeploymentState.FAILED) -> None:
        journal.say(why.words)
        await journal.flush()
        await self._close(id, state, why)

    async def _keep(self, id: str, building: asyncio.Task[None] | None) -> None:
        """Renews the lease; cancels the build where it is not ours any more, or shall end."""
        while True:
            await self._core.clock.sleep(RENEW_SECONDS)
            try:
                async with self._core.database.transaction() as tx:
                    ours = await queue.renew(tx, id, self._process, self._core.clock.now())
            except Exception as problem:
                _log.warning("lease not renewed", deployment=id, error=f"{type(problem).__name__}: {problem}")
                continue
            if not ours and building is not None:
                building.cancel()
                return

    async def _build(self, id: str, journal: Journal) -> None:
        async with self._core.database.reading() as reader:
            deployment = await queue.by_id(reader, id)
            secret = await queue.secret_of(reader, self._core.box, id)
        if deployment is None or deployment.cancel:
            raise asyncio.CancelledError
        if deployment.attempts > MOST_ATTEMPTS:
            raise GaveUp(times=deployment.attempts - 1)
        source = sources.with_secret(sources.from_json(deployment.source), secret)
        self._refuse_full(await self._engine.disk())
        try:
            async with asyncio.timeout(self._rules.seconds):
                image, revision, port = await self._make_image(deployment, source, journal.say)
        except TimeoutError:
            raise BuildTookTooLong(seconds=round(self._rules.seconds)) from None
        journal.say(f"Built: {image.id}.")
        await journal.flush()
        await self._release(deployment, image, revision, port)

    async def _make_image(self, deployment: Deployment, source: sources.Source, say: Say) -> tuple[Image, str, int]:
        if isinstance(source, ImageSource):
            image = await self._engine.resolve(source.reference, source.credentials, say)
            return image, source.reference, _port_of(image, None)
        folder = self._rules.folder / deployment.id
        await asyncio.to_thread(_make_anew, folder)
        material = await self._materials.bring(source, deployment.template, folder / "source", say)
        order = BuildOrder(
            name=deployment.id,
            workload=deployment.workload_id,
            owner=deployment.owner_id,
            folder=material.folder,
            recipe=material.recipe,
            limits=self._rules.limits,
            trusted=self._rules.trusted,
            environment=self._materials.environment,
        )
        image = await self._engine.build(order, say)
        return image, material.revision, _port_of(image, material.recipe)

    async def _release(self, deployment: Deployment, image: Image, revision: str, port: int) -> None:
        """Makes the release and the wish for it in one, unless the deployment is not the newest any more."""
        seen = await self._core.highest_seen(deployment.workload_id)
        async with self._core.database.transaction() as tx:
            workload = await store.lock_workload(tx, deployment.workload_id)
            if workload is None or workload.wish is Wish.DELETED or await queue.shall_end(tx, deployment.id):
                await self._end(tx, deployment, workload, DeploymentState.CANCELLED, NO_REASON)
                return
            if not await queue.is_open(tx, deployment.id):
                return  # somebody else, who took it up when we were thought dead, has released it
            spec = await store.spec_of(tx, self._core.box, workload.id)
            await self._core.refuse_beyond_quota(tx, replace(workload, limits=spec.limits))
            draft = _draft(workload, deployment, image, revision, spec, self._core)
            number = await add_release(self._core, tx, draft, image_port=port, above=seen)
            await self._end(tx, deployment, workload, DeploymentState.RELEASED, NO_REASON, number)
            await self._core.change(tx, workload, wish=Wish.RUNNING, release=number)

    async def _close(self, id: str, state: DeploymentState, why: Why) -> None:
        async with self._core.database.transaction() as tx:
            deployment = await queue.by_id(tx, id)
            if deployment is None:
                return
            workload = await store.lock_workload(tx, deployment.workload_id)
            await self._end(tx, deployment, workload, state, why)
        self._core.wakers.steward(deployment.workload_id)

    async def _end(
        self,
        tx: Transaction,
        deployment: Deployment,
        workload: Workload | None,
        state: DeploymentState,
        why: Why,
        release: int = 0,
    ) -> None:
        if not await queue.end(tx, deployment.id, state, self._core.clock.now(), why=why, release=release):
            return
        if workload is not None:
            what = "build failed" if state is DeploymentState.FAILED else state.value
            await self._core.note(tx, workload, what, release=release, why=why)
        await self._core.outbox.emit(
            tx,
            DeploymentEnded(
                workload_id=deployment.workload_id,
                owner_id=deployment.owner_id,
                deployment_id=deployment.id,
                state=_ENDS[state],
                release=release,
                code=why.code,
                why=why.words,
            ),
        )

    def _refuse_full(self, disk: Disk) -> None:
        reserve = min(int(disk.total_bytes * DISK_RESERVE), DISK_RESERVE_BYTES)
        if disk.free_bytes < reserve:
            raise DiskNearlyFull(free_mib=disk.free_bytes >> 20, reserve_mib=reserve >> 20)


_ENDS: dict[DeploymentState, Literal["released", "failed", "cancelled"]] = {
    DeploymentState.RELEASED: "released",
    DeploymentState.FAILED: "failed",
    DeploymentState.CANCELLED: "cancelled",
}


def _draft(workload: Workload, deployment: Deployment, image: Image, revision: str, spec: Spec, core: Core) -> Release:
    return Release(
        workload_id=workload.id,
        number=0,
        image=image.id,
        spec=spec,
        source=deployment.described,
        revision=revision,
        made_at=core.clock.now(),
        verdict=Verdict.UNPROVEN,
    )


PORTS_PREFERRED = (80, 8080, 8000, 3000, 5000)


def _port_of(image: Image, recipe: Recipe | OwnDockerfile | None) -> int:
    """Where a program listens that nobody has told us about: as the recipe says, else as the image does."""
    if isinstance(recipe, Recipe):
        return recipe.port
    usual = [port for port in PORTS_PREFERRED if port in image.ports]
    return (usual or list(image.ports) or [0])[0]


def _make_anew(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, mode=0o700)
