"""Trees of files that strangers have made: copied, hashed and written to without ever following a link."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Protocol

from muelle.engines.protocol import BuildFailed

CHUNK_BYTES = 2**20


class Digest(Protocol):
    def update(self, data: bytes, /) -> None: ...


def merge(source: Path, target: Path, place: Callable[[str, str], object], skip: Collection[str] = ()) -> None:
    """Brings a tree into another: what is there already stays; pipes and devices are left out.

    `place` copies a file or gives it another name; `skip` are names at the top.
    """
    target.mkdir(exist_ok=True)
    for entry in os.scandir(source):
        if entry.name in skip:
            continue
        to = target / entry.name
        if entry.is_dir(follow_symlinks=False):
            if to.is_dir() and not to.is_symlink():
                merge(Path(entry.path), to, place)
            elif not os.path.lexists(to):
                merge(Path(entry.path), to, place)
                to.chmod(stat.S_IMODE(entry.stat(follow_symlinks=False).st_mode) | stat.S_IRWXU)
        elif os.path.lexists(to):
            continue
        elif entry.is_symlink():
            to.symlink_to(os.readlink(entry.path))
        elif entry.is_file(follow_symlinks=False):
            place(entry.path, str(to))


def copied(source: str, target: str) -> None:
    """With its time, by which Python knows whether what it compiled is still good."""
    shutil.copy2(source, target, follow_symlinks=False)


def shared(source: str, target: str) -> None:
    """The same file by another name: for what is replaced when it changes, and not written to."""
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:
        copied(source, target)


def put(folder: Path, path: str, text: str) -> None:
    """Writes a file into a tree, in place of what is there."""
    at = _below(folder, path)
    at.parent.mkdir(parents=True, exist_ok=True)
    if at.is_symlink() or at.is_file():
        at.unlink()
    try:
        at.write_text(text)
    except OSError as problem:
        raise BuildFailed(reason=f"{path} cannot be written: {problem.strerror}") from problem


def take(source: Path, path: str, target: Path) -> None:
    """Copies one path of a tree into another."""
    at, to = _below(source, path), _below(target, path)
    if not os.path.lexists(at):
        raise BuildFailed(reason=f"there is no {path} in the source")
    to.parent.mkdir(parents=True, exist_ok=True)
    if at.is_dir() and not at.is_symlink():
        merge(at, to, copied)
    elif at.is_symlink() and not os.path.lexists(to):
        to.symlink_to(os.readlink(at))
    elif not os.path.lexists(to):
        copied(str(at), str(to))


def hash_paths(folder: Path, paths: Iterable[str]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        _hash(_below(folder, path), path, digest)
    return digest.hexdigest()


def hash_tree(folder: Path) -> str:
    return hash_paths(folder, sorted(os.listdir(folder)))


def _hash(at: Path, name: str, digest: Digest) -> None:
    try:
        mode = at.lstat().st_mode
    except OSError:
        mode = 0
    digest.update(f"{len(name)} {name} {stat.S_IFMT(mode)} {mode & stat.S_IXUSR}\0".encode("utf-8", "surrogateescape"))
    if stat.S_ISLNK(mode):
        digest.update(os.fsencode(os.readlink(at)) + b"\0")
    elif stat.S_ISDIR(mode):
        for inside in sorted(os.listdir(at)):
            _hash(at / inside, f"{name}/{inside}", digest)
    elif stat.S_ISREG(mode):
        digest.update(f"{at.lstat().st_size}\0".encode())
        with at.open("rb") as file:
            while data := file.read(CHUNK_BYTES):
                digest.update(data)


def _below(folder: Path, path: str) -> Path:
    """A path in a tree, none of whose folders is a link that leads elsewhere."""
    at = folder
    parts = Path(path).parts
    if not parts or Path(path).is_absolute() or ".." in parts:
        raise BuildFailed(reason=f"{path!r} is no path in the source")
    for part in parts[:-1]:
        at = at / part
        if at.is_symlink():
            raise BuildFailed(reason=f"{path!r} leads through a link")
    return folder / path
