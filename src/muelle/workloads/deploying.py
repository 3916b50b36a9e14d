"""Bringing something to run: new workloads, new deployments to them, and other settings for what runs already.

A deployment is written down and built later (see `builder`); the newest wins. What a release is made with beside its
image (environment, limits, port and so on) is a wish of the workload: changing it makes a release of the same image.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from muelle.engines.protocol import Limits
from muelle.kit.db import Transaction
from muelle.kit.errors import Invalid, Missing
from muelle.kit.http import Caller
from muelle.kit.ids import new_id_at
from muelle.workloads import queue, store
from muelle.workloads.core import Core
from muelle.workloads.model import (
    ENVIRONMENT_PATTERN,
    LONGEST_VALUE,
    MOST_MOUNTS,
    MOST_VARIABLES,
    NO_REASON,
    Deployment,
    DeploymentId,
    DeploymentIsOver,
    DeploymentState,
    Kind,
    KindNotHere,
    NameTaken,
    NoSuchDeployment,
    NoSuchWorkload,
    NothingToRun,
    Phase,
    Release,
    Spec,
    VolumeAt,
    Wish,
    Workload,
    WorkloadId,
)
from muelle.workloads.sources import model as sources
from muelle.workloads.sources.model import Source, UploadSource
from muelle.workloads.wishes import refuse_bad_name

RESERVED_VARIABLES = frozenset({"PORT"})
_VOLUME_PATH = re.compile(r"/[A-Za-z0-9._/-]{1,200}")
_VOLUME_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?")
_NOT_TO_BE_COVERED = ("/", "/proc", "/sys", "/dev", "/etc", "/usr", "/bin", "/lib", "/sbin")


class BadVariable(Invalid):
    """The environment variable "{name}" {problem}."""


class BadVolume(Invalid):
    """The volume "{name}" {problem}."""


class NoSuchUpload(Missing):
    """There is no such upload, or it is not kept any more."""

    hint = "Upload the source again."


@dataclass(frozen=True)
class Change:
    """Other settings; what is None stays as it is."""

    set_environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    unset_environment: tuple[str, ...] = ()
    command: tuple[str, ...] | None = None
    port: int | None = None
    limits: Limits | None = None
    volumes: tuple[VolumeAt, ...] | None = None
    patience_seconds: int | None = None

    def applied(self, spec: Spec) -> Spec:
        kept = {name: value for name, value in spec.environment.items() if name not in self.unset_environment}
        given = {
            name: value
            for name in ("command", "port", "limits", "volumes", "patience_seconds")
            if (value := getattr(self, name)) is not None
        }
        return replace(spec, environment={**kept, **self.set_environment}, **given)


class Deploying:
    def __init__(self, core: Core) -> None:
        self._core = core

    async def make(
        self, caller: Caller, *, name: str, kind: Kind, description: str, source: Source, template: str, spec: Spec
    ) -> tuple[Workload, Deployment]:
        """A new workload, with its first deployment on the way."""
        refuse_bad_name(name)
        if kind is Kind.VM:
            raise KindNotHere(kind=kind)
        sources.check(source)
        refuse_bad_spec(spec)
        async with self._core.database.transaction() as tx:
            owner = await store.ensure_owner(tx, caller.account_id, caller.email)
            fresh = self._fresh(caller, owner.slug, name, kind, description, spec)
            await self._core.refuse_beyond_quota(tx, fresh)
            if not await store.add_workload(tx, self._core.box, fresh, spec):
                raise NameTaken(name=name)
            await self._core.asked(tx, fresh, "made")
            deployment = await self._queue(tx, fresh, source, template)
            await self._core.tell(tx, fresh)
            tx.after_commit(lambda: self._core.wakers.steward(fresh.id))
        return fresh, deployment

    async def deploy(
        self, caller: Caller, id: str, *, source: Source | None, template: str, change: Change
    ) -> tuple[Workload, Deployment]:
        """Something new, or the same once more where no source is given. What was on its way before is given up."""
        if source is not None:
            sources.check(source)
        async with self._core.database.transaction() as tx:
            workload = await self._core.lock(tx, caller, id)
            if source is None:
                source, template = await self._last_source(tx, workload)
            spec = change.applied(await store.spec_of(tx, self._core.box, id))
            refuse_bad_spec(spec)
            await self._core.refuse_beyond_quota(tx, replace(workload, limits=spec.limits))
            deployment = await self._queue(tx, workload, source, template)
            wished = store.wished(self._core.box, spec)
            workload = await self._core.change(tx, workload, **wished)
        return workload, deployment

    async def change(self, caller: Caller, id: str, change: Change) -> Workload:
        """Other settings for what runs: a new release of the same image. What is being built gets them too."""
        seen = await self._core.highest_seen(id)
        async with self._core.database.transaction() as tx:
            workload = await self._core.lock(tx, caller, id)
            before = await store.spec_of(tx, self._core.box, id)
            spec = change.applied(before)
            if spec == before:
                return workload
            refuse_bad_spec(spec)
            if workload.wish is Wish.RUNNING:
                await self._core.refuse_beyond_quota(tx, replace(workload, limits=spec.limits))
            wished = store.wished(self._core.box, spec)
            current = await store.release_by_number(tx, self._core.box, id, workload.release)
            if current is None:
                return await self._core.change(tx, workload, **wished)
            number = await add_release(
                self._core, tx, replace(current, spec=spec), image_port=current.spec.port, above=seen
            )
            await self._core.asked(tx, workload, "changed", number)
            return await self._core.change(tx, workload, release=number, **wished)

    async def cancel(self, caller: Caller, id: str) -> Deployment:
        async with self._core.database.transaction() as tx:
            found = await queue.by_id(tx, id)
            if found is None:
                raise NoSuchDeployment
            try:
                workload = await self._core.lock(tx, caller, found.workload_id)
            except NoSuchWorkload:
                raise NoSuchDeployment from None
            if not await queue.ask_to_end(tx, workload.id, only=id):
                raise DeploymentIsOver(state=found.state)
            await self._core.asked(tx, workload, "cancelled")
            tx.after_commit(lambda: self._core.wakers.builder(workload.id))
        return replace(found, cancel=True)

    def _fresh(self, caller: Caller, slug: str, name: str, kind: Kind, description: str, spec: Spec) -> Workload:
        now = self._core.clock.now()
        id = new_id_at(now)
        return Workload(
            id=WorkloadId(id),
            owner_id=caller.account_id,
            owner_slug=slug,
            kind=kind,
            name=name,
            claim=id,
            description=description,
            wish=Wish.RUNNING,
            release=0,
            good=0,
            turn=1,
            serving="",
            switched_at=None,
            keep_volumes=False,
            limits=spec.limits,
            held=False,
            made_at=now,
            version=1,
            phase=Phase.BUILDING,
            why=NO_REASON,
        )

    async def _queue(self, tx: Transaction, workload: Workload, source: Source, template: str) -> Deployment:
        if isinstance(source, UploadSource) and not await queue.upload_exists(tx, source.upload, workload.owner_id):
            raise NoSuchUpload
        now = self._core.clock.now()
        fresh = Deployment(
            id=DeploymentId(new_id_at(now)),
            workload_id=workload.id,
            owner_id=workload.owner_id,
            state=DeploymentState.QUEUED,
            source=sources.to_json(source),
            described=source.described,
            template=template,
            asked_at=now,
            began_at=None,
            ended_at=None,
            attempts=0,
            cancel=False,
            release=0,
            why=NO_REASON,
        )
        await queue.ask_to_end(tx, workload.id)  # the newest wins
        await queue.add(tx, self._core.box, fresh, sources.secret(source))
        await self._core.asked(tx, workload, "deployed")
        tx.after_commit(lambda: self._core.wakers.builder(workload.id))
        return fresh

    async def _last_source(self, tx: Transaction, workload: Workload) -> tuple[Source, str]:
        last = await queue.latest(tx, workload.id)
        if last is None:
            raise NothingToRun
        secret = await queue.secret_of(tx, self._core.box, last.id)
        return sources.with_secret(sources.from_json(last.source), secret), last.template


async def add_release(core: Core, tx: Transaction, like: Release, *, image_port: int, above: int) -> int:
    """The next release of a workload. A port that was left open is the image's."""
    number = max(await store.next_number(tx, like.workload_id), above + 1)
    spec = like.spec if like.spec.port >= 0 else replace(like.spec, port=image_port)
    fresh = Release(
        workload_id=like.workload_id,
        number=number,
        image=like.image,
        spec=spec,
        source=like.source,
        revision=like.revision,
        made_at=core.clock.now(),
    )
    await store.add_release(tx, core.box, fresh)
    return number


