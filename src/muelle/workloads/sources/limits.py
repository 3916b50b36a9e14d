"""How large a source may be, and how long it may take; and what a folder weighs."""

from __future__ import annotations

import os
import threading
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from muelle.workloads.sources.errors import LinkOut, SourceTooLarge, TooManyEntries, shown


@dataclass(frozen=True)
class SourceLimits:
    bytes: int = 512 * 2**20
    """Of all files together, as they lie in the folder."""
    entries: int = 50_000
    """Files, folders and links."""
    seconds: float = 300.0
    """From the first byte asked for until the folder is there."""


@dataclass(frozen=True)
class Weight:
    bytes: int
    entries: int


def weigh(
    folder: Path, limits: SourceLimits, *, without: Collection[str] = (), stop: threading.Event | None = None
) -> Weight:
    """What is in a folder, links not followed; `without` are names at its top that do not count.

    Raises SourceTooLarge, TooManyEntries, as soon as that is sure. What vanishes meanwhile weighs nothing. It looks no
    further once `stop` is set.
    """
    size = entries = 0
    waiting = [folder]
    while waiting and not (stop and stop.is_set()):
        for entry in _entries(waiting.pop()):
            if entry.name in without and Path(entry.path).parent == folder:
                continue
            entries += 1
            if entry.is_dir(follow_symlinks=False):
                waiting.append(Path(entry.path))
            else:
                size += _size(entry)
            check_weight(Weight(size, entries), limits)
    return Weight(size, entries)


def check_weight(weight: Weight, limits: SourceLimits) -> None:
    if weight.entries > limits.entries:
        raise TooManyEntries(limit=limits.entries)
    if weight.bytes > limits.bytes:
        raise SourceTooLarge(limit=limits.bytes)


def refuse_links_out(folder: Path) -> None:
    """Raises LinkOut where a symbolic link leads, by whatever way, to something that is not in the folder.

    The way counts and not only the text: with `a` leading to `.`, `a/..` looks like the folder and is what is above it.
    """
    top = os.path.realpath(folder)
    waiting = [folder]
    while waiting:
        for entry in _entries(waiting.pop()):
            if entry.is_symlink():
                if not _inside(entry.path, top):
                    raise LinkOut(path=shown(os.path.relpath(entry.path, folder)))
            elif entry.is_dir(follow_symlinks=False):
                waiting.append(Path(entry.path))


def _inside(link: str, top: str) -> bool:
    if os.path.isabs(os.readlink(link)):
        return False  # it would lead elsewhere as soon as the folder is moved, even if it leads here now
    end = os.path.realpath(link)
    return end == top or end.startswith(top + os.sep)


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as found:
            return list(found)
    except OSError:
        return []


def _size(entry: os.DirEntry[str]) -> int:
    try:
        return entry.stat(follow_symlinks=False).st_size
    except OSError:
        return 0
