"""The source of a build as a tar stream, made a block at a time: no source is too large for our memory.

Links stay links and are never followed, what is neither a file, a folder nor a link is left out, and so is `.git`: it
may hold the token with which the source was fetched.
"""

from __future__ import annotations

import asyncio
import os
import stat
import tarfile
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Final

from muelle.engines.docker.ignore import Ignored

BLOCK_BYTES = 1 << 20
_UNIT: Final = tarfile.BLOCKSIZE
_PRIVATE = {".git"}


async def stream(folder: Path, ignored: Ignored, given: Mapping[str, bytes]) -> AsyncIterator[bytes]:
    """`given` are texts of ours, by path; they stand instead of what the source has there."""
    blocks = _gathered(_tar(folder, ignored, given))
    while block := await asyncio.to_thread(next, blocks, b""):
        yield block


def _gathered(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Small files are many: their pieces make blocks that are worth a turn of the loop."""
    held = bytearray()
    for piece in pieces:
        held += piece
        if len(held) >= BLOCK_BYTES:
            yield bytes(held)
            held.clear()
    if held:
        yield bytes(held)


def _tar(folder: Path, ignored: Ignored, given: Mapping[str, bytes]) -> Iterator[bytes]:
    for path in sorted(given):
        yield from _text(path, given[path])
    for path in _paths(folder, "", ignored):
        if path not in given:
            yield from _entry(folder / path, path)
    yield bytes(2 * _UNIT)


def _paths(folder: Path, below: str, ignored: Ignored) -> Iterator[str]:
    with os.scandir(folder / below) as found:
        entries = sorted(found, key=lambda entry: entry.name)
    for entry in entries:
        path = f"{below}/{entry.name}" if below else entry.name
        is_folder = entry.is_dir(follow_symlinks=False)
        left_out = entry.name in _PRIVATE or path in ignored
        if not left_out:
            yield path
        if is_folder and entry.name not in _PRIVATE and not (left_out and ignored.whole_folders):
            yield from _paths(folder, path, ignored)


def _entry(file: Path, path: str) -> Iterator[bytes]:
    state = file.lstat()
    entry = tarfile.TarInfo(path)
    entry.mode = stat.S_IMODE(state.st_mode) & 0o777
    entry.mtime = int(state.st_mtime)
    if stat.S_ISLNK(state.st_mode):
        entry.type, entry.linkname = tarfile.SYMTYPE, os.readlink(file)
        yield _header(entry)
    elif stat.S_ISDIR(state.st_mode):
        entry.type = tarfile.DIRTYPE
        yield _header(entry)
    elif stat.S_ISREG(state.st_mode):
        yield from _content(file, entry)


def _content(file: Path, entry: tarfile.TarInfo) -> Iterator[bytes]:
    """Exactly as many bytes as the header says, whatever becomes of the file meanwhile."""
    descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as opened:
        entry.size = left = os.fstat(descriptor).st_size
        yield _header(entry)
        while left:
            piece = opened.read(min(left, BLOCK_BYTES)) or bytes(min(left, BLOCK_BYTES))
            left -= len(piece)
            yield piece
    yield _padding(entry.size)


def _text(path: str, content: bytes) -> Iterator[bytes]:
    entry = tarfile.TarInfo(path)
    entry.size = len(content)
    yield _header(entry) + content + _padding(entry.size)


def _header(entry: tarfile.TarInfo) -> bytes:
    return entry.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


def _padding(size: int) -> bytes:
    return bytes(-size % _UNIT)
