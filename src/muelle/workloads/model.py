"""What the workloads room speaks of: workloads, their releases, and the deployments that make these. Frozen values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import NewType

from muelle.engines.protocol import Limits
from muelle.kit.errors import Conflict, Invalid, Missing

WorkloadId = NewType("WorkloadId", str)
DeploymentId = NewType("DeploymentId", str)

LONGEST_NAME = 40
NAME_PATTERN = r"^[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?$"
"""What can be a label of a host name, short enough to leave room for a number behind it."""
ENVIRONMENT_PATTERN = r"^[A-Za-z_][A-Za-z0-9_]{0,99}$"
MOST_VARIABLES = 200
LONGEST_VALUE = 32_768
MOST_MOUNTS = 8
DEFAULT_PATIENCE_SECONDS = 15
PROTECTED_RELEASES = 10
ANY_PORT = -1
SMALLEST_MEMORY = 16 * 2**20


class Kind(StrEnum):
    CONTAINER = "container"
    PROJECT = "project"
    SERVICE = "service"
    POD = "pod"
    VM = "vm"


class Wish(StrEnum):
    """What its owner wants of a workload."""

    RUNNING = "running"
    STOPPED = "stopped"
    DELETED = "deleted"


class Verdict(StrEnum):
    """What a release has proven to be, once and for ever."""

    UNPROVEN = "unproven"
    GOOD = "good"
    BAD = "bad"


class Phase(StrEnum):
    """How a workload is doing, in one word. Seen, not decided: it follows from the wish and what the engine shows."""

    BUILDING = "building"
    """There is no release yet, and a deployment on its way."""
    STARTING = "starting"
    DEPLOYING = "deploying"
    """It serves, while a newer release, or a fresh start of the same, is on trial beside it."""
    RUNNING = "running"
    FAILING = "failing"
    """A release that was good has ended by itself and is started again."""
    FAILED = "failed"
    STOPPING = "stopping"
    STOPPED = "stopped"
    DELETING = "deleting"


@dataclass(frozen=True)
class Why:
    """The reason for something: a code for programs, and words for people."""

    code: str = ""
    words: str = ""


NO_REASON = Why()


@dataclass(frozen=True)
class VolumeAt:
    """A volume of the workload's own, by its short name, and where programs find it."""

    name: str
    path: str


@dataclass(frozen=True)
class Spec:
    """What a release is beside its image."""

    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    command: tuple[str, ...] = ()
    port: int = ANY_PORT
    """Where it listens; 0: it does not. `ANY_PORT`, in a wish alone: where the image says."""
    limits: Limits = field(default_factory=Limits)
    volumes: tuple[VolumeAt, ...] = ()
    patience_seconds: int = DEFAULT_PATIENCE_SECONDS
    """How long it may take until it answers."""


@dataclass(frozen=True)
class Release:
    workload_id: WorkloadId
    number: int
    image: str
    spec: Spec
    source: str
    """Where it came from, in words."""
    revision: str
    """A commit, a digest: what the source itself calls this state of it."""
    made_at: datetime
    verdict: Verdict = Verdict.UNPROVEN
    why: Why = NO_REASON


@dataclass(frozen=True)
class Workload:
    id: WorkloadId
    owner_id: str
    owner_slug: str
    kind: Kind
    name: str
    claim: str
    """The id of its claim to its name: a later one is stronger (see `events.RouteChanged`)."""
    description: str
    wish: Wish
    release: int
    """The wished release; 0 while there is none."""
    good: int
    """The last one that was wished and proved good; 0 while there is none."""
    turn: int
    """Goes up with each start and restart: an instance is made for a release and a turn."""
    serving: str
    """The instance that has the traffic."""
    switched_at: datetime | None
    keep_volumes: bool
    limits: Limits
    """What it holds of its owner's quota while it shall run."""
    held: bool
    """Whether its owner may have nothing running now: the wish is kept."""
    made_at: datetime
    version: int
    phase: Phase
    why: Why
    """Phase and reason as they were seen the last time."""
    address: str = ""
    """Where the instance that serves was last seen to listen."""

    @property
    def target(self) -> str:
        """The name of the instance that should run."""
        return instance_name(self.id, self.release, self.turn)


