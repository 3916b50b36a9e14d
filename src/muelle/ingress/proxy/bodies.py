"""Follows a body to its end, without keeping it: what comes in goes on, in the pieces in which it came."""

from __future__ import annotations

from enum import Enum
from typing import Protocol

from muelle.ingress.proxy.grammar import CHUNK_SIZE, HEADERS_ONLY
from muelle.ingress.proxy.heads import Framing

LONGEST_SIZE_LINE = 512
LONGEST_TRAILER = 8 * 1024
END = b"\r\n"


class BadBody(Exception):
    """Its end cannot be told for certain."""


class Body(Protocol):
    done: bool

    def take(self, data: bytes) -> tuple[bytes, bytes]:
        """What of it is passed on, and what lies behind the end. Raises BadBody."""
        ...


class Sized:
    __slots__ = ("_left", "done")

    def __init__(self, length: int) -> None:
        self._left = length
        self.done = not length

    def take(self, data: bytes) -> tuple[bytes, bytes]:
        left = self._left - len(data)
        if left > 0:
            self._left = left
            return data, b""
        self.done = True
        if left == 0:
            return data, b""
        return data[: self._left], data[self._left :]


class UntilClose:
    __slots__ = ("done",)

    def __init__(self) -> None:
        self.done = False

    def take(self, data: bytes) -> tuple[bytes, bytes]:
        return data, b""


class _At(Enum):
    SIZE = "size"
    DATA = "data"
    DATA_END = "end of data"
    TRAILER = "trailer"


class Chunked:
    """Chunks go on with their own sizes, and without extensions and trailers; or bare, for who knows no chunks."""

    __slots__ = ("_at", "_bare", "_left", "_partial", "done")

    def __init__(self, *, bare: bool = False) -> None:
        self.done = False
        self._bare = bare
        self._at = _At.SIZE
        self._left = 0
        self._partial = b""

    def take(self, data: bytes) -> tuple[bytes, bytes]:
        if self._partial:
            data, self._partial = self._partial + data, b""
        out: list[bytes] = []
        place = 0
        while not self.done and place < len(data):
            before = place
            match self._at:
                case _At.SIZE:
                    place = self._size(data, place, out)
                case _At.DATA:
                    place = self._data(data, place, out)
                case _At.DATA_END:
                    place = self._data_end(data, place, out)
                case _At.TRAILER:
                    place = self._trailer(data, place, out)
            if place == before:  # the rest of this line has not come yet
                self._partial = data[place:]
                return b"".join(out), b""
        return (out[0] if len(out) == 1 else b"".join(out)), data[place:]

    def _size(self, data: bytes, place: int, out: list[bytes]) -> int:
        end = data.find(END, place, place + LONGEST_SIZE_LINE)
        if end < 0:
            if len(data) - place >= LONGEST_SIZE_LINE or b"\n" in data[place:]:
                raise BadBody("a chunk has no proper size")
            return place
        match = CHUNK_SIZE.fullmatch(data, place, end)
        if match is None:
            raise BadBody("a chunk has no proper size")
        self._left = int(match[1], 16)
        self._at = _At.DATA if self._left else _At.TRAILER
        if self._left and not self._bare:
            out.append(match[1] + END)
        return end + 2

    def _data(self, data: bytes, place: int, out: list[bytes]) -> int:
        piece = data[place : place + self._left]
        out.append(piece)
        self._left -= len(piece)
        if not self._left:
            self._at = _At.DATA_END
        return place + len(piece)

    def _data_end(self, data: bytes, place: int, out: list[bytes]) -> int:
        found = data[place : place + 2]
        if not END.startswith(found):
            raise BadBody("a chunk is longer than its size")
        if len(found) < len(END):
            return place
        self._at = _At.SIZE
        if not self._bare:
            out.append(END)
        return place + 2

    def _trailer(self, data: bytes, place: int, out: list[bytes]) -> int:
        match = HEADERS_ONLY.match(data, place, place + LONGEST_TRAILER)
        if match is None:
            if len(data) - place >= LONGEST_TRAILER or b"\r\n\r\n" in data[place:]:
                raise BadBody("its trailer is not well-formed")
            return place
        self.done = True
        if not self._bare:
            out.append(b"0\r\n\r\n")
        return match.end()


def follow(framing: Framing, length: int, *, bare: bool = False) -> Body:
    match framing:
        case Framing.CHUNKED:
            return Chunked(bare=bare)
        case Framing.UNTIL_CLOSE:
            return UntilClose()
        case _:
            return Sized(length if framing is Framing.LENGTH else 0)
