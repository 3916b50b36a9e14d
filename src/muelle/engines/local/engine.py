"""The local engine: instances are processes of this machine, images are folders, and all that it keeps is in files.

It gives what isolation the machine lets it give, and says which (`check`). The network is the machine's own in any
case, so it is for tenants who trust each other, and without bubblewrap for a single one.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TypeVar
from weakref import WeakValueDictionary

from muelle.engines.local import cgroups, files, journal, processes, sandbox
from muelle.engines.local.builder import Builder
from muelle.engines.local.images import PREFIX, Images, Manifest
from muelle.engines.local.instances import Instance, Instances, check, moment
from muelle.engines.local.link import Link
from muelle.engines.local.ports import FIRST_PORT, LAST_PORT, Ports, is_free
from muelle.engines.local.running import Running, Unstartable
from muelle.engines.local.session import LocalSession, open_session
from muelle.engines.local.volumes import Volumes
from muelle.engines.protocol import (
    STOP_SECONDS,
    BuildOrder,
    CannotDo,
    Capability,
    Condition,
    Credentials,
    Disk,
    EngineFailed,
    EngineUnavailable,
    Image,
    ImageMissing,
    InstanceNotRunning,
    InstanceRefused,
    KeptImage,
    Line,
    NoSuchInstance,
    Order,
    Say,
    Sighting,
    Stream,
    Usage,
    Volume,
)
from muelle.kit.clock import Clock
from muelle.kit.errors import Conflict

Answer = TypeVar("Answer")

FOLDERS = ("images", "instances", "volumes", "builds", "cache", "trash")
SET_UP_WITHIN_SECONDS = 5.0
BETWEEN_LOOKS_SECONDS = 0.005
LIMITED_BY = {
    "memory": Capability.MEMORY_LIMIT,
    "cpu": Capability.CPU_LIMIT,
    "pids": Capability.PIDS_LIMIT,
}


class VolumeInUse(Conflict):
    """The volume "{name}" belongs to the instance "{instance}"."""

    hint = "Delete the instance first."


class LocalEngine:
    name = "local"

    def __init__(
        self,
        home: Path,
        installation: str,
        clock: Clock,
        *,
        ports: range = range(FIRST_PORT, LAST_PORT + 1),
        bubblewrap: str | None = None,
        sandboxed: bool = True,
        grouped: bool = True,
    ) -> None:
        """`bubblewrap` is its program, if that is not on the path; the last two leave out what the machine has."""
        self._home = home = home.resolve() / re.sub(r"[^A-Za-z0-9_-]", "_", installation)
        for folder in FOLDERS:
            (home / folder).mkdir(parents=True, exist_ok=True, mode=files.OWN_FOLDER_MODE)
        sandbox.write_users(home / "sandbox")
        self._clock = clock
        self._bubblewrap = sandbox.find_bubblewrap(home / "sandbox", bubblewrap) if sandboxed else None
        self._groups = cgroups.find(f"muelle-{processes.mark_of(home)}") if grouped else None
        self.capabilities = self._capable()
        self._link = Link(home)
        self._images = Images(home / "images")
        self._instances = Instances(home / "instances", home / "trash")
        self._volumes = Volumes(home / "volumes", home / "trash")
        self._ports = Ports(home / "ports.json", ports)
        self._builder = Builder(home, installation, self._images, self._link, self._bubblewrap, self._groups, clock)
        self._running = Running(self._images, self._builder.layers, self._volumes, self._bubblewrap, self._groups)
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._swept = False

    async def check(self) -> str:
        try:
            await self._link.ask("settle")
            if not self._swept:
                await self.tidy()
                self._swept = True
        except (OSError, TimeoutError) as problem:
            raise EngineUnavailable(engine=self.name, reason=str(problem) or "its keeper does not start") from problem
        where = "processes in bubblewrap, on the machine's own network"
        if self._bubblewrap is None:
            where = "plain processes: for one tenant only"
        limits = [name for name, capability in LIMITED_BY.items() if capability in self.capabilities]
        return f"{where}; limits on {', '.join(limits)}"

    async def close(self) -> None:
        self._link.close()

    # ── instances ──────────────────────────────────────────────────────────────────────────────────────────────────

    async def observe(self, workload: str = "") -> Sequence[Sighting]:
        found = await asyncio.to_thread(self._instances.all)
        if any(instance.in_doubt for instance in found):
            await self._link.ask("settle")
            found = await asyncio.to_thread(self._instances.all)
        return [instance.sighting for instance in found if workload in ("", instance.order.workload)]

    async def watch(self) -> AsyncIterator[str]:
        try:
            async with self._link.talk("watch") as talk:
                while (said := await talk.hear()) is not None:
                    if "changed" in said:
                        yield said["changed"]
        except EngineUnavailable:
            if not self._link.closed:
                raise

    async def create(self, order: Order) -> None:
        check(order)
        if order.mounts and Capability.VOLUMES not in self.capabilities:
            raise CannotDo(engine=self.name, what="give a program a volume: that needs bubblewrap, which is not here")
        async with self._lock(order.name):
            if not self._instances.has(order.name):
                await self._make(order)

    async def _make(self, order: Order) -> None:
        manifest = self._images.find(order.image)
        if manifest is None:
            raise ImageMissing(reference=order.image, reason="it is not here")
        for mount in order.mounts:
            await asyncio.to_thread(self._volumes.make, mount.volume, order.owner)
        port = self._choose_port() if order.port else 0
        source = None if _only_serves(order, manifest) else self._images.folder(manifest.id) / "app"
        try:
            await asyncio.to_thread(self._instances.make, order, port, source)
        except OSError as problem:
            raise InstanceRefused(reason=f"its folder could not be made: {problem.strerror}") from problem

    async def start(self, name: str) -> None:
        async with self._lock(name):
            instance = await self._certain(name)
            if instance.condition is Condition.RUNNING:
                return
            if instance.port and not is_free(instance.port):
                instance = self._instances.move_to_port(instance, self._choose_port())
            told = {"name": name, "workload": instance.order.workload}
            try:
                program = self._running.program(instance)
            except Unstartable as problem:
                await self._link.ask("refuse", **told, reason=str(problem))
                return
            await self._link.ask("start", **told, program=asdict(program))

    async def stop(self, name: str, seconds: float = STOP_SECONDS) -> None:
        try:
            instance = await self._certain(name)
        except NoSuchInstance:
            return
        if instance.condition is Condition.RUNNING:
            await self._link.ask("stop", name=name, seconds=seconds)

    async def remove(self, name: str) -> None:
        async with self._lock(name):
            try:
                instance = await self._certain(name)
            except NoSuchInstance:
                return
            if instance.condition is Condition.RUNNING:
                await self._link.ask("stop", name=name, seconds=0)
            await asyncio.to_thread(self._instances.remove, name)
            await self._link.ask("changed", workload=instance.order.workload)

    async def logs(self, name: str, since: datetime | None = None) -> AsyncIterator[Line]:
        folder = self._instances.find(name).folder
        first = int(since.timestamp() * 1_000_000) if since else 0
        position = journal.Position()
        lasts = True
        while lasts and not self._link.closed:  # once, unless the keeper is another one meanwhile
            async with self._link.talk("follow", name=name) as talk:
                while lasts and (said := await talk.hear()) is not None:
                    lasts = said.get("runs", True) and "ended" not in said
                    records, position = await asyncio.to_thread(journal.read, folder, position)
                    while records:
                        for record in records:
                            if record.at_micros >= first:
                                yield _line(record)
                        records, position = await asyncio.to_thread(journal.read, folder, position)

    async def usage(self, name: str) -> Usage:
        instance = await self._certain(name)
        state = instance.state
        if state is None or instance.condition is not Condition.RUNNING:
            raise InstanceNotRunning(name=name)
        cpu, memory = cgroups.use_of(state.groups)
        if cpu is None or memory is None:
            members = [state.pid, *await asyncio.to_thread(processes.below, state.pid)]
            measured = processes.use_of(members)
            cpu, memory = cpu if cpu is not None else measured[0], memory if memory is not None else measured[1]
        return Usage(self._clock.now(), cpu, memory)

    async def execute(self, name: str, command: Sequence[str], *, terminal: bool = False) -> LocalSession:
        if Capability.EXEC not in self.capabilities:
            raise CannotDo(
                engine=self.name, what="run a command in an instance: its sandboxes cannot be joined by this user"
            )
        instance = await self._certain(name)
        if instance.condition is not Condition.RUNNING:
            raise InstanceNotRunning(name=name)
        await self._set_up(instance)
        try:
            return await open_session(self._link, self._running.command(instance, tuple(command), terminal))
        except (OSError, Unstartable) as problem:
            raise EngineFailed(engine=self.name, what="run a command", reason=str(problem)) from problem

    # ── images, volumes, the machine ───────────────────────────────────────────────────────────────────────────────

    async def resolve(self, reference: str, credentials: Credentials | None, say: Say) -> Image:
        if manifest := self._images.find(reference):
            return manifest.image
        if reference.startswith(PREFIX):
            raise ImageMissing(reference=reference, reason="it is not here, or no longer")
        raise CannotDo(engine=self.name, what=f'run "{reference}": it has no images from registries, that needs Docker')

    async def build(self, order: BuildOrder, say: Say) -> Image:
        return await self._builder.build(order, say)

    async def has_image(self, id: str) -> bool:
        return self._images.find(id) is not None

    async def images(self) -> Sequence[KeptImage]:
        return [manifest.kept for manifest in await asyncio.to_thread(self._images.all)]

    async def remove_image(self, id: str) -> None:
        manifest = self._images.find(id)
        used = {instance.order.image for instance in await asyncio.to_thread(self._instances.all)}
        if manifest and id not in used:
            await asyncio.to_thread(files.put_away, self._images.folder(id), self._home / "trash")

    async def volumes(self) -> Sequence[Volume]:
        return await asyncio.to_thread(self._volumes.all)

    async def remove_volume(self, name: str) -> None:
        for instance in await asyncio.to_thread(self._instances.all):
            if any(mount.volume == name for mount in instance.order.mounts):
                raise VolumeInUse(name=name, instance=instance.order.name)
        await asyncio.to_thread(self._volumes.remove, name)

    async def tidy(self) -> None:
        await asyncio.to_thread(self._tidy)

    async def disk(self) -> Disk:
        about = os.statvfs(self._home)
        return Disk(about.f_blocks * about.f_frsize, about.f_bavail * about.f_frsize)

    # ── how ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _capable(self) -> frozenset[Capability]:
        can = {Capability.MEMORY_LIMIT}  # by a group, or else by the keeper, which looks twice a second
        if self._groups:
            can |= {LIMITED_BY[name] for name in self._groups.folders if name in LIMITED_BY}
        if self._bubblewrap:
            can.add(Capability.VOLUMES)
        if self._bubblewrap is None or self._bubblewrap.entering:
            can.add(Capability.EXEC)
        return frozenset(can)

    async def _certain(self, name: str) -> Instance:
        """An instance as it is: one that is said to run, and is gone, is asked about."""
        instance = self._instances.find(name)
        if instance.in_doubt:
            await self._link.ask("settle")
            instance = self._instances.find(name)
        return instance

    async def _set_up(self, instance: Instance) -> None:
        """Waits until one that was just started has its sandbox."""
        state = instance.state
        if state is None or not state.sandboxed:
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(SET_UP_WITHIN_SECONDS):
                while processes.inside(state.pid) is None and state.identity.alive:  # noqa: ASYNC110  # it tells nobody
                    await asyncio.sleep(BETWEEN_LOOKS_SECONDS)

    def _choose_port(self) -> int:
        return self._ports.choose({instance.port for instance in self._instances.all()})

    def _lock(self, name: str) -> asyncio.Lock:
        """What is done to an instance is done in turn; stopping, which takes long, is not waited for."""
        return self._locks.setdefault(name, asyncio.Lock())

    def _tidy(self) -> None:
        for folder in (*self._instances.half_made(), *self._volumes.half_made()):
            files.put_away(folder, self._home / "trash")
        if self._groups:
            self._groups.sweep()
        self._builder.tidy()
        for left in (self._home / "trash").iterdir():
            files.empty(left)


def _only_serves(order: Order, manifest: Manifest) -> bool:
    return not order.command and not manifest.command and bool(manifest.site)


def _line(record: journal.Record) -> Line:
    at = moment(record.at_micros)
    assert at is not None  # noqa: S101  # what was written has a time
    return Line(at, Stream(record.stream), record.text)