def refuse_bad_spec(spec: Spec) -> None:
    if len(spec.environment) > MOST_VARIABLES:
        raise BadVariable(name="…", problem=f"is one too many: there may be {MOST_VARIABLES}")
    for name, value in spec.environment.items():
        if not re.fullmatch(ENVIRONMENT_PATTERN, name):
            raise BadVariable(
                name=name[:40].encode("ascii", "replace").decode(), problem="has a name that none can have"
            )
        if name in RESERVED_VARIABLES:
            raise BadVariable(name=name, problem="is set by Muelle: it says where to listen")
        if len(value) > LONGEST_VALUE or "\0" in value or not _is_text(value):
            raise BadVariable(name=name, problem=f"is longer than {LONGEST_VALUE} characters, or is no text")
    _refuse_bad_volumes(spec)


def _is_text(value: str) -> bool:
    """Half a surrogate pair is none: no program could be given it."""
    try:
        return bool(value.encode()) or not value
    except UnicodeEncodeError:
        return False


def _refuse_bad_volumes(spec: Spec) -> None:
    if len(spec.volumes) > MOST_MOUNTS:
        raise BadVolume(name=spec.volumes[-1].name, problem=f"is one too many: there may be {MOST_MOUNTS}")
    for volume in spec.volumes:
        path = volume.path.rstrip("/")
        if not _VOLUME_NAME.fullmatch(volume.name):
            raise BadVolume(name=volume.name[:40], problem="needs a name of lower-case letters, digits and hyphens")
        if not _VOLUME_PATH.fullmatch(path) or ".." in path.split("/") or "//" in path or path in _NOT_TO_BE_COVERED:
            raise BadVolume(name=volume.name, problem="needs a path of its own, such as /data")
    for what in ("name", "path"):
        values = [getattr(volume, what).rstrip("/") for volume in spec.volumes]
        if len(set(values)) < len(values):
            raise BadVolume(name=spec.volumes[0].name, problem=f"has the same {what} as another")
