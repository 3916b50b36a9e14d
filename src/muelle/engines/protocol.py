"""What an engine must do: run instances of images, show what there is, and build images from source.

An engine decides nothing. It knows instances by the names that it is given, does as it is told, and tells what it
sees; what should be there is known to `workloads` alone. Everything here may be asked twice: after a crash nobody knows
whether the first time succeeded, so what is there already, or gone already, is no error.

Everything that an engine makes bears the installation's name: two installations on one machine never see each other's.
An engine that declares a capability has it; what it has not, it refuses with `CannotDo` and never does by halves.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from muelle.engines.recipe import OwnDockerfile, Recipe
from muelle.kit.errors import Conflict, Failure, Invalid, Missing, Unavailable

DEFAULT_PIDS = 256
STOP_SECONDS = 10.0
"""How long a program has between being asked to end and being ended."""


class Capability(StrEnum):
    IMAGES = "images"
    """Runs images that are known by a reference, as registries have them."""
    DOCKERFILES = "dockerfiles"
    """Builds a Dockerfile. Without it, recipes only."""
    MEMORY_LIMIT = "memory limit"
    CPU_LIMIT = "processor limit"
    PIDS_LIMIT = "process limit"
    ISOLATION = "isolation"
    """Tenants see neither each other's files, processes and network nor the machine's."""
    VOLUMES = "volumes"
    EXEC = "exec"


class EngineUnavailable(Unavailable):
    """The engine {engine} does not answer: {reason}."""

    hint = "`muelle doctor` shows how it is doing. What runs goes on running; what is wanted is done when it is back."


class CannotDo(Invalid):
    """The engine {engine} cannot {what}."""

    hint = "Choose another engine (MUELLE_ENGINE), or another way to bring the program."


class NoSuchInstance(Missing):
    """The engine has no instance "{name}"."""


class InstanceNotRunning(Conflict):
    """The instance "{name}" does not run."""


class InstanceRefused(Invalid):
    """The engine will not run that: {reason}."""


class ImageMissing(Missing):
    """The image "{reference}" is not to be had: {reason}."""

    hint = "Check its name and tag. A private registry needs a log-in."


class BuildFailed(Invalid):
    """The build failed: {reason}."""

    hint = "The build's log shows what happened last."


class EngineFailed(Failure):
    """The engine {engine} could not {what}: {reason}."""


class Condition(StrEnum):
    """What an engine can see of an instance. One that is gone is not seen at all."""

    CREATED = "created"
    RUNNING = "running"
    EXITED = "exited"


@dataclass(frozen=True)
class Limits:
    cpu_millis: int = 1000
    """Thousandths of a processor."""
    memory_bytes: int = 512 * 2**20
    pids: int = DEFAULT_PIDS


@dataclass(frozen=True)
class Mount:
    volume: str
    """The volume's name, as the engine shall know it: the caller sees to it that it is the owner's."""
    path: str


@dataclass(frozen=True)
class Address:
    host: str
    port: int


@dataclass(frozen=True)
class Order:
    """An instance to be made. `name` is the caller's, unique for ever, and says all that an engine need remember."""

    name: str
    workload: str
    owner: str
    image: str
    """An `Image.id` that this engine told."""
    command: tuple[str, ...] = ()
    """Instead of the image's own."""
    environment: Mapping[str, str] = field(default_factory=dict)
    port: int = 0
    """Where it will listen; 0: it does not. The engine sets `PORT`, to another number where it has to."""
    limits: Limits = field(default_factory=Limits)
    mounts: tuple[Mount, ...] = ()
    aliases: tuple[str, ...] = ()
    """Names by which instances of the same owner reach it."""


@dataclass(frozen=True)
class Sighting:
    """An instance, as it is seen now."""

    name: str
    workload: str
    condition: Condition
    address: Address | None = None
    """Where this machine reaches it, if it has a port and runs."""
    started_at: datetime | None = None
    ended_at: datetime | None = None
    exit_code: int | None = None
    out_of_memory: bool = False
    reason: str = ""
    """Why it could not be started, in the engine's words."""


@dataclass(frozen=True)
class Image:
    id: str
    """Never means another image: a digest."""
    size_bytes: int = 0
    ports: tuple[int, ...] = ()
    """Where it says that it listens, lowest first."""


@dataclass(frozen=True)
class KeptImage:
    """An image that this installation built, with the name of the build."""

    id: str
    build: str
    size_bytes: int
    made_at: datetime


@dataclass(frozen=True)
class Volume:
    name: str
    owner: str


class Stream(StrEnum):
    OUT = "out"
    ERR = "err"


