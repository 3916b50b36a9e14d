"""What an instance has written: lines with their time and stream, in two files that take turns, so that it is bounded.

`Journal` writes (the keeper), `read` reads on from a `Position` (the engine): no line is missed while it is followed,
unless a reader lags by a whole file. Nothing but the standard library.
"""

from __future__ import annotations

import codecs
import os
from dataclasses import dataclass
from pathlib import Path

FILE_BYTES = 4 * 2**20
"""An instance's journal takes up to twice as much."""
LONGEST_LINE = 16_384
"""In characters; the rest is the next line. The same as the protocol's, which is not imported: see the package."""
READ_BYTES = 2**20
CURRENT, BEFORE = "journal", "journal.1"


@dataclass(frozen=True)
class Record:
    at_micros: int
    stream: str
    text: str


@dataclass(frozen=True)
class Position:
    file: int = 0
    """By its inode: it keeps that when it becomes the one before."""
    offset: int = 0


class Journal:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file, self._size = self._open()
        self._streams = {stream: Lines() for stream in ("out", "err")}

    def take(self, stream: str, data: bytes, at_micros: int) -> None:
        """What came of a stream; lines that are not complete yet are held back."""
        self._write(stream, self._streams[stream].feed(data), at_micros)

    def close(self, at_micros: int) -> None:
        """The ends of lines that never came."""
        for stream, lines in self._streams.items():
            self._write(stream, lines.rest(), at_micros)
        os.close(self._file)

    def _write(self, stream: str, lines: list[str], at_micros: int) -> None:
        if not lines:
            return
        data = "".join(f"{at_micros} {stream} {line}\n" for line in lines).encode()
        if self._size and self._size + len(data) > FILE_BYTES:
            self._turn()
        try:
            self._size += os.write(self._file, data)
        except OSError:  # the disk is full: the program goes on, its words are lost
            return

    def _turn(self) -> None:
        os.close(self._file)
        os.replace(self._folder / CURRENT, self._folder / BEFORE)
        self._file, self._size = self._open()

    def _open(self) -> tuple[int, int]:
        file = os.open(self._folder / CURRENT, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
        size = os.fstat(file).st_size
        if size and os.pread(file, 1, size - 1) != b"\n":  # a power cut in the middle of a line
            size += os.write(file, b"\n")
        return file, size


class Lines:
    """Cuts a stream of bytes into lines; what is no UTF-8 is shown as U+FFFD."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = ""

    def feed(self, data: bytes) -> list[str]:
        *lines, self._held = (self._held + self._decoder.decode(data)).split("\n")
        whole = [piece for line in lines for piece in _pieces(line)]
        if len(self._held) > LONGEST_LINE:
            *pieces, self._held = _pieces(self._held)
            whole += pieces
        return whole

    def rest(self) -> list[str]:
        self._held += self._decoder.decode(b"", final=True)
        return _pieces(self._held) if self._held else []


def _pieces(line: str) -> list[str]:
    if len(line) <= LONGEST_LINE:
        return [line.removesuffix("\r")]
    return [line[start : start + LONGEST_LINE] for start in range(0, len(line), LONGEST_LINE)]


def read(folder: Path, position: Position) -> tuple[list[Record], Position]:
    """The next records after a position, and the one after them; none at the end."""
    for path in _files_from(folder, position):
        try:
            file = os.open(path, os.O_RDONLY)
        except FileNotFoundError:
            continue
        try:
            inode, size = os.fstat(file).st_ino, os.fstat(file).st_size
            # An inode past whose end we are is another file with the number of one that is gone.
            offset = position.offset if inode == position.file and position.offset <= size else 0
            data = os.pread(file, READ_BYTES, offset)
        finally:
            os.close(file)
        whole = data[: data.rfind(b"\n") + 1]
        if whole:
            return _records(whole), Position(inode, offset + len(whole))
        position = Position(inode, offset)
    return [], position


def _files_from(folder: Path, position: Position) -> list[Path]:
    """The one where the position is and those after it; all, where it is none that is kept."""
    current, before = folder / CURRENT, folder / BEFORE
    try:
        return [current] if position.file and os.stat(current).st_ino == position.file else [before, current]
    except FileNotFoundError:
        return [before, current]


def _records(data: bytes) -> list[Record]:
    records = []
    for line in data.decode("utf-8", "replace").split("\n")[:-1]:
        at, _, rest = line.partition(" ")
        stream, _, text = rest.partition(" ")
        if at.isdigit() and stream in ("out", "err"):
            records.append(Record(int(at), stream, text))
    return records
