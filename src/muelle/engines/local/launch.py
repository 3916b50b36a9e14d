"""Making a process of a specification, so that nothing ever runs that is not written down.

`launch` forks; the child waits at a gate, which is opened when its identity is on disk, and ends by itself when the
keeper dies before. Only then it becomes the program. Nothing but the standard library, and no threads: it forks.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import resource
import signal
import termios
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from muelle.engines.local import cgroups

OPEN_FILES = 65_536
CANNOT_START = 127
SET_NO_NEW_PRIVILEGES, SET_CHILD_SUBREAPER, SET_PARENT_DEATH_SIGNAL = 38, 36, 1


@dataclass(frozen=True)
class Program:
    """What is to run, and in what bounds; it travels to the keeper as JSON."""

    argv: tuple[str, ...]
    environment: Mapping[str, str]
    folder: str
    groups: tuple[str, ...] = ()
    """The control group's folders, that it joins."""
    owns_groups: bool = True
    """Whether the groups end with it."""
    mark: str = ""
    """The instance's folder: by it those are known that got away from everything above them."""
    sandboxed: bool = False
    """In bubblewrap, which stands between the keeper and the program and must not be asked to end."""
    memory_bytes: int = 0
    """A limit that the keeper sees to, where there is no group that does."""
    terminal: bool = False
    lasting: bool = False
    """Whether it goes on when the keeper dies."""

    @classmethod
    def of(cls, value: Mapping[str, Any]) -> Program:
        return cls(**{**value, "argv": tuple(value["argv"]), "groups": tuple(value["groups"])})


@dataclass
class Launched:
    pid: int
    gate: int
    fault: int

    def open(self) -> str:
        """Lets it go; returns why it could not become the program, or nothing."""
        os.write(self.gate, b"!")
        os.close(self.gate)
        with os.fdopen(self.fault, "rb") as fault:
            return fault.read().decode(errors="replace")

    def give_up(self) -> None:
        os.close(self.gate)
        os.close(self.fault)


class Kernel:
    """What Python's library has no words for."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL(None, use_errno=True)

    def adopt_orphans(self) -> None:
        """What loses its parent below us becomes our child, not the machine's."""
        self._library.prctl(SET_CHILD_SUBREAPER, 1, 0, 0, 0)

    def gain_nothing(self) -> None:
        """Programs that run as somebody else, such as sudo, no longer do."""
        self._library.prctl(SET_NO_NEW_PRIVILEGES, 1, 0, 0, 0)

    def end_with_parent(self) -> None:
        self._library.prctl(SET_PARENT_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)


def launch(program: Program, files: Sequence[int], kernel: Kernel) -> Launched:
    """Forks, and brings the child into its groups. Raises OSError. `files` are its input, output and error output."""
    gate, opener = os.pipe()
    fault, teller = os.pipe()
    pid = os.fork()
    if pid == 0:
        _become(program, files, gate, opener, teller, kernel)
    os.close(gate)
    os.close(teller)
    launched = Launched(pid, opener, fault)
    try:
        cgroups.join(program.groups, pid)
    except OSError:
        launched.give_up()
        raise
    return launched


def _become(program: Program, files: Sequence[int], gate: int, opener: int, teller: int, kernel: Kernel) -> NoReturn:
    try:
        os.close(opener)
        if os.read(gate, 1):
            _prepare(program, files, kernel)
            os.execve(program.argv[0], program.argv, dict(program.environment))  # noqa: S606  # there shall be no shell
    except BaseException as problem:
        os.write(teller, (getattr(problem, "strerror", None) or repr(problem)).encode())
    os._exit(CANNOT_START)


def _prepare(program: Program, files: Sequence[int], kernel: Kernel) -> None:
    os.setsid()
    for number, file in enumerate(files):
        os.dup2(file, number, inheritable=True)
    if program.terminal:
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    for number in (signal.SIGPIPE, signal.SIGXFSZ):  # which Python ignores, and a program would inherit that
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = OPEN_FILES if most == resource.RLIM_INFINITY else min(most, OPEN_FILES)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.umask(0o022)
    os.chdir(program.folder)
    if not program.lasting:
        kernel.end_with_parent()
    if not program.sandboxed:  # bubblewrap does it itself; where it is installed setuid, it could not work after
        kernel.gain_nothing()
