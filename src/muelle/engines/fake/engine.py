"""The engine that pretends: it keeps every promise of the protocol and runs nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime

from muelle.engines.fake import building
from muelle.engines.fake.estate import Estate
from muelle.engines.fake.image import KnownImage, known_image
from muelle.engines.fake.instance import Instance
from muelle.engines.fake.program import program_of, with_tag
from muelle.engines.fake.session import FakeSession
from muelle.engines.fake.watch import Watch
from muelle.engines.fake.world import FakeWorld
from muelle.engines.protocol import (
    STOP_SECONDS,
    BuildOrder,
    CannotDo,
    Capability,
    Credentials,
    Disk,
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
    Session,
    Sighting,
    Usage,
    Volume,
)
from muelle.engines.recipe import OwnDockerfile
from muelle.kit.clock import Clock


class FakeEngine:
    name = "fake"

    def __init__(self, clock: Clock, installation: str, world: FakeWorld | None = None) -> None:
        self.world = FakeWorld() if world is None else world
        self.world.agenda.clock = clock
        self.capabilities = self.world.capabilities
        self._clock = clock
        self._installation = installation
        self._closed = False
        self._watches: list[Watch] = []
        self._estate: Estate = self.world.estate(installation)

    async def check(self) -> str:
        async with self._call("check"):
            return f"a pretended engine with {len(self._estate.instances)} instances"

    async def close(self) -> None:
        self._closed = True
        for watch in self._watches:
            watch.end()
        for instance in self._estate.of(""):
            instance.wake_readers()

    async def observe(self, workload: str = "") -> Sequence[Sighting]:
        async with self._call("observe"):
            self._settle()
            return self.world.look(self._installation, workload)

    def watch(self) -> AsyncIterator[str]:
        self._refuse_when_closed()
        self.world.mischief.refuse("watch")
        watch = self.world.watch(self._installation)
        self._watches = [*(other for other in self._watches if not other.over), watch]
        return watch

    async def create(self, order: Order) -> None:
        async with self._call("create"):
            if order.name in self._estate.instances:
                return
            self._refuse_oddities(order)
            image = self.world.images.get(order.image)
            if image is None:
                raise ImageMissing(reference=order.image, reason="it is not here")
            self.world.add(self._installation, order, image)

    async def start(self, name: str) -> None:
        async with self._call("start"):
            instance = self._instance(name)
            if not instance.runs:
                self.world.start(self._installation, instance)
                if instance.door is not None:
                    await instance.door.opened()

    async def stop(self, name: str, seconds: float = STOP_SECONDS) -> None:
        async with self._call("stop"):
            self._settle()
            instance = self._estate.instances.get(name)
            if instance is not None and instance.runs:
                ended = instance.ended()
                self.world.ask_to_end(self._installation, instance, seconds)
                await ended.wait()

    async def remove(self, name: str) -> None:
        async with self._call("remove"):
            self._settle()
            if instance := self._estate.instances.get(name):
                self.world.drop(self._installation, instance)

    async def logs(self, name: str, since: datetime | None = None) -> AsyncIterator[Line]:
        async with self._call("logs"):
            instance = self._instance(name)
        async for line in instance.record.read(since, lambda: instance.runs and not self._closed):
            yield line
            self._settle()

    async def usage(self, name: str) -> Usage:
        async with self._call("usage"):
            return self._running(name).usage(self._clock.now())

    async def execute(self, name: str, command: Sequence[str], *, terminal: bool = False) -> Session:
        self._need(Capability.EXEC, "run a command in an instance")
        async with self._call("execute"):
            instance = self._running(name)
            session = FakeSession(command, instance.environment(), terminal, self._clock, instance.forget_session)
            instance.keep_session(session)
            return session

    async def resolve(self, reference: str, credentials: Credentials | None, say: Say) -> Image:
        self._need(Capability.IMAGES, "fetch an image by its name")
        async with self._call("resolve"):
            full = with_tag(reference)
            program = program_of(full)
            known = known_image(full, program, {})
            if known.image.id not in self.world.images:
                say(f"fetching {full}")
                self.world.images[known.image.id] = known
            return known.image

    async def build(self, order: BuildOrder, say: Say) -> Image:
        if isinstance(order.recipe, OwnDockerfile):
            self._need(Capability.DOCKERFILES, "build a Dockerfile")
        async with self._call("build"):
            self.world.builds.add(order.name)
            try:
                built = await building.build(order, say, self._clock)
            finally:
                self.world.builds.discard(order.name)
            self._keep(order, built)
            return built.image

    async def has_image(self, id: str) -> bool:
        async with self._call("has_image"):
            return id in self.world.images

    async def images(self) -> Sequence[KeptImage]:
        async with self._call("images"):
            return list(self._estate.built.values())

    async def remove_image(self, id: str) -> None:
        async with self._call("remove_image"):
            if id in self._estate.built and not self._estate.uses(id):
                self.world.lose_image(id)

    async def volumes(self) -> Sequence[Volume]:
        async with self._call("volumes"):
            return self._estate.told_volumes()

    async def remove_volume(self, name: str) -> None:
        async with self._call("remove_volume"):
            self._estate.drop_volume(name)

    async def tidy(self) -> None:
        async with self._call("tidy"):
            self._estate.tidy()

    async def disk(self) -> Disk:
        async with self._call("disk"):
            return Disk(self.world.total_bytes, self.world.free_bytes)

    def _call(self, call: str) -> AbstractAsyncContextManager[None]:
        self._refuse_when_closed()
        return self.world.mischief.around(call, self._clock)

    def _refuse_when_closed(self) -> None:
        if self._closed:
            raise EngineUnavailable(engine=self.name, reason="it was closed")

    def _need(self, capability: Capability, what: str) -> None:
        if capability not in self.capabilities:
            raise CannotDo(engine=self.name, what=what)

    def _refuse_oddities(self, order: Order) -> None:
        if order.mounts:
            self._need(Capability.VOLUMES, "mount a volume")
        for name, value in order.environment.items():
            if not name or "=" in name or "\0" in name + value:
                raise InstanceRefused(reason=f"no environment can have {name!r} as it is told")

    def _instance(self, name: str) -> Instance:
        self._settle()
        if name not in self._estate.instances:
            raise NoSuchInstance(name=name)
        return self._estate.instances[name]

    def _running(self, name: str) -> Instance:
        instance = self._instance(name)
        if not instance.runs:
            raise InstanceNotRunning(name=name)
        return instance

    def _keep(self, order: BuildOrder, built: KnownImage) -> None:
        self.world.images[built.image.id] = built
        self._estate.keep_built(built.image, order.name, self._clock.now())

    def _settle(self) -> None:
        self.world.agenda.settle()