@dataclass(frozen=True)
class Line:
    at: datetime
    stream: Stream
    text: str
    """Without its end; at most `LONGEST_LINE` characters, the rest being the next one. Bytes that are no UTF-8 are
    shown as U+FFFD."""


LONGEST_LINE = 16_384


@dataclass(frozen=True)
class Usage:
    """What an instance has used since it was started, and holds now."""

    at: datetime
    cpu_micros: int
    memory_bytes: int
    received_bytes: int = 0
    sent_bytes: int = 0


@dataclass(frozen=True)
class Disk:
    """Where the engine keeps images and volumes."""

    total_bytes: int
    free_bytes: int


@dataclass(frozen=True)
class Credentials:
    registry: str
    user: str
    password: str = field(repr=False)


@dataclass(frozen=True)
class BuildOrder:
    name: str
    """The build's own, unique for ever."""
    workload: str
    owner: str
    folder: Path
    """The source. It is the engine's while it builds: it may write there."""
    recipe: Recipe | OwnDockerfile
    limits: Limits = field(default_factory=lambda: Limits(2000, 2 * 2**30, 1024))
    trusted: str = ""
    """Certificates (PEM) that are trusted beside the usual ones, for people behind a proxy of their company."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """For the build alone, such as `PIP_INDEX_URL` or `HTTPS_PROXY`: it is not in the image."""


Say = Callable[[str], None]
"""Takes a line of a build's log."""


class Session(Protocol):
    """A command running in an instance, with its input and output."""

    async def read(self) -> bytes:
        """What comes next, of both streams; nothing at the end."""
        ...

    async def write(self, data: bytes) -> None: ...

    async def resize(self, rows: int, columns: int) -> None: ...

    async def exit_code(self) -> int:
        """Waits for it."""
        ...

    async def close(self) -> None:
        """Ends the command, if it still runs."""
        ...


class Engine(Protocol):
    name: str
    capabilities: frozenset[Capability]

    async def check(self) -> str:
        """Says in a few words what it is; raises EngineUnavailable."""
        ...

    async def close(self) -> None:
        """Lets go of it. Instances go on running where the engine can do that."""
        ...

    async def observe(self, workload: str = "") -> Sequence[Sighting]:
        """All instances of this installation, or those of a workload."""
        ...

    def watch(self) -> AsyncIterator[str]:
        """Workloads of which an instance may have changed, as it happens; ends when the engine goes away."""
        ...

    async def create(self, order: Order) -> None:
        """Makes an instance, not started, and whatever it stands on (its owner's network, its volumes).

        One of that name that is there already is left as it is. Raises CannotDo, InstanceRefused, ImageMissing.
        """
        ...

    async def start(self, name: str) -> None:
        """Starts one that is created or has ended. Raises NoSuchInstance; one that cannot be started is seen as ended,
        with the reason."""
        ...

    async def stop(self, name: str, seconds: float = STOP_SECONDS) -> None:
        """Asks it to end, and ends it after so many seconds; returns when it has ended or is not there."""
        ...

    async def remove(self, name: str) -> None:
        """Ends it at once if it runs, and removes it with all that is its own; its volumes stay."""
        ...

    def logs(self, name: str, since: datetime | None = None) -> AsyncIterator[Line]:
        """What it has written from that moment on, and goes on writing; ends when the instance has ended.

        The last moment's lines may be told again. Raises NoSuchInstance.
        """
        ...

    async def usage(self, name: str) -> Usage:
        """Raises NoSuchInstance, InstanceNotRunning."""
        ...

    async def execute(self, name: str, command: Sequence[str], *, terminal: bool = False) -> Session:
        """Raises NoSuchInstance, InstanceNotRunning, CannotDo."""
        ...

    async def resolve(self, reference: str, credentials: Credentials | None, say: Say) -> Image:
        """The image of that name: one that is here, else fetched. Raises ImageMissing, CannotDo.

        Without a tag it is `:latest`. Fetching ends with the task that waits for it.
        """
        ...

    async def build(self, order: BuildOrder, say: Say) -> Image:
        """Builds an image. Raises BuildFailed, CannotDo.

        Cancelling the task that waits for it ends the build, and nothing else, within two seconds.
        """
        ...

    async def has_image(self, id: str) -> bool: ...

    async def images(self) -> Sequence[KeptImage]: ...

    async def remove_image(self, id: str) -> None:
        """Removes one that this installation built; one that is in use or somebody else's is left."""
        ...

    async def volumes(self) -> Sequence[Volume]: ...

    async def remove_volume(self, name: str) -> None:
        """Raises Conflict while an instance has it."""
        ...

    async def tidy(self) -> None:
        """Gives back what nobody needs any more: networks without instances, build caches past their bound."""
        ...

    async def disk(self) -> Disk: ...
