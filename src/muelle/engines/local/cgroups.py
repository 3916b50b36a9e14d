"""Control groups: limits that really limit, and a list of members from which no process can escape.

`find` looks for a place where this process may make groups: for version 2 beside its own group (so that what runs
there is not ended with Muelle's own service), for version 1 below its own in each hierarchy. It makes one, to see.
A group of ours is a set of folders, one for version 2, one per hierarchy for version 1; whoever has the folders can do
the rest with the functions here. Nothing but the standard library.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

PERIOD_MICROS = 100_000
ENDED_WITHIN_SECONDS = 2.0
REMOVED_WITHIN_SECONDS = 0.5
BETWEEN_LOOKS_SECONDS = 0.002
BUILD_GROUP = "build-"
"""How groups of builds are called; then comes the process that asked for them."""
CONTROLLERS = ("memory", "cpu", "pids")


@dataclass(frozen=True)
class Bounds:
    memory_bytes: int
    cpu_millis: int
    pids: int


@dataclass(frozen=True)
class Groups:
    """Where groups can be made: a folder by controller, the same one for all of them in version 2."""

    folders: Mapping[str, Path]
    unified: bool

    def make(self, name: str, bounds: Bounds) -> list[str]:
        """A fresh group of that name; raises OSError."""
        made = []
        for parent in dict.fromkeys(self.folders.values()):
            folder = parent / name
            remove([str(folder)], with_parent=False)
            parent.mkdir(exist_ok=True)
            if self.unified:
                _hand_down(parent, self.folders)
            folder.mkdir()
            made.append(str(folder))
        for controller, parent in self.folders.items():
            for file, value in _settings(controller, bounds, self.unified):
                _set(parent / name / file, value)
        return made

    def sweep(self) -> None:
        """Ends what is left of builds whose Muelle lives no more. Groups of instances are their keeper's."""
        for parent in dict.fromkeys(self.folders.values()):
            for folder in parent.glob(f"{BUILD_GROUP}*/"):
                if not Path("/proc", folder.name.split("-")[1]).exists():
                    end([str(folder)])
                    remove([str(folder)])


def find(name: str) -> Groups | None:
    """None where this process may make no groups."""
    groups = _unified(name) or _separate(name)
    if groups is None:
        return None
    try:
        folders = groups.make("probe", Bounds(64 * 2**20, 1000, 16))
    except OSError:
        return None
    try:
        return groups if _lets_in(folders) else None
    finally:
        end(folders)
        remove(folders)


def join(folders: Iterable[str], pid: int) -> None:
    for folder in folders:
        Path(folder, "cgroup.procs").write_text(str(pid))


def members(folders: Iterable[str]) -> set[int]:
    found: set[int] = set()
    for folder in folders:
        with suppress(OSError):
            found.update(map(int, Path(folder, "cgroup.procs").read_text().split()))
    return found


def end(folders: Sequence[str]) -> None:
    """Kills the members until there are none: one that forks meanwhile cannot outrun it, its number is bounded."""
    until = time.monotonic() + ENDED_WITHIN_SECONDS
    while (found := members(folders)) and time.monotonic() < until:
        for pid in found:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(BETWEEN_LOOKS_SECONDS)


def remove(folders: Iterable[str], with_parent: bool = True) -> None:
    """Those that have no members any more, and what they stand in, when it is empty."""
    for folder in folders:
        _remove(folder)
        if with_parent:
            with suppress(OSError):
                os.rmdir(os.path.dirname(folder))


def _remove(folder: str) -> None:
    """A member that is killed is for a moment none any more and yet there."""
    until = time.monotonic() + REMOVED_WITHIN_SECONDS
    while True:
        try:
            os.rmdir(folder)
        except FileNotFoundError:
            return
        except OSError:
            if members([folder]) or time.monotonic() > until:
                return
            time.sleep(BETWEEN_LOOKS_SECONDS)


def killed_for_memory(folders: Iterable[str]) -> bool:
    """Whether the kernel has ended a member because the group was at its limit."""
    return any(
        _counter(Path(folder, file), "oom_kill") > 0
        for folder in folders
        for file in ("memory.events", "memory.oom_control")
    )


def use_of(folders: Iterable[str]) -> tuple[int | None, int | None]:
    """Processor time in microseconds and memory in bytes, as far as these groups count them."""
    cpu = memory = None
    for folder in map(Path, folders):
        if (folder / "cpu.stat").exists() and (micros := _counter(folder / "cpu.stat", "usage_usec")):
            cpu = micros
        if (nanos := _number(folder / "cpuacct.usage")) is not None:
            cpu = nanos // 1000
        for file, cached in (("memory.current", "inactive_file"), ("memory.usage_in_bytes", "total_inactive_file")):
            if (used := _number(folder / file)) is not None:
                memory = max(0, used - _counter(folder / "memory.stat", cached))
    return cpu, memory


