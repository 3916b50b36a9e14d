"""What figures are measured on: a folder, a size, a seed, and servers of our own that may be killed."""

from __future__ import annotations

import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from tests.servers import finding
from tests.servers.postgres import Postgres
from tests.servers.private import PrivateServer
from tests.servers.rabbit import Rabbit
from tests.servers.run import Command, Run

Server = TypeVar("Server", bound=PrivateServer)
SPOKEN = {"postgres": "PostgreSQL", "rabbitmq": "RabbitMQ", "docker": "a Docker engine that answers"}


@dataclass(frozen=True)
class Kills:
    """How often each is killed: the three over RabbitMQ, the program with all in one process."""

    broker: int
    speaker: int
    listener: int
    program: int


@dataclass(frozen=True)
class Fleet:
    """How many workloads, and what is done with them."""

    good: int
    bad: int
    rollbacks: int
    deploy_rounds: int
    owners: int
    each: int
    """Workloads of an owner."""
    quiet_seconds: float
    listeners: int
    changes: int


@dataclass(frozen=True)
class Size:
    """How much of everything. The bars are meant for `FULL`; the others are for those in a hurry, and for tests."""

    name: str
    starts: int
    idle_seconds: float
    event_seconds: float
    facts: int
    kills: Kills
    log_ins: int
    load_rounds: int
    load_seconds: float
    repetitions: int
    fleet: Fleet


FULL = Size(
    "full",
    starts=7,
    idle_seconds=60,
    event_seconds=20,
    facts=10_000,
    kills=Kills(broker=3, speaker=1, listener=1, program=5),
    log_ins=42,
    load_rounds=3,
    load_seconds=6,
    repetitions=5,
    fleet=Fleet(
        good=30, bad=30, rollbacks=30, deploy_rounds=7, owners=50, each=20, quiet_seconds=60, listeners=200, changes=20
    ),
)
QUICK = Size(
    "quick",
    starts=3,
    idle_seconds=5,
    event_seconds=5,
    facts=2_000,
    kills=Kills(broker=3, speaker=1, listener=1, program=5),
    log_ins=15,
    load_rounds=3,
    load_seconds=2,
    repetitions=2,
    fleet=Fleet(
        good=7, bad=6, rollbacks=6, deploy_rounds=3, owners=20, each=10, quiet_seconds=10, listeners=50, changes=5
    ),
)
TINY = Size(
    "tiny",
    starts=1,
    idle_seconds=0.2,
    event_seconds=0.5,
    facts=400,
    kills=Kills(broker=1, speaker=0, listener=1, program=2),
    log_ins=1,
    load_rounds=1,
    load_seconds=0.3,
    repetitions=1,
    fleet=Fleet(
        good=1, bad=1, rollbacks=1, deploy_rounds=1, owners=2, each=3, quiet_seconds=0.5, listeners=4, changes=2
    ),
)


@dataclass(frozen=True)
class Ground:
    folder: Path
    """For homes and data; goes away."""
    logs: Path
    """For the logs that somebody may want to read afterwards; stays."""
    run: Run
    size: Size
    seed: int

    def part(self, name: str) -> Ground:
        """The same with a folder of its own below."""
        folder = self.folder / name
        folder.mkdir(parents=True)
        return replace(self, folder=folder)

    def lack(self, *servers: str) -> str:
        """What is missing on this machine, or nothing."""
        missing = [SPOKEN[name] for name in servers if finding.lack_of_own(name)]
        return f"needs {' and '.join(missing)}" if missing else ""

    @contextmanager
    def postgres(self) -> Iterator[str]:
        """The address of an empty PostgreSQL."""
        with self._own(DurablePostgres) as server:
            yield server.url

    @contextmanager
    def rabbit(self) -> Iterator[Rabbit]:
        with self._own(Rabbit) as server:
            yield server

    def say(self, what: str) -> None:
        """How it is going, for somebody who waits."""
        print(f"  … {what}", file=sys.stderr, flush=True)

    @contextmanager
    def _own(self, kind: type[Server]) -> Iterator[Server]:
        program = Path(finding.KINDS[kind.name].look() or "")
        server = kind(program, self.run.folder / f"{kind.name}-{secrets.token_hex(4)}", self.run)
        server.start()
        try:
            yield server
        finally:
            server.discard()


class DurablePostgres(Postgres):
    """As an operator runs it: each commit is on the disk. What tests leave out for speed would flatter us here."""

    def _command(self) -> Command:
        command = super()._command()
        return replace(command, words=(*command.words, "-c", "fsync=on", "-c", "full_page_writes=on"))
