"""One thing in an archive, and what is to be said against it before anything is made of it. Pure."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import Enum
from typing import IO, Protocol

from muelle.workloads.sources.errors import UnsafeEntry, shown

LONGEST_PATH = 1024
LONGEST_PART_BYTES = 255
DEEPEST = 64
LONGEST_LINK = 1024
IGNORED_FOLDERS = frozenset({"__MACOSX", ".git"})
IGNORED_FILES = frozenset({".DS_Store"})


class What(Enum):
    FILE = "file"
    FOLDER = "folder"
    LINK = "link"
    HARD_LINK = "hard link"


@dataclass(frozen=True)
class Entry:
    """One thing in an archive, as the archive has it."""

    name: str
    what: What
    runs: bool = False
    """Whether its owner may run it: of all permissions the only one that is kept."""
    target: str = ""
    """Where a link leads, in its own words."""


class Archive(Protocol):
    def entries(self) -> Iterator[tuple[Entry, AbstractContextManager[IO[bytes]] | None]]:
        """Each once, in order, with the content of a file."""
        ...


def judged(entry: Entry) -> str:
    """An entry's path in the folder; empty: it is left out. Raises UnsafeEntry."""
    name = entry.name
    if objection := _objection(name):
        raise UnsafeEntry(path=shown(name), reason=objection)
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if len(parts) > DEEPEST or len(name) > LONGEST_PATH:
        raise UnsafeEntry(path=shown(name), reason="it lies too deep, or its path is too long")
    if any(len(part.encode()) > LONGEST_PART_BYTES for part in parts):
        raise UnsafeEntry(path=shown(name), reason="its name is too long")
    if entry.what is What.LINK and (not 0 < len(entry.target) <= LONGEST_LINK or _objection(entry.target, link=True)):
        raise UnsafeEntry(path=shown(name), reason="it is a link to what cannot be a path of the same archive")
    left_out = parts and (parts[-1] in IGNORED_FILES or parts[-1].startswith("._"))
    return "" if left_out or IGNORED_FOLDERS.intersection(parts) else "/".join(parts)


def _objection(name: str, *, link: bool = False) -> str:
    """What is to be said against a path; a link's may go up, since where it ends is looked at later."""
    if name.startswith(("/", "\\")) or (len(name) > 1 and name[0].isascii() and name[0].isalpha() and name[1] == ":"):
        return "it does not begin in the archive"
    if not link and ".." in name.replace("\\", "/").split("/"):
        return "it leads out of the archive"
    if "\\" in name:
        return "there is a backslash in its name"
    if any(ord(letter) < 32 or 127 <= ord(letter) < 160 or 0xD800 <= ord(letter) < 0xE000 for letter in name):
        return "there are characters in its name that nobody can read"
    return ""


def runs(mode: int) -> bool:
    return bool(mode & stat.S_IXUSR)
