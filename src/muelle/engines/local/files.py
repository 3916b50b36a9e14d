"""Files that are either whole or not there, whenever the process is killed. Nothing but the standard library."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

OWN_FOLDER_MODE = 0o700


def write_json(path: Path, value: Any, *, outlasts_power: bool = True) -> None:
    """Puts it in the place of what is there, at once.

    What would be worth nothing after a power cut, because the run of the machine that it tells of is over, need not
    outlast one: that saves a few milliseconds of waiting for the disk. Then it may be gone, or be no JSON any more.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    file = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        os.write(file, json.dumps(value).encode())
        if outlasts_power:
            os.fsync(file)
    finally:
        os.close(file)
    os.replace(beside, path)


def read_json(path: Path) -> dict[str, Any] | None:
    """What is there; None where it is not, or is no such file of ours."""
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def fresh_folder(beside: Path, name: str) -> Path:
    """A folder to be filled and then published under that name; its own tells who is at it."""
    fresh = beside / f".{name}.{os.getpid()}.{os.urandom(4).hex()}"
    fresh.mkdir(mode=OWN_FOLDER_MODE)
    return fresh


def publish(fresh: Path, name: str, trash: Path) -> None:
    """Gives a filled folder its name, at once; where another was quicker, that one stays."""
    try:
        os.rename(fresh, fresh.parent / name)
    except OSError:
        put_away(fresh, trash)


def half_made(folder: Path) -> list[Path]:
    """What was to be published there by processes that live no more."""
    fresh = [path for path in folder.iterdir() if path.name[0] == "." and path.name.count(".") > 2]
    return [path for path in fresh if not Path("/proc", path.name.split(".")[-2]).exists()]


def put_away(folder: Path, trash: Path) -> None:
    """Removes a folder. What a crash leaves in the trash is swept."""
    if aside := set_aside(folder, trash):
        empty(aside)


def set_aside(folder: Path, trash: Path) -> Path | None:
    """Takes a folder away at once, for whoever looks; it is still to be emptied. None where there is none."""
    trash.mkdir(mode=OWN_FOLDER_MODE, parents=True, exist_ok=True)
    aside = trash / f"{folder.name}.{os.getpid()}.{os.urandom(4).hex()}"
    try:
        os.rename(folder, aside)
    except FileNotFoundError:
        return None
    return aside


def empty(folder: Path) -> None:
    """Removes a tree, also one whose folders its maker has made unreadable."""
    shutil.rmtree(folder, ignore_errors=True)
    if not folder.exists():
        return
    for inside, _, _ in os.walk(folder, onerror=_open_up):
        os.chmod(inside, OWN_FOLDER_MODE)
    shutil.rmtree(folder, ignore_errors=True)


def _open_up(problem: OSError) -> None:
    if problem.filename:
        os.chmod(problem.filename, OWN_FOLDER_MODE)


def size_of(folder: Path) -> int:
    """What a tree takes up; files with several names are counted at each."""
    total = 0
    for inside, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(inside, name)).st_size
            except OSError:
                continue
    return total
