"""An uploaded archive, unpacked into a folder by hand: what is in it is a stranger's word, entry by entry.

What an entry says of itself (its size, its name, its kind) is never believed: bytes are counted as they are written,
and names are judged before anything is made of them. While files are written there is no link in the folder that one
could lead through; links are made at the end, and looked at then. A single folder at the top, as GitHub's archives
have, is taken off.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from muelle.workloads.sources.entries import Archive, Entry, What, judged
from muelle.workloads.sources.errors import (
    ArchiveBomb,
    ArchiveEmpty,
    ArchiveUnreadable,
    DiskRefused,
    SourceTookTooLong,
    SourceTooLarge,
    TooManyEntries,
    UnsafeEntry,
    shown,
)
from muelle.workloads.sources.limits import SourceLimits, Weight, refuse_links_out, weigh
from muelle.workloads.sources.scratch import scratch
from muelle.workloads.sources.tars import tar_of
from muelle.workloads.sources.zips import zip_of

CHUNK_BYTES = 64 * 1024
MOST_RATIO = 200
"""How many times its size an archive may grow; program text grows three to ten times."""
RATIO_BEGINS_BYTES = 32 * 2**20
"""Below this a ratio says nothing: an empty log packs very small."""


async def unpack(file: Path, into: Path, limits: SourceLimits) -> Weight:
    """Unpacks a .zip, .tar, .tar.gz, .tar.bz2 or .tar.xz to `into`, which is not there yet.

    What counts is the content, not the name. Nothing is there when it fails. Cancelling ends it within moments.
    """
    into.parent.mkdir(parents=True, exist_ok=True)
    async with scratch(into) as work:
        unpacking = Unpacking(work / "tree", limits, time.monotonic() + limits.seconds)
        doing = asyncio.ensure_future(asyncio.to_thread(_unpack, file, work, into, unpacking))
        try:
            return await asyncio.shield(doing)
        finally:
            unpacking.stop.set()
            await asyncio.wait([doing])  # its folder is not taken from under it
            doing.exception()


def _unpack(file: Path, work: Path, into: Path, unpacking: Unpacking) -> Weight:
    try:
        with open(file, "rb") as opened:
            unpacking.packed_bytes = os.fstat(opened.fileno()).st_size
            unpacking.take(_archive(opened, work, unpacking))
        top = unpacking.finish()
        weight = weigh(top, unpacking.limits)
        os.rename(top, into)
    except OSError as error:
        raise DiskRefused(reason=error.strerror or "the disk does not answer") from error
    return weight


def _archive(file: IO[bytes], work: Path, unpacking: Unpacking) -> Archive:
    start = file.read(6)
    file.seek(0)
    if start.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return zip_of(file, unpacking.limits)
    if start.startswith((b"Rar!", b"7z\xbc\xaf\x27\x1c")):
        raise ArchiveUnreadable(reason="RAR and 7z are not read")
    return tar_of(file, work, unpacking.count, unpacking.breathe)


class Stopped(Exception):
    """Nobody waits for it any more."""


@dataclass
class Unpacking:
    """What has been unpacked so far, and what may be."""

    root: Path
    limits: SourceLimits
    until: float
    packed_bytes: int = 0
    stop: threading.Event = field(default_factory=threading.Event)
    _written: int = 0
    _kinds: dict[str, What] = field(default_factory=dict)
    """All paths that there are, those of folders that nobody named too."""
    _named: set[str] = field(default_factory=set)
    _links: dict[str, str] = field(default_factory=dict)

    def take(self, archive: Archive) -> None:
        _make_folder(self.root)
        for seen, (entry, content) in enumerate(archive.entries(), 1):
            self.breathe()
            if seen > self.limits.entries:
                raise TooManyEntries(limit=self.limits.entries)
            if path := judged(entry):
                self._make(path, entry, content)

    def finish(self) -> Path:
        """Makes the links, and says which folder it is."""
        if not self._named:
            raise ArchiveEmpty()
        for path, target in self._links.items():
            os.symlink(target, self.root / path)
        tops = {path.partition("/")[0] for path in self._kinds}
        only = next(iter(tops)) if len(tops) == 1 else ""
        top = self.root / only if only and self._kinds[only] is What.FOLDER else self.root
        refuse_links_out(top)
        return top

    def count(self, size: int) -> None:
        """Told of each piece that came out of the archive, before it is kept anywhere."""
        self.breathe()
        if size > self.limits.bytes:
            raise SourceTooLarge(limit=self.limits.bytes)
        if size > max(RATIO_BEGINS_BYTES, MOST_RATIO * self.packed_bytes):
            raise ArchiveBomb(ratio=MOST_RATIO)

    def breathe(self) -> None:
        if self.stop.is_set():
            raise Stopped
        if time.monotonic() > self.until:
            raise SourceTookTooLong(seconds=f"{self.limits.seconds:g}")

    def _make(self, path: str, entry: Entry, content: AbstractContextManager[IO[bytes]] | None) -> None:
        self._enter(path, entry)
        place = self.root / path
        match entry.what:
            case What.FOLDER:
                _make_folder(place)
            case What.LINK:
                self._links[path] = entry.target
            case What.HARD_LINK:
                self._link_hard(place, entry)
            case What.FILE if content is not None:
                self._write(place, content, 0o755 if entry.runs else 0o644)

    def _enter(self, path: str, entry: Entry) -> None:
        """Notes what the path is, and makes the folders above it. Raises where it is something already."""
        parts = path.split("/")
        for depth in range(1, len(parts)):
            above = "/".join(parts[:depth])
            if above not in self._kinds:
                self._kinds[above] = What.FOLDER
                _make_folder(self.root / above)
            elif self._kinds[above] is not What.FOLDER:
                raise UnsafeEntry(path=shown(entry.name), reason="what is above it is no folder")
        folder_again = entry.what is What.FOLDER and self._kinds.get(path) is What.FOLDER
        if path in self._named or (path in self._kinds and not folder_again):
            raise UnsafeEntry(path=shown(entry.name), reason="it is there twice")
        self._kinds[path] = entry.what
        self._named.add(path)
        if len(self._kinds) > self.limits.entries:
            raise TooManyEntries(limit=self.limits.entries)

    def _link_hard(self, place: Path, entry: Entry) -> None:
        target = judged(Entry(entry.target, What.FILE))
        if self._kinds.get(target) is not What.FILE:
            raise UnsafeEntry(path=shown(entry.name), reason="it is a link to no file that came before it")
        os.link(self.root / target, place)
        self._written += place.stat().st_size
        self.count(self._written)
        self._kinds[str(place.relative_to(self.root))] = What.FILE

    def _write(self, place: Path, content: AbstractContextManager[IO[bytes]], mode: int) -> None:
        handle = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
        with os.fdopen(handle, "wb") as out, content as read:
            os.fchmod(handle, mode)
            while data := read.read(CHUNK_BYTES):
                self._written += len(data)
                self.count(self._written)
                out.write(data)


def _make_folder(place: Path) -> None:
    """For all to read, as files are, whatever is the habit of who started us: a web server may be another user."""
    if not place.is_dir():
        place.mkdir()
        place.chmod(0o755)