def _settings(controller: str, bounds: Bounds, unified: bool) -> list[tuple[str, str]]:
    quota = max(1000, bounds.cpu_millis * PERIOD_MICROS // 1000)
    match controller, unified:
        case "memory", True:
            return [
                ("memory.max", str(bounds.memory_bytes)),
                ("?memory.swap.max", "0"),
                ("?memory.oom.group", "1"),
            ]
        case "memory", False:
            return [
                ("memory.limit_in_bytes", str(bounds.memory_bytes)),
                ("?memory.memsw.limit_in_bytes", str(bounds.memory_bytes)),
            ]
        case "cpu", True:
            return [("cpu.max", f"{quota} {PERIOD_MICROS}")]
        case "cpu", False:
            return [("cpu.cfs_period_us", str(PERIOD_MICROS)), ("cpu.cfs_quota_us", str(quota))]
        case "pids", _:
            return [("pids.max", str(bounds.pids))]
        case _:
            return []


def _set(file: Path, value: str) -> None:
    """Those marked with "?" are a bonus that not every kernel has."""
    if not file.name.startswith("?"):
        file.write_text(value)
        return
    with suppress(OSError):
        file.with_name(file.name[1:]).write_text(value)


def _lets_in(folders: list[str]) -> bool:
    with subprocess.Popen(["/bin/sh", "-c", "read _"], stdin=subprocess.PIPE, env={}) as guest:
        try:
            join(folders, guest.pid)
            return guest.pid in members(folders[:1])
        except OSError:
            return False
        finally:
            guest.kill()


def _unified(name: str) -> Groups | None:
    """Version 2. In its root, or beside our own group: groups with members have none below them that are limited."""
    place = _own_places().get("")
    mount = next((mount for mount, kind, _, _ in _mounts() if kind == "cgroup2"), None)
    if place is None or mount is None:
        return None
    parent = mount if place == "/" else (mount / place.lstrip("/")).parent
    _hand_down(parent, CONTROLLERS)
    with suppress(OSError):
        offered = (parent / "cgroup.subtree_control").read_text().split()
        if usable := [controller for controller in CONTROLLERS if controller in offered]:
            return Groups(dict.fromkeys(usable, parent / name), unified=True)
    return None


def _separate(name: str) -> Groups | None:
    """Version 1: a hierarchy for each controller, or for a few together."""
    places = _own_places()
    folders: dict[str, Path] = {}
    for mount, kind, root, options in _mounts():
        if kind != "cgroup":
            continue
        for controller in (*CONTROLLERS, "cpuacct"):
            if controller in options and controller in places:
                place = places[controller].removeprefix(root.rstrip("/"))
                folders.setdefault(controller, mount / place.lstrip("/") / name)
    usable = {controller: folder for controller, folder in folders.items() if os.access(folder.parent, os.W_OK)}
    return Groups(usable, unified=False) if set(CONTROLLERS) & set(usable) else None


def _hand_down(parent: Path, controllers: Iterable[str]) -> None:
    for controller in controllers:
        with suppress(OSError):
            (parent / "cgroup.subtree_control").write_text(f"+{controller}")


def _own_places() -> dict[str, str]:
    """Our own group by controller; by "" in version 2."""
    places = {}
    for line in _lines("/proc/self/cgroup"):
        _, controllers, place = line.split(":", 2)
        places.update(dict.fromkeys(controllers.split(","), place))
    return places


def _mounts() -> list[tuple[Path, str, str, list[str]]]:
    """Mount point, kind, root and options of each file system."""
    found = []
    for line in _lines("/proc/self/mountinfo"):
        before, _, after = line.partition(" - ")
        fields, (kind, _, options) = before.split(), after.split(" ", 2)
        found.append((Path(fields[4]), kind, fields[3], options.split(",")))
    return found


def _lines(path: str) -> list[str]:
    try:
        with open(path) as file:
            return file.read().splitlines()
    except OSError:
        return []


def _number(file: Path) -> int | None:
    try:
        return int(file.read_text())
    except (OSError, ValueError):
        return None


def _counter(file: Path, name: str) -> int:
    for line in _lines(str(file)):
        key, _, value = line.partition(" ")
        if key == name and value.isdigit():
            return int(value)
    return 0
