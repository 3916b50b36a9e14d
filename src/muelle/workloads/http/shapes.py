"""The bodies of requests and answers about workloads."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from muelle.engines.protocol import Credentials, Limits
from muelle.kit.http import Body, Id, PlainText, Secret, Shown
from muelle.kit.http.values import Moment, Whole
from muelle.workloads.deploying import Change
from muelle.workloads.looking import Day
from muelle.workloads.model import (
    ANY_PORT,
    LONGEST_NAME,
    MOST_MOUNTS,
    MOST_VARIABLES,
    NAME_PATTERN,
    SMALLEST_MEMORY,
    Deployment,
    DeploymentState,
    Happening,
    Kind,
    Phase,
    Release,
    Spec,
    Verdict,
    VolumeAt,
    Why,
    Wish,
    Workload,
    release_of,
)
from muelle.workloads.sources.model import FileSource, GitSource, ImageSource, Source, UploadSource

MIB = 2**20
LARGEST_FILE = 512 * 1024

Name = Annotated[str, Field(max_length=LONGEST_NAME, pattern=NAME_PATTERN, examples=["shop"])]
Text = Annotated[str, Field(max_length=500, pattern=r"^[^\x00]*$")]
Port = Annotated[
    Whole, Field(ge=0, le=65535, description="Where it listens; 0: it does not. Left out: as the source says.")
]
Variables = Annotated[dict[str, Text], Field(max_length=MOST_VARIABLES, examples=[{"GREETING": "hello"}])]
ReleaseNumber = Annotated[Whole, Field(ge=1, le=10**6, examples=[1])]


class GitBody(Body):
    """A repository."""

    url: PlainText = Field(max_length=2000, examples=["https://example.com/ana/app.git"])
    ref: PlainText = Field("", max_length=200, description="A branch, a tag or a commit.", examples=["main"])
    folder: PlainText = Field("", max_length=500, description="Where in the repository.", examples=["web"])
    token: Secret | None = Field(None, description="For a private one. It is kept sealed, and never shown.")


class FileBody(Body):
    """A single file."""

    name: PlainText = Field("app.py", max_length=100, examples=["app.py"])
    text: str = Field(max_length=LARGEST_FILE, examples=["def microservicio(request):\n    return {}\n"])


class RegistryBody(Body):
    """The log-in of a private registry."""

    registry: PlainText = Field(max_length=200, examples=["registry.example.com"])
    user: PlainText = Field(max_length=200, examples=["ana"])
    password: Secret


class Brought(Body):
    """What is to run: one of an image, a repository, a file and an upload."""

    image: PlainText | None = Field(None, max_length=300, examples=["nginx:alpine"])
    registry: RegistryBody | None = Field(None, examples=[None])
    git: GitBody | None = Field(None, examples=[None])
    file: FileBody | None = Field(None, examples=[None])
    upload: Id | None = Field(None, description="The id of an upload.", examples=[None])
    template: Annotated[
        str,
        Field(
            pattern=r"^[a-z]{1,20}$",
            description="How a source is built: `auto`, `static`, `react`, `flask`, `python`, `nodejs`, `php`, "
            "`function` or `dockerfile`. A Dockerfile of its own always wins.",
            examples=["auto"],
        ),
    ] = "auto"

    def source(self) -> Source | None:
        if self.git is not None:
            token = self.git.token.get_secret_value() if self.git.token else ""
            return GitSource(self.git.url, self.git.ref, self.git.folder, token)
        if self.file is not None:
            return FileSource(self.file.name, self.file.text)
        if self.upload is not None:
            return UploadSource(self.upload)
        if self.image is not None:
            login = self.registry
            known = Credentials(login.registry, login.user, login.password.get_secret_value()) if login else None
            return ImageSource(self.image, known)
        return None

    @property
    def _number(self) -> int:
        return sum(what is not None for what in (self.image, self.git, self.file, self.upload))


class LimitsBody(Body):
    """What it may use."""

    cpu_millis: Whole = Field(1000, ge=10, le=256_000, description="Thousandths of a processor.")
    memory_mib: Whole = Field(512, ge=SMALLEST_MEMORY // MIB, le=4 * MIB)


class VolumeBody(Body):
    """A disk of its own that lasts. With one, a new release starts when the old one has stopped."""

    name: PlainText = Field(max_length=32, examples=["data"])
    path: PlainText = Field(max_length=200, examples=["/data"])


class Settings(Body):
    """How it runs. What is left out stays as it is, or is the default."""

    environment: Variables | None = Field(None, description="Set, beside what is there.")
    unset: list[PlainText] = Field([], max_length=MOST_VARIABLES, description="Variables to take away.", examples=[[]])
    command: list[Text] | None = Field(None, max_length=50, description="Instead of the image's own.", examples=[None])
    port: Port | None = Field(None, examples=[None])
    limits: LimitsBody | None = Field(None, examples=[None])
    volumes: list[VolumeBody] | None = Field(None, max_length=MOST_MOUNTS, examples=[None])
    patience_seconds: Whole | None = Field(
        None, ge=1, le=600, description="How long it may take until it answers.", examples=[None]
    )

    def change(self) -> Change:
        limits = self.limits
        return Change(
            set_environment=self.environment or {},
            unset_environment=tuple(self.unset),
            command=None if self.command is None else tuple(self.command),
            port=self.port,
            limits=None if limits is None else Limits(limits.cpu_millis, limits.memory_mib * MIB),
            volumes=None if self.volumes is None else tuple(VolumeAt(v.name, v.path) for v in self.volumes),
            patience_seconds=self.patience_seconds,
        )


class NewWorkload(Brought, Settings):
    """A workload, and what it is to run."""

    name: Name
    kind: Kind = Field(Kind.PROJECT, examples=["container"])
    description: Text = Field("", examples=["The shop window"])

    @model_validator(mode="after")
    def _one(self) -> Self:
        if self._number != 1:
            raise ValueError("needs exactly one of image, git, file and upload")
        return self


class Deploy(Brought, Settings):
    """Something new to run; nothing: what it runs now, fetched and built again."""

    @model_validator(mode="after")
    def _one_at_most(self) -> Self:
        if self._number > 1:
            raise ValueError("takes only one of image, git, file and upload")
        return self


class Rollback(Body):
    """The release to go back to; none: the newest good one before the present."""

    release: ReleaseNumber | None = Field(None, examples=[None])


class NewName(Body):
    """Another name: its address changes with it."""

    name: Name


class ShownWhy(Shown):
    """A reason."""

    code: str = Field(description="For programs; empty where there is none.", examples=["not_listening"])
    words: str = Field(description="For people.", examples=["Nothing listens on port 8000."])

    @classmethod
    def of(cls, why: Why) -> ShownWhy:
        return cls(code=why.code, words=why.words)


class ShownWorkload(Shown):
    """A workload."""

    id: Id
    owner_id: Id
    name: str = Field(examples=["shop"])
    kind: Kind
    description: str = Field(examples=["The shop window"])
    url: str = Field(description="Where it is reached, if it listens.", examples=["http://shop.ana.localhost:7080"])
    wish: Wish = Field(description="What its owner wants of it.")
    phase: Phase = Field(description="How it is doing.")
    why: ShownWhy
    release: int = Field(description="The wished one; 0: there is none yet.", examples=[1])
    serving: int = Field(description="The one that has the traffic; 0: none.", examples=[1])
    cpu_millis: int
    memory_mib: int
    made_at: Moment
    version: int = Field(description="Goes up with each change.", examples=[7])

    @classmethod
    def of(cls, workload: Workload, url: str) -> ShownWorkload:
        return cls(
            id=workload.id,
            owner_id=workload.owner_id,
            name=workload.name,
            kind=workload.kind,
            description=workload.description,
            url=url,
            wish=workload.wish,
            phase=workload.phase,
            why=ShownWhy.of(workload.why),
            release=workload.release,
            serving=release_of(workload.serving),
            cpu_millis=workload.limits.cpu_millis,
            memory_mib=workload.limits.memory_bytes // MIB,
            made_at=workload.made_at,
            version=workload.version,
        )


class ShownDeployment(Shown):
    """A source on its way to be a release."""

    id: Id
    workload_id: Id
    state: DeploymentState
    source: str = Field(examples=["the image nginx:alpine"])
    template: str = Field(examples=["auto"])
    asked_at: Moment
    began_at: Moment | None
    ended_at: Moment | None
    release: int = Field(description="What came of it; 0: nothing.", examples=[1])
    why: ShownWhy

    @classmethod
    def of(cls, deployment: Deployment) -> ShownDeployment:
        return cls(
            id=deployment.id,
            workload_id=deployment.workload_id,
            state=deployment.state,
            source=deployment.described,
            template=deployment.template,
            asked_at=deployment.asked_at,
            began_at=deployment.began_at,
            ended_at=deployment.ended_at,
            release=deployment.release,
            why=ShownWhy.of(deployment.why),
        )


class Deployed(Shown):
    """A workload with the deployment that was begun."""

    workload: ShownWorkload
    deployment: ShownDeployment


class ShownSpec(Shown):
    """What the next release is made with."""

    environment: dict[str, str] = Field(description="As its owner set it.", examples=[{"GREETING": "hello"}])
    command: list[str] = Field(examples=[["python", "app.py"]])
    port: int | None = Field(description="0: it does not listen; null: as the source says.")
    cpu_millis: int
    memory_mib: int
    volumes: list[VolumeBody]
    patience_seconds: int

    @classmethod
    def of(cls, spec: Spec) -> ShownSpec:
        return cls(
            environment=dict(spec.environment),
            command=list(spec.command),
            port=None if spec.port == ANY_PORT else spec.port,
            cpu_millis=spec.limits.cpu_millis,
            memory_mib=spec.limits.memory_bytes // MIB,
            volumes=[VolumeBody(name=volume.name, path=volume.path) for volume in spec.volumes],
            patience_seconds=spec.patience_seconds,
        )


class ShownRelease(Shown):
    """A release: it is never changed."""

    number: int = Field(examples=[1])
    image: str = Field(examples=["sha256:" + "5f" * 32])
    source: str = Field(examples=["the image nginx:alpine"])
    revision: str = Field(description="What the source calls this state of it.", examples=["nginx:alpine"])
    made_at: Moment
    verdict: Verdict
    why: ShownWhy
    port: int

    @classmethod
    def of(cls, release: Release) -> ShownRelease:
        return cls(
            number=release.number,
            image=release.image,
            source=release.source,
            revision=release.revision,
            made_at=release.made_at,
            verdict=release.verdict,
            why=ShownWhy.of(release.why),
            port=release.spec.port,
        )


class ShownHappening(Shown):
    """Something that happened to a workload."""

    at: Moment
    what: str = Field(examples=["deployed"])
    release: int = Field(examples=[1])
    why: ShownWhy
    actor: str = Field(examples=["019a2b3c4d5e6f708192a3b4"])

    @classmethod
    def of(cls, happening: Happening) -> ShownHappening:
        return cls(
            at=happening.at,
            what=happening.what,
            release=happening.release,
            why=ShownWhy.of(happening.why),
            actor=happening.actor,
        )


class ShownDay(Shown):
    """A day in numbers."""

    day: str = Field(examples=["2026-01-16"])
    deployments: int
    failures: int

    @classmethod
    def of(cls, day: Day) -> ShownDay:
        return cls(day=day.day.isoformat(), deployments=day.deployments, failures=day.failures)


class ShownUpload(Shown):
    """A source that was uploaded."""

    id: Id
    bytes: int = Field(examples=[1024])
