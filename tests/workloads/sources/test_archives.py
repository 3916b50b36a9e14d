"""Unpacking what people upload: what they meant, and what nobody should have meant."""

from __future__ import annotations

import asyncio
import bz2
import gzip
import io
import lzma
import os
import stat
import struct
import tarfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from muelle.kit.errors import MuelleError
from muelle.workloads.sources import archives
from muelle.workloads.sources.archives import unpack
from muelle.workloads.sources.entries import Entry, What, judged
from muelle.workloads.sources.errors import (
    ArchiveBomb,
    ArchiveEmpty,
    ArchiveEncrypted,
    ArchiveUnreadable,
    LinkOut,
    SourceTookTooLong,
    SourceTooLarge,
    TooManyEntries,
    UnsafeEntry,
)
from muelle.workloads.sources.limits import SourceLimits, Weight
from tests.waiting import eventually

LIMITS = SourceLimits(bytes=4 * 2**20, entries=200, seconds=30)


def zipped(*entries: tuple[str, bytes] | tuple[str, bytes, int], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """Entries with a name, a content, and perhaps a Unix mode."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as made:
        for name, content, *mode in entries:
            info = zipfile.ZipInfo("x")
            info.filename = name
            info.compress_type = method
            info.create_system = 3
            info.external_attr = (mode[0] if mode else 0o100644) << 16
            made.writestr(info, content)
    return out.getvalue()


def tarred(*entries: tuple[str, bytes] | tarfile.TarInfo, format: int = tarfile.PAX_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=format) as made:
        for entry in entries:
            if isinstance(entry, tarfile.TarInfo):
                made.addfile(entry)
            else:
                info = tarfile.TarInfo(entry[0])
                info.size = len(entry[1])
                made.addfile(info, io.BytesIO(entry[1]))
    return out.getvalue()


def special(name: str, kind: bytes, target: str = "", mode: int = 0o644) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode = kind, target, mode
    return info


async def unpacked(data: bytes, tmp_path: Path, limits: SourceLimits = LIMITS) -> Weight:
    file, into = tmp_path / "upload", tmp_path / "near" / "source"
    file.write_bytes(data)
    try:
        return await unpack(file, into, limits)
    except BaseException:
        assert not into.exists()
        raise
    finally:
        assert [path.name for path in into.parent.iterdir()] in ([], ["source"])


def contents(folder: Path) -> dict[str, bytes]:
    root = folder / "near" / "source"
    return {str(file.relative_to(root)): file.read_bytes() for file in root.rglob("*") if file.is_file()}


PLAIN = (("app.py", b"print(1)"), ("lib/a.py", b"x" * 100_000))
KINDS: dict[str, Callable[[], bytes]] = {
    "zip": lambda: zipped(*PLAIN),
    "zip that is stored": lambda: zipped(*PLAIN, method=zipfile.ZIP_STORED),
    "tar": lambda: tarred(*PLAIN),
    "tar as GNU writes it": lambda: tarred(*PLAIN, format=tarfile.GNU_FORMAT),
    "tar.gz": lambda: gzip.compress(tarred(*PLAIN)),
    "tar.gz in two parts": lambda: gzip.compress(tarred(*PLAIN)[:1000]) + gzip.compress(tarred(*PLAIN)[1000:]),
    "tar.bz2": lambda: bz2.compress(tarred(*PLAIN)),
    "tar.bz2 in two parts": lambda: bz2.compress(tarred(*PLAIN)[:1000]) + bz2.compress(tarred(*PLAIN)[1000:]),
    "tar.xz": lambda: lzma.compress(tarred(*PLAIN)),
    "tar.xz in two parts": lambda: lzma.compress(tarred(*PLAIN)[:1000]) + lzma.compress(tarred(*PLAIN)[1000:]),
    "tar.xz packed as small as can be": lambda: lzma.compress(tarred(*PLAIN), preset=9),
}


@pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)
async def test_every_kind_is_unpacked(tmp_path: Path, make: Callable[[], bytes]) -> None:
    assert await unpacked(make(), tmp_path) == Weight(100_008, 3)
    assert contents(tmp_path) == dict(PLAIN)


@pytest.mark.parametrize("pack", [zipped, tarred])
async def test_a_single_folder_at_the_top_is_taken_off(tmp_path: Path, pack: Callable[..., bytes]) -> None:
    await unpacked(pack(("app-main/app.py", b"1"), ("app-main/lib/a.py", b"2")), tmp_path)
    assert contents(tmp_path) == {"app.py": b"1", "lib/a.py": b"2"}


@pytest.mark.parametrize("pack", [zipped, tarred])
async def test_a_single_file_stays_where_it_is(tmp_path: Path, pack: Callable[..., bytes]) -> None:
    await unpacked(pack(("./app.py", b"1")), tmp_path)
    assert contents(tmp_path) == {"app.py": b"1"}


@pytest.mark.parametrize("pack", [zipped, tarred])
async def test_what_nobody_meant_to_send_is_left_out(tmp_path: Path, pack: Callable[..., bytes]) -> None:
    junk = [("__MACOSX/._app.py", b"x"), (".DS_Store", b"x"), ("app/._a", b"x"), ("app/.git/config", b"x")]
    await unpacked(pack(*junk, ("app/app.py", b"1"), ("app/.env.example", b"2")), tmp_path)
    assert contents(tmp_path) == {"app.py": b"1", ".env.example": b"2"}


async def test_backslashes_of_windows_are_folders(tmp_path: Path) -> None:
    await unpacked(zipped(("app\\app.py", b"1"), ("app\\lib\\a.py", b"2")), tmp_path)
    assert contents(tmp_path) == {"app.py": b"1", "lib/a.py": b"2"}


@pytest.fixture
def secretive() -> Iterator[None]:
    """As under a service that keeps all that it writes to itself."""
    before = os.umask(0o077)
    yield
    os.umask(before)


@pytest.mark.usefixtures("secretive")
async def test_of_permissions_that_to_run_it_is_kept_alone(tmp_path: Path) -> None:
    files = [special("run", tarfile.REGTYPE, mode=0o6755), special("a/read", tarfile.REGTYPE, mode=0o600)]
    await unpacked(tarred(*files), tmp_path)
    root = tmp_path / "near" / "source"
    modes = {name: stat.S_IMODE((root / name).stat().st_mode) for name in ("", "run", "a", "a/read")}
    assert modes == {"": 0o755, "run": 0o755, "a": 0o755, "a/read": 0o644}


async def test_links_within_are_kept(tmp_path: Path) -> None:
    links = [
        special("a/up", tarfile.SYMTYPE, "../b"),
        special("c", tarfile.LNKTYPE, "b"),
        special("d", tarfile.LNKTYPE, "c"),
    ]
    await unpacked(tarred(("b", b"text"), *links), tmp_path)
    root = tmp_path / "near" / "source"
    assert os.readlink(root / "a/up") == "../b"
    assert contents(tmp_path) == {"a/up": b"text", "b": b"text", "c": b"text", "d": b"text"}


async def test_links_in_a_zip_are_kept(tmp_path: Path) -> None:
    await unpacked(zipped(("b", b"text"), ("a", b"b", 0o120777)), tmp_path)
    assert os.readlink(tmp_path / "near" / "source" / "a") == "b"


def encrypted() -> bytes:
    """The flag is what counts: nothing that is unpacked here has a password."""
    data = bytearray(zipped(("a", b"text")))
    data[6] |= 1
    data[data.index(b"PK\x01\x02") + 8] |= 1
    return bytes(data)


def overlapping() -> bytes:
    """Many entries of the list that are all the same bytes of the file."""
    data = zipped(("a", bytes(3 * 2**20)))
    at, end = data.index(b"PK\x01\x02"), data.index(b"PK\x05\x06")
    listed = b"".join(data[at : at + 46] + f"{n:01x}".encode() + data[at + 47 : end] for n in range(16))
    tail = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 16, 16, len(listed), at, 0)
    return data[:at] + listed + tail


def lying_about_its_count() -> bytes:
    """Says one, lists thousands."""
    data = zipped(*((f"f{n}", b"") for n in range(3000)))
    at = data.rindex(b"PK\x05\x06")
    return data[: at + 8] + struct.pack("<HH", 1, 1) + data[at + 12 :]


def lying_about_its_size() -> bytes:
    """Says one byte, holds five million."""
    data = bytearray(zipped(("a", bytes(5 * 2**20))))
    at = data.index(b"PK\x01\x02")
    struct.pack_into("<L", data, at + 24, 1)
    struct.pack_into("<L", data, 22, 1)
    return bytes(data)


def packed_otherwise() -> bytes:
    return zipped(("a", b"text"), method=zipfile.ZIP_LZMA)


def header(name: str, kind: bytes, size: int | bytes, content: bytes = b"") -> bytes:
    """A tar header with any size that can be written, also one that cannot be."""
    info = tarfile.TarInfo(name)
    info.type = kind
    raw = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    raw[124:136] = size if isinstance(size, bytes) else f"{size:011o}\0".encode()
    raw[148:156] = b" " * 8
    raw[148:156] = f"{sum(raw):06o}\0 ".encode()
    return bytes(raw) + content


def going_back() -> bytes:
    """A size below zero: what follows is the header itself, for ever."""
    return tarred(("a", b"text"))[:1024] + header("b", tarfile.REGTYPE, b"\xff" * 10 + b"\xfe\x00")


def huge_header() -> bytes:
    return header("x", tarfile.XHDTYPE, 64 * 2**20, bytes(64 * 2**10))


def headers_without_end() -> bytes:
    text = b"11 a=bbbbb\n"
    return header("x", tarfile.XHDTYPE, len(text), text.ljust(512, b"\0")) * 3000


def global_headers() -> bytes:
    out = b""
    for n in range(150):
        text = b"1011 k%03d=%s\n" % (n, b"v" * 1000)
        out += header("g", tarfile.XGLTYPE, len(text), text.ljust(1024, b"\0"))
        out += header(f"f{n}", tarfile.REGTYPE, 0)
    return out + bytes(1024)


def digits() -> bytes:
    """The time that a pattern of tarfile takes for them grows with their square."""
    return header("x", tarfile.XHDTYPE, 100_000, b"1" * 100_352) * 40


def sparse_without_end() -> bytes:
    """A list of places that nobody ends."""
    text = b"22 GNU.sparse.major=1\n22 GNU.sparse.minor=0\n"
    start = header("x", tarfile.XHDTYPE, len(text), text.ljust(512, b"\0"))
    return start + header("a", tarfile.REGTYPE, 3 * 2**20, b"9\n" + b"x" * 3 * 2**20)


def sparse() -> bytes:
    """A file of a terabyte that takes no place."""
    info = tarfile.TarInfo("sparse")
    info.pax_headers = {
        "GNU.sparse.major": "0",
        "GNU.sparse.minor": "1",
        "GNU.sparse.size": str(2**40),
        "GNU.sparse.map": "0,0",
    }
    return tarred(info)


def damaged_in_the_middle() -> bytes:
    data = bytearray(tarred(("a", b"text"), ("b", b"text"), ("c", b"text")))
    data[1024:1100] = b"\x01" * 76
    return bytes(data)


SLIPPED = "/tmp/muelle-slipped"  # noqa: S108 - where nothing must come to be
ABOVE = "../" * 8 + SLIPPED
HOSTILE: dict[str, tuple[Callable[[], bytes], type[MuelleError]]] = {
    "zip: a path above": (lambda: zipped((ABOVE, b"x")), UnsafeEntry),
    "zip: a path above after a folder": (lambda: zipped(("a/../../x", b"x")), UnsafeEntry),
    "zip: a path above with backslashes": (lambda: zipped(("..\\..\\x", b"x")), UnsafeEntry),
    "zip: a path from the root": (lambda: zipped((SLIPPED, b"x")), UnsafeEntry),
    "zip: a drive": (lambda: zipped(("C:\\Windows\\x", b"x")), UnsafeEntry),
    "zip: a path of a network": (lambda: zipped(("\\\\host\\share\\x", b"x")), UnsafeEntry),
    "zip: a line break in a name": (lambda: zipped(("a\nb", b"x")), UnsafeEntry),
    "zip: an escape in a name": (lambda: zipped(("a\x1b[2Jb", b"x")), UnsafeEntry),
    "zip: a link from the root": (lambda: zipped(("a", b"/etc/passwd", 0o120777)), UnsafeEntry),
    "zip: a link above": (lambda: zipped(("a", b"../../x", 0o120777), ("b", b"")), LinkOut),
    "zip: a file through a link": (lambda: zipped(("a", b"/tmp", 0o120777), ("a/x", b"x")), UnsafeEntry),
    "zip: a file through a link within": (lambda: zipped(("a", b"b", 0o120777), ("a/x", b"x")), UnsafeEntry),
    "zip: a link that is a megabyte": (lambda: zipped(("a", b"x" * 2**20, 0o120777)), UnsafeEntry),
    "zip: a link of no length": (lambda: zipped(("a", b"", 0o120777)), UnsafeEntry),
    "zip: a device": (lambda: zipped(("a", b"", 0o020666)), UnsafeEntry),
    "zip: a pipe": (lambda: zipped(("a", b"", 0o010666)), UnsafeEntry),
    "zip: the same twice": (lambda: zipped(("a", b"1"), ("a", b"2")), UnsafeEntry),
    "zip: the same written otherwise": (lambda: zipped(("a/b", b"1"), ("a/./b", b"2")), UnsafeEntry),
    "zip: a file that is a folder too": (lambda: zipped(("a", b"1"), ("a/b", b"2")), UnsafeEntry),
    "zip: a folder that is a file too": (lambda: zipped(("a/b", b"2"), ("a", b"1")), UnsafeEntry),
    "zip: a password": (encrypted, ArchiveEncrypted),
    "zip: a bomb": (lambda: zipped(("zeros", bytes(5 * 2**20))), SourceTooLarge),
    "zip: a bomb of entries that overlap": (overlapping, MuelleError),
    "zip: a lie about the size": (lying_about_its_size, MuelleError),
    "zip: a lie about the count": (lying_about_its_count, TooManyEntries),
    "zip: too many": (lambda: zipped(*((f"f{n}", b"") for n in range(201))), TooManyEntries),
    "zip: too many folders that nobody named": (
        lambda: zipped(*((f"{n}/a/b", b"") for n in range(80))),
        TooManyEntries,
    ),
    "zip: too deep": (lambda: zipped(("/".join("d" * 70), b"")), UnsafeEntry),
    "zip: a name too long": (lambda: zipped(("n" * 300, b"")), UnsafeEntry),
    "zip: packed in a strange way": (packed_otherwise, ArchiveUnreadable),
    "zip: cut off": (lambda: zipped(*PLAIN)[:-30], ArchiveUnreadable),
    "zip: damaged": (
        lambda: zipped(*PLAIN, method=zipfile.ZIP_STORED).replace(b"print", b"prunt", 1),
        ArchiveUnreadable,
    ),
    "zip: nothing in it": (zipped, ArchiveEmpty),
    "zip: nothing but junk": (lambda: zipped((".DS_Store", b"x")), ArchiveEmpty),
    "tar: a path above": (lambda: tarred((ABOVE, b"x")), UnsafeEntry),
    "tar: a path from the root": (lambda: tarred((SLIPPED, b"x")), UnsafeEntry),
    "tar: a backslash": (lambda: tarred(("a\\b", b"x")), UnsafeEntry),
    "tar: a name that is no text": (lambda: tarred(("a\udcff", b"x"), format=tarfile.GNU_FORMAT), UnsafeEntry),
    "tar: a link from the root": (lambda: tarred(special("a", tarfile.SYMTYPE, "/etc")), UnsafeEntry),
    "tar: a link above": (lambda: tarred(("b", b""), special("a", tarfile.SYMTYPE, "../x")), LinkOut),
    "tar: a link above by way of another": (
        lambda: tarred(("b", b""), special("d", tarfile.SYMTYPE, "."), special("a", tarfile.SYMTYPE, "d/../x")),
        LinkOut,
    ),
    "tar: a file through a link": (
        lambda: tarred(special("a", tarfile.SYMTYPE, "b"), ("a/x", b"x")),
        UnsafeEntry,
    ),
    "tar: a hard link to the machine": (lambda: tarred(special("a", tarfile.LNKTYPE, "/etc/passwd")), UnsafeEntry),
    "tar: a hard link above": (lambda: tarred(special("a", tarfile.LNKTYPE, "../../upload")), UnsafeEntry),
    "tar: a hard link to what comes later": (
        lambda: tarred(special("a", tarfile.LNKTYPE, "b"), ("b", b"")),
        UnsafeEntry,
    ),
    "tar: a hard link to a link": (
        lambda: tarred(("b", b""), special("l", tarfile.SYMTYPE, "b"), special("a", tarfile.LNKTYPE, "l")),
        UnsafeEntry,
    ),
    "tar: many hard links to much": (
        lambda: tarred(("b", bytes(2**20)), *(special(f"a{n}", tarfile.LNKTYPE, "b") for n in range(10))),
        SourceTooLarge,
    ),
    "tar: a device of characters": (lambda: tarred(special("a", tarfile.CHRTYPE)), UnsafeEntry),
    "tar: a device of blocks": (lambda: tarred(special("a", tarfile.BLKTYPE)), UnsafeEntry),
    "tar: a pipe": (lambda: tarred(special("a", tarfile.FIFOTYPE)), UnsafeEntry),
    "tar: the same twice": (lambda: tarred(("a", b"1"), ("./a", b"2")), UnsafeEntry),
    "tar: too many": (lambda: tarred(*((f"f{n}", b"") for n in range(201))), TooManyEntries),
    "tar: too large": (lambda: tarred(("a", bytes(5 * 2**20))), SourceTooLarge),
    "tar: a file of a terabyte that takes no place": (sparse, SourceTooLarge),
    "tar: a header that leads back": (going_back, ArchiveUnreadable),
    "tar: a header of 64 megabytes": (huge_header, ArchiveUnreadable),
    "tar: headers without an end": (headers_without_end, ArchiveUnreadable),
    "tar: headers for all that are too many": (global_headers, ArchiveUnreadable),
    "tar: headers full of digits": (digits, ArchiveUnreadable),
    "tar: a list of places without an end": (sparse_without_end, ArchiveUnreadable),
    "tar: cut off": (lambda: tarred(*PLAIN)[:50_000], ArchiveUnreadable),
    "tar: damaged in the middle": (damaged_in_the_middle, ArchiveUnreadable),
    "tar.gz: a bomb": (lambda: gzip.compress(bytes(64 * 2**20)), SourceTooLarge),
    "tar.gz: cut off": (lambda: gzip.compress(tarred(*PLAIN))[:-20], ArchiveUnreadable),
    "tar.gz: damaged": (lambda: gzip.compress(tarred(*PLAIN), 0).replace(b"print", b"prunt"), ArchiveUnreadable),
    "tar.bz2: a bomb": (lambda: bz2.compress(bytes(64 * 2**20)), SourceTooLarge),
    "tar.bz2: damaged": (lambda: bz2.compress(tarred(*PLAIN))[:40] + bytes(200), ArchiveUnreadable),
    "tar.xz: a bomb": (lambda: lzma.compress(bytes(64 * 2**20)), SourceTooLarge),
    "tar.xz: cut off": (lambda: lzma.compress(tarred(*PLAIN))[:-20], ArchiveUnreadable),
    "tar.xz: wants gigabytes": (
        lambda: lzma.compress(tarred(*PLAIN), filters=[{"id": lzma.FILTER_LZMA2, "dict_size": 2**20}]).replace(
            b"!\x01\x10", b"!\x01\x28", 1
        ),
        ArchiveUnreadable,
    ),
    "gz: no archive": (lambda: gzip.compress(b"hello"), ArchiveUnreadable),
    "rar": (lambda: b"Rar!\x1a\x07\x01\x00" + bytes(100), ArchiveUnreadable),
    "7z": (lambda: b"7z\xbc\xaf\x27\x1c" + bytes(100), ArchiveUnreadable),
    "a text": (lambda: b"hello", ArchiveUnreadable),
    "nothing": (lambda: b"", ArchiveUnreadable),
    "zeros": (lambda: bytes(10240), ArchiveEmpty),
}


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(("make", "error"), HOSTILE.values(), ids=HOSTILE)
async def test_what_is_hostile_or_broken_is_refused(
    tmp_path: Path, make: Callable[[], bytes], error: type[MuelleError]
) -> None:
    began = time.monotonic()
    with pytest.raises(error) as caught:
        await unpacked(make(), tmp_path)
    assert caught.value.message.isprintable()
    assert time.monotonic() - began < 30
    assert not Path(SLIPPED).exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["near", "upload"]


async def test_what_grows_beyond_reason_is_refused_long_before_the_limit(tmp_path: Path) -> None:
    with pytest.raises(ArchiveBomb):
        await unpacked(zipped(("zeros", bytes(40 * 2**20))), tmp_path, SourceLimits(2**40, 100, 60))


async def test_what_takes_too_long_is_given_up(tmp_path: Path) -> None:
    with pytest.raises(SourceTookTooLong):
        await unpacked(zipped(*PLAIN), tmp_path, SourceLimits(2**20, 100, 0.0))


async def test_cancelling_ends_it_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    into, file, reached = tmp_path / "near" / "source", tmp_path / "upload", threading.Event()
    file.write_bytes(zipped(*PLAIN))

    def write_for_ever(self: archives.Unpacking, *_: object) -> None:
        reached.set()
        while True:
            self.breathe()
            time.sleep(0.001)

    monkeypatch.setattr(archives.Unpacking, "_write", write_for_ever)
    going = asyncio.create_task(unpack(file, into, LIMITS))
    await eventually(reached.is_set)
    began = time.monotonic()
    going.cancel()
    with pytest.raises(asyncio.CancelledError):
        await going
    assert time.monotonic() - began < 2
    assert list(into.parent.iterdir()) == []


NAMES = st.text(st.sampled_from("ab./\\:\0\n-~ é\udcff") | st.characters(), max_size=40)


@given(NAMES)
def test_no_name_leads_out_of_the_folder(name: str) -> None:
    try:
        path = judged(Entry(name, What.FILE))
    except UnsafeEntry:
        return
    root = "/srv/source"
    assert os.path.normpath(os.path.join(root, path)) == (f"{root}/{path}" if path else root)
    assert "\\" not in path
    assert "\0" not in path


@pytest.mark.filterwarnings("ignore:Duplicate name")
@given(st.lists(st.tuples(NAMES, st.binary(max_size=20), st.sampled_from([0o100644, 0o120777, 0o040755])), max_size=6))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_zip_writes_outside_or_fails_without_words(tmp_path: Path, entries: list[tuple[str, bytes, int]]) -> None:
    """Whatever is in it: it is unpacked with all links within, or refused, and beside the folder nothing changes."""
    try:
        data = zipped(*entries)
    except (ValueError, UnicodeEncodeError):
        return
    into = tmp_path / "near" / "source"
    try:
        asyncio.run(unpacked(data, tmp_path))
    except MuelleError:
        return
    else:
        for path in into.rglob("*"):
            assert os.path.realpath(path).startswith(os.path.realpath(into))
        os.rename(into, tmp_path / f"done{time.monotonic_ns()}")
