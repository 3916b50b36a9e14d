"""What is in a zip file, entry by entry."""

from __future__ import annotations

import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import IO

from muelle.workloads.sources.entries import LONGEST_LINK, Archive, Entry, What, runs
from muelle.workloads.sources.errors import (
    ArchiveEncrypted,
    ArchiveUnreadable,
    TooManyEntries,
    UnsafeEntry,
    shown,
)
from muelle.workloads.sources.limits import SourceLimits

ENCRYPTED = 0x1 | 0x40 | 0x2000
READ = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""The others are rare, and some of them take as much memory as the archive asks for."""
UNIX = 3
END_BYTES = 22
LONGEST_COMMENT = 65_535
LARGE_END_BYTES = 76
"""The end and its locator, as large archives have them before the end that all have."""
LISTED_BYTES = 46
"""Of an entry in the list at the end, before its name and what else there is to be said about it."""


def zip_of(file: IO[bytes], limits: SourceLimits) -> Archive:
    """Raises ArchiveUnreadable, TooManyEntries."""
    _bound_list(file, limits)
    try:
        opened = zipfile.ZipFile(file)
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OverflowError, struct.error, OSError) as error:
        raise ArchiveUnreadable(reason=shown(str(error))) from error
    return Zip(opened)


class Zip:
    def __init__(self, opened: zipfile.ZipFile) -> None:
        self._zip = opened

    def entries(self) -> Iterator[tuple[Entry, AbstractContextManager[IO[bytes]] | None]]:
        for info in self._zip.infolist():
            if info.flag_bits & ENCRYPTED:
                raise ArchiveEncrypted()
            if info.compress_type not in READ:
                raise ArchiveUnreadable(reason="it is packed in a way that is not read; deflate is")
            entry = self._entry(info)
            yield entry, _content(self._zip, info) if entry.what is What.FILE else None

    def _entry(self, info: zipfile.ZipInfo) -> Entry:
        # Some programs of Windows write backslashes between folders: their archives would be one flat mess.
        name = info.orig_filename.replace("\\", "/")
        mode = info.external_attr >> 16 if info.create_system == UNIX else 0
        kind = stat.S_IFMT(mode)
        if kind == stat.S_IFLNK:
            with _content(self._zip, info) as content:
                return Entry(name, What.LINK, target=content.read(LONGEST_LINK + 1).decode("utf-8", "surrogateescape"))
        if name.endswith("/") or kind == stat.S_IFDIR:
            return Entry(name, What.FOLDER)
        if kind not in (0, stat.S_IFREG):
            raise UnsafeEntry(path=shown(name), reason="it is neither a file nor a folder nor a link")
        return Entry(name, What.FILE, runs=runs(mode))


@contextmanager
def _content(opened: zipfile.ZipFile, info: zipfile.ZipInfo) -> Iterator[IO[bytes]]:
    """What can go wrong while it is read is the archive's fault, in our words."""
    try:
        with opened.open(info) as content:
            yield content
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, EOFError, ValueError, struct.error) as error:
        raise ArchiveUnreadable(reason=f"{shown(info.filename)} is damaged") from error
    except RuntimeError as error:
        raise ArchiveEncrypted() from error


def _bound_list(file: IO[bytes], limits: SourceLimits) -> None:
    """Counts what is listed, before all of it is read into memory. Raises ArchiveUnreadable, TooManyEntries.

    The number that the archive tells is not asked: zipfile reads the list as long as it is, whatever is told.
    """
    start, size = _list(file)
    file.seek(start)
    read = count = 0
    while read < size and (head := file.read(LISTED_BYTES)).startswith(b"PK\x01\x02") and len(head) == LISTED_BYTES:
        count += 1
        if count > limits.entries:
            raise TooManyEntries(limit=limits.entries)
        more = sum(struct.unpack_from("<HHH", head, 28))
        file.seek(more, 1)
        read += LISTED_BYTES + more
    file.seek(0)


def _list(file: IO[bytes]) -> tuple[int, int]:
    """Where the list of entries begins, and its length: found as zipfile finds it."""
    end = file.seek(0, 2)
    first = file.seek(max(0, end - END_BYTES - LONGEST_COMMENT - LARGE_END_BYTES))
    tail = file.read()
    at = len(tail) - END_BYTES
    if not (tail[at : at + 4] == b"PK\x05\x06" and tail.endswith(b"\0\0")):
        at = tail.rfind(b"PK\x05\x06")
    if at < 0 or len(tail) - at < END_BYTES:
        raise ArchiveUnreadable(reason="its end is missing")
    large = at - LARGE_END_BYTES
    if large >= 0 and tail[at - 20 : at - 16] == b"PK\x06\x07" and tail[large : large + 4] == b"PK\x06\x06":
        at, size = large, int.from_bytes(tail[large + 40 : large + 48], "little")
    else:
        size = int.from_bytes(tail[at + 12 : at + 16], "little")
    if (start := first + at - size) < 0:
        raise ArchiveUnreadable(reason="its end is damaged")
    return start, size
