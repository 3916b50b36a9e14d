"""What /proc tells: who is below whom, whose a process is, what it uses. Nothing but the standard library.

A pid alone says nothing, since it comes to mean another process sooner or later. `Identity` adds when the process was
started and in which run of the machine: together they never mean another one.
"""

from __future__ import annotations

import hashlib
import os
import signal
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGESIZE")

# Places in /proc/<pid>/stat, counted from what follows the name in brackets, which may hold anything.
STATE, PARENT, OWN_CPU, ENDED_CPU, STARTED, RESIDENT = 0, 1, slice(11, 13), slice(13, 15), 19, 21


@dataclass(frozen=True)
class Identity:
    pid: int
    started: int
    """In ticks since the machine was started."""
    boot: str

    @property
    def alive(self) -> bool:
        return self.boot == boot() and started(self.pid) == self.started


def identity(pid: int) -> Identity:
    return Identity(pid, started(pid) or 0, boot())


def mark_of(folder: object) -> str:
    """A short name for a folder, which no other on this machine has."""
    return hashlib.sha256(str(folder).encode()).hexdigest()[:16]


def boot() -> str:
    """Names this run of the machine."""
    with open("/proc/sys/kernel/random/boot_id") as file:
        return file.read().strip()


def booted_at() -> float:
    with open("/proc/stat") as file:
        return next(float(line.split()[1]) for line in file if line.startswith("btime "))


def started(pid: int) -> int | None:
    """When a process was started; None if it has ended, even where nobody has asked how."""
    fields = _stat(pid)
    return None if fields is None or fields[STATE] in "ZX" else int(fields[STARTED])


class Snapshot:
    """All processes at one moment, to look at many of them for the price of one."""

    def __init__(self) -> None:
        self._children: dict[int, list[int]] = {}
        self._bytes: dict[int, int] = {}
        for pid in _all():
            if (fields := _stat(pid)) and fields[STATE] not in "ZX":
                self._children.setdefault(int(fields[PARENT]), []).append(pid)
                self._bytes[pid] = int(fields[RESIDENT]) * PAGE_BYTES

    def below(self, pid: int) -> list[int]:
        found = list(self._children.get(pid, ()))
        for member in found:  # grows while it is walked
            found.extend(self._children.get(member, ()))
        return found

    def memory_of(self, pid: int) -> int:
        """Its own and of all below it."""
        return sum(self._bytes.get(one, 0) for one in (pid, *self.below(pid)))


def below(pid: int) -> list[int]:
    """Everything that a process has started and that is still below it."""
    return Snapshot().below(pid)


def child_of(pid: int) -> int | None:
    """The first child of a process."""
    with suppress(OSError), open(f"/proc/{pid}/task/{pid}/children") as file:
        return next((int(child) for child in file.read().split()), None)
    return next(iter(below(pid)), None)


def inside(pid: int) -> int | None:
    """The first process in a sandbox, told by the outer one's pid; None until it is set up, and has a program."""
    first = child_of(pid)
    return first if first is not None and child_of(first) is not None else None


def strays(folder: str) -> list[int]:
    """Those that belong to an instance, wherever they have gone: they have its home, or are its sandbox."""
    home, inside = f"HOME={folder}/".encode(), f"{folder}/".encode()
    return [pid for pid in _all() if home in _read(pid, "environ") or _is_sandbox_of(pid, inside)]


def end(pids: Iterable[int]) -> None:
    for pid in pids:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)


def use_of(pids: Iterable[int]) -> tuple[int, int]:
    """Processor time in microseconds, that of children which have ended included, and memory in bytes."""
    ticks = pages = 0
    for pid in pids:
        if fields := _stat(pid):
            ticks += sum(map(int, fields[OWN_CPU])) + sum(map(int, fields[ENDED_CPU]))
            pages += int(fields[RESIDENT])
    return ticks * 1_000_000 // TICKS_PER_SECOND, pages * PAGE_BYTES


def _is_sandbox_of(pid: int, inside: bytes) -> bool:
    words = _read(pid, "cmdline")
    return words.split(b"\0", 1)[0].endswith(b"bwrap") and inside in words


def _all() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _stat(pid: int) -> list[str] | None:
    text = _read(pid, "stat")
    return text.decode(errors="replace").rpartition(")")[2].split() if text else None


def _read(pid: int, what: str) -> bytes:
    try:
        with open(f"/proc/{pid}/{what}", "rb") as file:
            return file.read()
    except OSError:
        return b""