class DeploymentState(StrEnum):
    QUEUED = "queued"
    BUILDING = "building"
    RELEASED = "released"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_over(self) -> bool:
        return self not in (DeploymentState.QUEUED, DeploymentState.BUILDING)


@dataclass(frozen=True)
class Deployment:
    """A source on its way to be a release."""

    id: DeploymentId
    workload_id: WorkloadId
    owner_id: str
    state: DeploymentState
    source: Mapping[str, object]
    described: str
    template: str
    asked_at: datetime
    began_at: datetime | None
    ended_at: datetime | None
    attempts: int
    cancel: bool
    """Whether somebody wants it to end."""
    release: int
    why: Why


@dataclass(frozen=True)
class Happening:
    """A line of a workload's history."""

    id: str
    workload_id: WorkloadId
    at: datetime
    what: str
    release: int
    why: Why
    actor: str


@dataclass(frozen=True)
class Quota:
    """What an owner's workloads may be in number, and hold together while they shall run."""

    workloads: int = 20
    cpu_millis: int = 8_000
    memory_bytes: int = 8 * 2**30


@dataclass(frozen=True)
class Owner:
    id: str
    slug: str
    """Their part of host names: nobody else's."""
    quota: Quota
    state: str


class NoSuchWorkload(Missing):
    """There is no such workload."""


class NoSuchRelease(Missing):
    """The workload has no release {number}."""

    hint = "Its list of releases shows which there are."


class NothingBefore(Conflict):
    """There is no good release before the present one."""

    hint = "Its list of releases shows which there are."


class NoSuchDeployment(Missing):
    """There is no such deployment."""


class NameTaken(Conflict):
    """You have a workload "{name}" already."""

    hint = "Deploy to that one, or choose another name."


class QuotaReached(Conflict):
    """That is more {what} than you may use: {wanted} of {allowed}."""

    hint = "Stop or delete something, or ask an administrator for more."


class NothingToRun(Conflict):
    """The workload has no release yet."""

    hint = "Deploy something to it first."


class ReleaseIsBad(Conflict):
    """Release {number} has failed before: {why}"""

    hint = "Deploy it again if the reason is gone."


class ReleaseIsGone(Conflict):
    """The image of release {number} is not kept any more."""

    hint = "Deploy its source again."


class DeploymentIsOver(Conflict):
    """The deployment has ended already: {state}."""


class IsBeingDeleted(Conflict):
    """The workload is being deleted."""


class KindNotHere(Invalid):
    """Nothing here can run a workload of the kind "{kind}"."""


class BadName(Invalid):
    """ "{name}" cannot be a workload's name."""

    hint = "Lower-case letters, digits and hyphens, at most {longest}, beginning and ending with a letter or digit."


def instance_name(workload: str, release: int, turn: int) -> str:
    """What the engine calls an instance. It follows from what is stored, before the engine is ever asked."""
    return f"muelle-{workload}-{release}-{turn}"


def turn_for(workload: Workload, release: int) -> int:
    """The turn in which a workload goes back to a release: the present one if that has the traffic, else a new one,
    since what was left of the old one may be on its way out."""
    serves = instance_name(workload.id, release, workload.turn) == workload.serving
    return workload.turn if serves else workload.turn + 1


def volume_name(workload: str, volume: str) -> str:
    return f"muelle-{workload}-{volume}"


def release_of(instance: str) -> int:
    """The release that an instance was made for; 0 where the name is none of ours."""
    parts = instance.rsplit("-", 2)
    return int(parts[1]) if len(parts) == 3 and parts[1].isdigit() else 0
