"""The driver: what the protocol asks for, handed to the part that does it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from ipaddress import IPv4Network

from muelle.engines.docker import logs, names, subnets
from muelle.engines.docker.build import Builds
from muelle.engines.docker.daemon import ANSWER_SECONDS, NAME, Daemon
from muelle.engines.docker.firewall import Firewall
from muelle.engines.docker.images import Images
from muelle.engines.docker.instances import Instances
from muelle.engines.docker.names import Names
from muelle.engines.docker.networks import Networks
from muelle.engines.docker.sessions import execute
from muelle.engines.docker.streams import Messages
from muelle.engines.docker.volumes import Volumes
from muelle.engines.protocol import (
    STOP_SECONDS,
    BuildOrder,
    CannotDo,
    Capability,
    Credentials,
    Disk,
    EngineUnavailable,
    Image,
    KeptImage,
    Line,
    Order,
    Say,
    Session,
    Sighting,
    Usage,
    Volume,
)
from muelle.kit.clock import Clock

CHANGES = [
    "create",
    "start",
    "restart",
    "die",
    "oom",
    "kill",
    "stop",
    "pause",
    "unpause",
    "destroy",
    "rename",
    "update",
]
"""The events after which an instance may look different; not those of commands run in it."""


class DockerEngine:
    """`address`: `unix://…` or `tcp://…`. `doors`: ports of this machine that instances may reach, its ingress's."""

    name = NAME
    capabilities = frozenset(Capability)

    def __init__(
        self,
        address: str,
        installation: str,
        clock: Clock,
        *,
        networks: str = subnets.RANGE,
        doors: Sequence[int] = (),
        answer_seconds: float = ANSWER_SECONDS,
    ) -> None:
        whole = IPv4Network(networks)
        self._daemon = Daemon(address, answer_seconds)
        self._names = Names(installation)
        self._clock = clock
        self._firewall = Firewall(self._names.firewall(), self._names.bridges(), doors, local=bool(self._daemon.socket))
        self._networks = Networks(self._daemon, self._names, whole, self._firewall)
        self._volumes = Volumes(self._daemon, self._names)
        self._instances = Instances(self._daemon, self._names, self._networks, self._volumes)
        self._images = Images(self._daemon, self._names, clock)
        self._builds = Builds(self._daemon, self._names, self._networks, self._images)

    async def check(self) -> str:
        info = await self._daemon.ask("describe itself", "GET", "info")
        guard = await self._firewall.stand()
        words = [f"Docker {info['ServerVersion']}", f"cgroup v{info.get('CgroupVersion', '1')}", str(guard)]
        words += [f"without {lack}" for lack in _lacking(info)]
        return "; ".join(words)

    async def close(self) -> None:
        await self._daemon.close()

    async def observe(self, workload: str = "") -> Sequence[Sighting]:
        return await self._instances.observe(workload)

    def watch(self) -> AsyncIterator[str]:
        """From the moment of the call: what happens before the first look at it is told as well."""
        return self._watch(str(int(self._clock.now().timestamp())))

    async def _watch(self, since: str) -> AsyncIterator[str]:
        params = {"since": since, **self._names.filters(names.WORKLOAD, type=["container"], event=CHANGES)}
        async with self._daemon.stream("tell events", "GET", "events", params=params) as chunks:
            messages = Messages()
            try:
                async for chunk in chunks:
                    for message in messages.feed(chunk):
                        yield message["Actor"]["Attributes"][names.WORKLOAD]
            except EngineUnavailable:
                return

    async def create(self, order: Order) -> None:
        await self._instances.create(order)

    async def start(self, name: str) -> None:
        await self._instances.start(name)

    async def stop(self, name: str, seconds: float = STOP_SECONDS) -> None:
        await self._instances.stop(name, seconds)

    async def remove(self, name: str) -> None:
        await self._instances.remove(name)

    def logs(self, name: str, since: datetime | None = None) -> AsyncIterator[Line]:
        return logs.follow(self._daemon, self._names, name, since)

    async def usage(self, name: str) -> Usage:
        return await self._instances.usage(name)

    async def execute(self, name: str, command: Sequence[str], *, terminal: bool = False) -> Session:
        found = await self._instances.running(name)
        return await execute(self._daemon, name, found["Id"], command, terminal)

    async def resolve(self, reference: str, credentials: Credentials | None, say: Say) -> Image:
        return await self._images.resolve(reference, credentials, say)

    async def build(self, order: BuildOrder, say: Say) -> Image:
        return await self._builds.build(order, say)

    async def has_image(self, id: str) -> bool:
        return await self._images.has(id)

    async def images(self) -> Sequence[KeptImage]:
        return await self._images.all()

    async def remove_image(self, id: str) -> None:
        await self._images.remove(id)

    async def volumes(self) -> Sequence[Volume]:
        return await self._volumes.all()

    async def remove_volume(self, name: str) -> None:
        await self._volumes.remove(name)

    async def tidy(self) -> None:
        containers = await self._instances.listed()
        await self._networks.tidy({self._names.network(one["Labels"].get(names.OWNER, "")) for one in containers})
        await self._images.tidy()

    async def disk(self) -> Disk:
        info = await self._daemon.ask("describe itself", "GET", "info")
        return await asyncio.to_thread(_disk, info["DockerRootDir"] if self._daemon.socket else "")


def _disk(folder: str) -> Disk:
    try:
        state = os.statvfs(folder)
    except OSError:
        raise CannotDo(engine=NAME, what="say how full its disk is: it is not on this machine") from None
    return Disk(state.f_blocks * state.f_frsize, state.f_bavail * state.f_frsize)


def _lacking(info: dict[str, object]) -> list[str]:
    """Limits that the machine's kernel does not give Docker."""
    limits = {"MemoryLimit": "memory limits", "CpuCfsQuota": "processor limits", "PidsLimit": "process limits"}
    return [name for key, name in limits.items() if info.get(key) is False]
