"""Ending processes that are not always our children, for certain and without leaving their own children behind."""

import contextlib
import os
import select
import signal
from pathlib import Path

KILLED_WITHIN_SECONDS = 10.0


def end(pid: int, how: signal.Signals, within_seconds: float) -> None:
    """Asks a process to end; where it has not in time, kills it and everything below it."""
    family = [pid, *descendants(pid)]
    send(pid, how)
    if not ends_within(pid, within_seconds):
        kill(pid)
    for orphan in family[1:]:
        send(orphan, signal.SIGKILL)


def kill(pid: int) -> None:
    """SIGKILL for a process and everything below it, and waits until all are gone.

    A process group would not do: PostgreSQL gives each backend a group of its own.
    """
    family = [pid, *descendants(pid)]
    for member in family:
        send(member, signal.SIGKILL)
    for member in family:
        ends_within(member, KILLED_WITHIN_SECONDS)


def ends_within(pid: int, seconds: float | None) -> bool:
    """Whether a process has ended by then; without a limit it is waited for as long as it takes."""
    try:
        watched = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([watched], [], [], seconds)[0])
    finally:
        os.close(watched)


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


def send(pid: int, how: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, how)
