"""Ending processes that are not always our children, for certain and with everything they have started."""

import contextlib
import os
import select
import signal
from collections.abc import Iterator
from pathlib import Path

KILLED_WITHIN_SECONDS = 10.0


def end(pid: int, how: signal.Signals, within_seconds: float) -> None:
    """Asks a process to end, kills it where it has not in time, and then what is left of those below it.

    Killing a process group would not do: PostgreSQL gives each backend a group of its own.
    """
    with watched([pid, *descendants(pid)]) as family:
        for leader in family[:1]:
            signal.pidfd_send_signal(leader, how)
            ended(leader, within_seconds)
        for member in family:
            kill(member)


def wait(pid: int) -> None:
    """Until a process ends, as long as it takes."""
    with watched([pid]) as processes:
        for process in processes:
            ended(process, None)


@contextlib.contextmanager
def watched(pids: list[int]) -> Iterator[list[int]]:
    """Handles for those that still live. Unlike a pid, a handle can never come to mean another process."""
    handles = []
    try:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                handles.append(os.pidfd_open(pid))
        yield handles
    finally:
        for handle in handles:
            os.close(handle)


def kill(process: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(process, signal.SIGKILL)
        ended(process, KILLED_WITHIN_SECONDS)


def ended(process: int, within_seconds: float | None) -> bool:
    return bool(select.select([process], [], [], within_seconds)[0])


def descendants(pid: int) -> list[int]:
    """Everything that a process has started, directly or not."""
    below = children()
    found = list(below.get(pid, ()))
    for member in found:  # grows while it is walked
        found.extend(below.get(member, ()))
    return found


def children() -> dict[int, list[int]]:
    """Each living process's children, by its pid."""
    below: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            # the name, in brackets, may hold anything; what follows it is: state, parent, …
            parent = int(stat.read_text(errors="replace").rpartition(")")[2].split()[1])
            below.setdefault(parent, []).append(int(stat.parent.name))
    return below
