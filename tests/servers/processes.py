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
    with watched([pid]) as leader, watched(descendants(pid)) as below:
        for process in leader:
            tell(process, how, within_seconds)
        for process in leader + below:
            tell(process, signal.SIGKILL, KILLED_WITHIN_SECONDS)


def wait(pid: int) -> None:
    """Until a process ends."""
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


def tell(process: int, what: signal.Signals, within_seconds: float) -> None:
    """Sends a signal and gives its end so much time."""
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(process, what)
        ended(process, within_seconds)


def ended(process: int, within_seconds: float | None) -> bool:
    """Waits for it; without a limit, as long as it takes."""
    end_of_it = select.poll()
    end_of_it.register(process, select.POLLIN)
    return bool(end_of_it.poll(None if within_seconds is None else within_seconds * 1000))


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
