"""A folder or a file as a .tar.gz, made while it is sent: nothing is written anywhere, and nothing is too large for us.

All lies in one folder at the top of it, which the server takes off: so it arrives as it lies here, also where there is
but one folder in it.
"""

from __future__ import annotations

import os
import stat
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from muelle.cli.ignoring import VIRTUAL_ENVIRONMENT, Ignored, ignored_in
from muelle.cli.showing import size
from muelle.kit.errors import Invalid, Missing

TOP = "source"
LARGEST_BYTES = 512 * 2**20
MOST_ENTRIES = 50_000
"""What a server takes of all files together, as they lie there, and of files and folders."""
LARGEST_UPLOAD_BYTES = 256 * 2**20
"""What it takes of an archive."""
PIECE_BYTES = 256 * 1024
LEVEL = 4
"""Half the time of the usual one, for a few per cent more to send."""
_GZIP: Final = 31
_UNIT: Final = tarfile.BLOCKSIZE


class NothingInIt(Invalid):
    """There is nothing to deploy in {folder}."""


class FolderTooLarge(Invalid):
    """{folder} holds more than {limit}, too much for a source; the largest in it: {largest}."""

    hint = "Name what the program does not need (data, videos) in a file .muelleignore, as in a .gitignore."


class TooManyFiles(Invalid):
    """{folder} holds more than {limit} files and folders; most of them in: {largest}."""

    hint = "Name what the program does not need (installed packages) in a file .muelleignore, as in a .gitignore."


class ArchiveTooLarge(Invalid):
    """{what} is larger than {limit}, the largest upload there is."""

    hint = "Leave out what the program does not need: data, videos, installed packages."


class LinkLeadsOut(Invalid):
    """The link {path} leads out of the folder, and would lead nowhere on the server."""

    hint = "Put what it leads to in its place, or name it in a file .muelleignore."


class Vanished(Missing):
    """{path} is not there any more."""


@dataclass(frozen=True)
class Entry:
    file: Path
    name: str
    """Below the top."""
    state: os.stat_result


@dataclass(frozen=True)
class Packing:
    """What will be sent."""

    entries: tuple[Entry, ...]

    @property
    def weight(self) -> int:
        return sum(_weight(entry) for entry in self.entries)

    @property
    def described(self) -> str:
        files = sum(not stat.S_ISDIR(entry.state.st_mode) for entry in self.entries)
        return f"{files} {'file' if files == 1 else 'files'}, {size(self.weight)}"

    def pieces(self) -> Iterator[bytes]:
        yield from _bounded(_packed(self.entries), "The packed source")


def folder_packing(folder: Path) -> Packing:
    """Looks at all of it before anything is sent, so that it is refused at once if it has to be."""
    entries = []
    weight = 0
    for entry in _walk(folder, "", ignored_in(folder)):
        entries.append(entry)
        weight += _weight(entry)
        if len(entries) > MOST_ENTRIES:
            raise TooManyFiles(folder=folder, limit=f"{MOST_ENTRIES:,}", largest=_fullest(entries))
        if weight > LARGEST_BYTES:
            raise FolderTooLarge(folder=folder, limit=size(LARGEST_BYTES), largest=_largest(entries))
    if all(stat.S_ISDIR(entry.state.st_mode) for entry in entries):
        raise NothingInIt(folder=folder)
    return Packing(tuple(entries))


def file_packing(file: Path) -> Packing:
    entry = Entry(file, file.name, file.stat())
    if entry.state.st_size > LARGEST_BYTES:
        raise ArchiveTooLarge(what=file, limit=size(LARGEST_BYTES))
    return Packing((entry,))


def archive_pieces(file: Path) -> Iterator[bytes]:
    """An archive as it is."""
    if file.stat().st_size > LARGEST_UPLOAD_BYTES:
        raise ArchiveTooLarge(what=file, limit=size(LARGEST_UPLOAD_BYTES))
    with file.open("rb") as opened:
        while piece := opened.read(PIECE_BYTES):
            yield piece


