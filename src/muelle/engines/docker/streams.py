"""What comes out of Docker's streams: frames of a container's output, lines, and messages in JSON. All of it pure.

Each class takes pieces as they come off the wire and gives back what is whole, holding a bounded rest.
"""

from __future__ import annotations

import codecs
import json
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from muelle.engines.protocol import LONGEST_LINE, Line, Stream

LONGEST_MESSAGE_BYTES = 1 << 20
"""Of a message in JSON; a longer one is passed over."""

_HEADER = struct.Struct(">BxxxL")
_CONTROL = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]"  # colours, the cursor
    r"|\x1b[\]PX^_].*?(?:\x07|\x1b\\|$)"  # titles, links
    r"|\x1b[ -/]*[0-~]"
    r"|[\x00-\x08\x0b-\x0c\x0e-\x1f\x7f]"
)


class Frames:
    """Takes apart standard output and standard error, which Docker sends through one connection."""

    def __init__(self) -> None:
        self._held = bytearray()

    def feed(self, data: bytes) -> Iterator[tuple[Stream, bytes]]:
        self._held += data
        while len(self._held) >= _HEADER.size:
            number, length = _HEADER.unpack_from(self._held)
            end = _HEADER.size + length
            if len(self._held) < end:
                return
            payload = bytes(self._held[_HEADER.size : end])
            del self._held[:end]
            yield (Stream.ERR if number == 2 else Stream.OUT), payload


@dataclass
class _Tail:
    """A line whose end has not come yet."""

    at: datetime
    text: str = ""


class Lines:
    """Makes bounded lines of the pieces of two streams. Docker itself cuts long ones, even within a character."""

    def __init__(self) -> None:
        decoder = codecs.getincrementaldecoder("utf-8")
        self._decoders = {stream: decoder(errors="replace") for stream in Stream}
        self._tails: dict[Stream, _Tail] = {}

    def feed(self, stream: Stream, at: datetime, data: bytes) -> Iterator[Line]:
        tail = self._tails.pop(stream, None) or _Tail(at)
        *whole, rest = (tail.text + self._decoders[stream].decode(data)).split("\n")
        for text in whole:
            yield from _cut(tail.at, stream, text.removesuffix("\r"))
            tail = _Tail(at)
        while len(rest) > LONGEST_LINE:
            yield Line(tail.at, stream, rest[:LONGEST_LINE])
            rest = rest[LONGEST_LINE:]
        if rest:
            self._tails[stream] = _Tail(tail.at, rest)

    def end(self) -> Iterator[Line]:
        """What was written last, without a line's end."""
        for stream, tail in self._tails.items():
            yield from _cut(tail.at, stream, tail.text)
        self._tails.clear()


def _cut(at: datetime, stream: Stream, text: str) -> Iterator[Line]:
    for start in range(0, max(len(text), 1), LONGEST_LINE):
        yield Line(at, stream, text[start : start + LONGEST_LINE])


class Messages:
    """One JSON object to a line, as builds, pulls and events send them."""

    def __init__(self) -> None:
        self._held = bytearray()
        self._passing_over = False

    def feed(self, data: bytes) -> Iterator[dict[str, Any]]:
        self._held += data
        *whole, rest = self._held.split(b"\n")
        for line in whole:
            if not self._passing_over and (message := _message(line)) is not None:
                yield message
            self._passing_over = False
        self._held = rest
        if len(rest) > LONGEST_MESSAGE_BYTES:
            self._passing_over = True
            self._held = bytearray()


def _message(line: bytes | bytearray) -> dict[str, Any] | None:
    try:
        message = json.loads(line)
    except ValueError:
        return None
    return message if isinstance(message, dict) else None


class Words:
    """Makes plain lines of what a build writes: no colours, and of what overwrites itself each state a line."""

    def __init__(self) -> None:
        self._held = ""

    def feed(self, text: str) -> Iterator[str]:
        *whole, self._held = re.split(r"[\r\n]+", self._held + text)
        yield from (line for part in whole for line in _readable(part))
        while len(self._held) > LONGEST_LINE:
            yield from _readable(self._held[:LONGEST_LINE])
            self._held = self._held[LONGEST_LINE:]

    def end(self) -> Iterator[str]:
        rest, self._held = self._held, ""
        yield from _readable(rest)


def _readable(text: str) -> Iterator[str]:
    line = _CONTROL.sub("", text).rstrip()
    for start in range(0, len(line), LONGEST_LINE):
        yield line[start : start + LONGEST_LINE]


def moment(text: str) -> datetime | None:
    """Docker's timestamp; its "never" is the year 1."""
    at = datetime.fromisoformat(text) if text else None
    if at is None or at.year == 1:
        return None
    return at.astimezone(UTC)
