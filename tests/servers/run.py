"""What one pytest run shares: a folder, the servers that were started for it, and their end.

The run's controller makes the folder and tells its pytest-xdist workers where it is. Who needs a shared server first
starts it, under a file lock, and leaves its address for the others. Each process is written down as soon as it exists,
so the controller can end it when the run is over, Ctrl-C included. Where the controller is itself killed, a guardian
process that has been waiting for that does it instead.
"""

import fcntl
import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from tests.servers import processes

ENDS_WITHIN_SECONDS = 5.0


class ServerFailed(Exception):
    """A server is installed and does not start: a fault to be seen, never a reason to skip."""


@dataclass(frozen=True)
class Command:
    """A program to be started: its words, its whole environment, and the user it runs as where that is another."""

    words: tuple[str, ...]
    environment: Mapping[str, str]
    user: str | None = None


@dataclass(frozen=True)
class Run:
    """One pytest run, as seen by its controller and by each of its workers."""

    folder: Path
    controller: int

    @classmethod
    def begin(cls) -> Self:
        folder = Path(tempfile.mkdtemp(prefix="muelle-tests-"))
        folder.chmod(0o711)  # PostgreSQL may have to run as another user, and must get to its data
        records(folder).mkdir()
        return cls(folder, os.getpid())

    def shared(self, name: str, start: Callable[[], str]) -> str:
        """The address of the run's one server of this name. A start that failed is not tried again by every test."""
        state = self.folder / f"{name}.json"
        with locked(self.folder / f"{name}.lock"):
            if not state.exists():
                write(state, outcome_of(start))
            outcome = json.loads(state.read_text())
        if problem := outcome.get("problem"):
            raise ServerFailed(problem)
        return str(outcome["address"])

    def spawn(self, command: Command, log: Path, end_by: signal.Signals) -> subprocess.Popen[bytes]:
        """Starts a server's process, out of reach of a terminal's Ctrl-C, and writes it down."""
        self.shared("guardian", self._start_guardian)
        with log.open("ab") as output:
            process = subprocess.Popen(
                command.words,
                env=dict(command.environment),
                **as_user(command.user),
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        write(self._record(process.pid), {"end_by": end_by})
        return process

    def forget(self, pid: int) -> None:
        """A process that has ended is no longer ours to end: its pid may soon be another's."""
        self._record(pid).unlink(missing_ok=True)

    def end(self) -> None:
        end_all(self.folder)

    def _start_guardian(self) -> str:
        guardian = subprocess.Popen(
            [sys.executable, "-m", __name__, str(self.controller), str(self.folder)],
            cwd=Path(__file__).parents[2],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        write(self._record(guardian.pid), {"end_by": signal.SIGKILL})
        return str(guardian.pid)

    def _record(self, pid: int) -> Path:
        return records(self.folder) / str(pid)


def guard(controller: int, folder: Path) -> None:
    """Waits for a controller's end; where that was a violent one, does what it could not do any more."""
    processes.wait(controller)
    end_all(folder)


def end_all(folder: Path) -> None:
    """Ends every process that was written down in a run's folder, and takes the folder away."""
    for record in records(folder).glob("[0-9]*"):
        if (pid := int(record.name)) != os.getpid():
            processes.end(pid, signal.Signals(json.loads(record.read_text())["end_by"]), ENDS_WITHIN_SECONDS)
    shutil.rmtree(folder, ignore_errors=True)


def outcome_of(start: Callable[[], str]) -> dict[str, str]:
    try:
        return {"address": start()}
    except ServerFailed as failure:
        return {"problem": str(failure)}


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keeps the run's other processes out until the block is left."""
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def write(path: Path, content: Mapping[str, object]) -> None:
    """Puts a file there whole, for our eyes alone: an address bears a password, and a reader may come at any time."""
    unfinished = path.with_name(f".{path.name}.new")
    unfinished.touch(mode=0o600)
    unfinished.write_text(json.dumps(content))
    unfinished.rename(path)


def records(folder: Path) -> Path:
    return folder / "processes"


def as_user(name: str | None) -> dict[str, Any]:
    """What makes `subprocess` run a program as this user, with that user's group alone."""
    return {} if name is None else {"user": name, "group": pwd.getpwnam(name).pw_gid, "extra_groups": []}


if __name__ == "__main__":
    guard(int(sys.argv[1]), Path(sys.argv[2]))