def _walk(folder: Path, below: str, ignored: Ignored) -> Iterator[Entry]:
    with os.scandir(folder / below) as found:
        inside = sorted(found, key=lambda entry: entry.name)
    if below and any(entry.name == VIRTUAL_ENVIRONMENT for entry in inside):
        return
    for entry in inside:
        path = f"{below}/{entry.name}" if below else entry.name
        state = entry.stat(follow_symlinks=False)
        is_folder = stat.S_ISDIR(state.st_mode)
        left_out = ignored(path, is_folder)
        if not left_out and _can_be_sent(state.st_mode):
            if stat.S_ISLNK(state.st_mode):
                _refuse_link_out(folder, path)
            yield Entry(folder / path, path, state)
        if is_folder and (not left_out or ignored.may_hold_more(path)):
            yield from _walk(folder, path, ignored)


def _can_be_sent(mode: int) -> bool:
    return stat.S_ISDIR(mode) or stat.S_ISREG(mode) or stat.S_ISLNK(mode)


def _refuse_link_out(folder: Path, path: str) -> None:
    top, link = os.path.realpath(folder), folder / path
    end = os.path.realpath(link)
    if os.path.isabs(os.readlink(link)) or not (end == top or end.startswith(top + os.sep)):
        raise LinkLeadsOut(path=path)


def _packed(entries: tuple[Entry, ...]) -> Iterator[bytes]:
    """Compressed in pieces that are worth sending."""
    squeeze = zlib.compressobj(LEVEL, zlib.DEFLATED, _GZIP)
    held = bytearray()
    for raw in _tar(entries):
        held += squeeze.compress(raw)
        if len(held) >= PIECE_BYTES:
            yield bytes(held)
            held.clear()
    yield bytes(held) + squeeze.flush()


def _tar(entries: tuple[Entry, ...]) -> Iterator[bytes]:
    top = tarfile.TarInfo(TOP)
    top.type, top.mode = tarfile.DIRTYPE, 0o755
    yield _header(top)
    for entry in entries:
        yield from _entry(entry)
    yield bytes(2 * _UNIT)


def _entry(entry: Entry) -> Iterator[bytes]:
    info = tarfile.TarInfo(f"{TOP}/{entry.name}")
    info.mode = stat.S_IMODE(entry.state.st_mode) & 0o777
    info.mtime = int(entry.state.st_mtime)
    if stat.S_ISLNK(entry.state.st_mode):
        info.type, info.linkname = tarfile.SYMTYPE, os.readlink(entry.file)
        yield _header(info)
    elif stat.S_ISDIR(entry.state.st_mode):
        info.type = tarfile.DIRTYPE
        yield _header(info)
    else:
        yield from _content(entry.file, info)


def _content(file: Path, info: tarfile.TarInfo) -> Iterator[bytes]:
    """Exactly as many bytes as the header says, whatever becomes of the file meanwhile."""
    try:
        opened = file.open("rb")
    except FileNotFoundError:
        raise Vanished(path=file) from None
    with opened:
        info.size = left = os.fstat(opened.fileno()).st_size
        yield _header(info)
        while left:
            piece = opened.read(min(left, PIECE_BYTES)) or bytes(min(left, PIECE_BYTES))
            left -= len(piece)
            yield piece
    yield bytes(-info.size % _UNIT)


def _header(info: tarfile.TarInfo) -> bytes:
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


def _bounded(pieces: Iterator[bytes], what: str) -> Iterator[bytes]:
    sent = 0
    for piece in pieces:
        sent += len(piece)
        if sent > LARGEST_UPLOAD_BYTES:
            raise ArchiveTooLarge(what=what, limit=size(LARGEST_UPLOAD_BYTES))
        yield piece


def _weight(entry: Entry) -> int:
    return entry.state.st_size if stat.S_ISREG(entry.state.st_mode) else 0


def _largest(entries: list[Entry]) -> str:
    entry = max(entries, key=_weight)
    return f"{entry.name} ({size(_weight(entry))})"


def _fullest(entries: list[Entry]) -> str:
    counts: dict[str, int] = {}
    for entry in entries:
        top = entry.name.partition("/")[0]
        counts[top] = counts.get(top, 0) + 1
    return max(counts, key=lambda top: counts[top])
