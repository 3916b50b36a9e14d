"""What is in a tar file, entry by entry; one that is packed is unpacked on the disk first, piece by counted piece.

tarfile goes back and forth, which a packed stream can only do by beginning anew; it reads a header's text in one go,
however large the header says that it is; and it believes a header that leads back, for ever. So it gets a plain file,
no more than a bounded piece at once, and cannot go back.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import IO, cast

from muelle.workloads.sources.entries import Archive, Entry, What, runs
from muelle.workloads.sources.errors import ArchiveUnreadable, UnsafeEntry, shown

CHUNK_BYTES = 64 * 1024
LARGEST_PIECE_BYTES = 128 * 1024
MOST_HEADER_BYTES = 2**20
"""Of all that describes one entry."""
MOST_GLOBAL_HEADERS = 100
MOST_XZ_MEMORY_BYTES = 128 * 2**20
"""As much as `xz -9` wants, and half as much again."""

_DIGITS_ALIKE = bytes.maketrans(b"123456789", b"0" * 9)
_MANY_DIGITS = b"0" * 100

Count = Callable[[int], None]
Breathe = Callable[[], None]


def tar_of(file: IO[bytes], work: Path, count: Count, breathe: Breathe) -> Archive:
    """`count` is told how much there is, `breathe` is called on the way: both may raise. Raises ArchiveUnreadable."""
    start = file.read(6)
    file.seek(0)
    try:
        if start.startswith(b"\x1f\x8b"):
            file = _plain(cast(IO[bytes], gzip.GzipFile(fileobj=file)), work, count)
        elif start.startswith(b"BZh"):
            file = _plain(cast(IO[bytes], bz2.BZ2File(file)), work, count)
        elif start.startswith(b"\xfd7zXZ\0"):
            file = _plain(cast(IO[bytes], Xz(file)), work, count)
        return Tar(Pieces(file, breathe))
    except (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, ValueError, RecursionError) as error:
        raise ArchiveUnreadable(reason="it is no zip and no tar, or damaged") from error
    except OSError as error:
        if error.errno is not None:
            raise
        raise ArchiveUnreadable(reason="it is damaged") from error  # bz2 says so without a number


class Tar:
    def __init__(self, file: Pieces) -> None:
        self._file = file
        self._tar = tarfile.open(fileobj=file, mode="r:", errorlevel=2)  # noqa: SIM115 - it has nothing to close

    def entries(self) -> Iterator[tuple[Entry, AbstractContextManager[IO[bytes]] | None]]:
        while (info := self._next()) is not None:
            entry = _entry(info)
            yield entry, self._content(info) if entry.what is What.FILE else None
            self._tar.members.clear()  # type: ignore[attr-defined]  # else all that there ever was is kept

    def _next(self) -> tarfile.TarInfo | None:
        self._file.expect_headers()
        try:
            info = self._tar.next()
        except (tarfile.TarError, ValueError, EOFError, OverflowError, RecursionError) as error:
            raise ArchiveUnreadable(reason=f"it is damaged ({shown(str(error))})") from error
        if info is None and not self._file.ends_at(self._tar.offset):
            raise ArchiveUnreadable(reason="it is damaged, or not all of it is there")
        if len(self._tar.pax_headers) > MOST_GLOBAL_HEADERS:
            raise ArchiveUnreadable(reason="its headers have no end")
        return info

    @contextmanager
    def _content(self, info: tarfile.TarInfo) -> Iterator[IO[bytes]]:
        try:
            self._file.expect_content()
            if content := self._tar.extractfile(info):
                yield content
        except (tarfile.TarError, ValueError, EOFError) as error:
            raise ArchiveUnreadable(reason=f"{shown(info.name)} is damaged") from error


def _entry(info: tarfile.TarInfo) -> Entry:
    if info.isdir():
        return Entry(info.name, What.FOLDER)
    if info.issym():
        return Entry(info.name, What.LINK, target=info.linkname)
    if info.islnk():
        return Entry(info.name, What.HARD_LINK, target=info.linkname)
    if not info.isreg():
        raise UnsafeEntry(path=shown(info.name), reason="it is neither a file nor a folder nor a link")
    return Entry(info.name, What.FILE, runs=runs(info.mode))


class Pieces(io.RawIOBase):
    """A file of which nobody gets more than a bounded piece at once, and that is read onwards alone."""

    def __init__(self, file: IO[bytes], breathe: Breathe) -> None:
        self._file = file
        self._breathe = breathe
        self._furthest = 0
        self._headers_left: int | None = 0
        self.expect_headers()

    def expect_headers(self) -> None:
        """What is read from now on describes an entry."""
        self._headers_left = MOST_HEADER_BYTES

    def expect_content(self) -> None:
        self._headers_left = None

    def read(self, size: int = -1) -> bytes:
        self._breathe()
        if not 0 <= size <= LARGEST_PIECE_BYTES:
            raise tarfile.ReadError("a header is larger than any has to be")
        data = self._file.read(size)
        self._furthest = max(self._furthest, self._file.tell())
        if self._headers_left is not None:
            self._headers_left -= len(data)
            # Some versions of tarfile look for a pattern in these that takes the square of the digits in a row.
            if self._headers_left < 0 or _MANY_DIGITS in data.translate(_DIGITS_ALIKE):
                raise tarfile.ReadError("its headers are larger than any have to be")
        return data

    def seek(self, offset: int, whence: int = 0) -> int:
        if whence == 0 and offset < self._furthest - 1:  # by one byte tarfile goes back to see whether it is there
            raise tarfile.ReadError("a header leads back")
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def ends_at(self, offset: int) -> bool:
        """Whether there is nothing more: tarfile takes a header that it cannot read for the end."""
        self._file.seek(offset)
        return not self._file.read(tarfile.BLOCKSIZE).strip(b"\0")


class Xz:
    """Reads xz with bounded memory: an archive may ask for four gigabytes of it."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._reader = self._begin()
        self._rest = b""

    def read(self, size: int) -> bytes:
        while True:
            if self._reader.eof:
                self._rest = self._reader.unused_data.lstrip(b"\0") or self._file.read(CHUNK_BYTES).lstrip(b"\0")
                if not self._rest:
                    return b""
                self._reader = self._begin()
            wanted = self._reader.needs_input
            data, self._rest = self._rest or (self._file.read(CHUNK_BYTES) if wanted else b""), b""
            if wanted and not data:
                raise EOFError("it ends too early")
            if piece := self._reader.decompress(data, size):
                return piece

    def _begin(self) -> lzma.LZMADecompressor:
        return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=MOST_XZ_MEMORY_BYTES)


def _plain(packed: IO[bytes], work: Path, count: Count) -> IO[bytes]:
    file = cast(IO[bytes], tempfile.TemporaryFile(dir=work))  # noqa: SIM115 - it is gone with its last user
    while data := packed.read(CHUNK_BYTES):
        count(file.tell() + len(data))
        file.write(data)
    file.seek(0)
    return file
