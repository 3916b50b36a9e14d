"""A line as it stands in a file: moment, release, instance, stream and text with tabs between, in UTF-8.

The moment comes first and always takes the same room, so that lines are compared by time without being read; and
whoever is left with nothing but the files can use `grep`.
"""

from __future__ import annotations

from datetime import UTC, datetime

from muelle.workloads.logbook.model import Entry, Stream

STAMP_BYTES = len("2026-01-01T00:00:00.000000Z")
LONGEST_TEXT = 16_384
LONGEST_INSTANCE = 200
UNREADABLE = "this line cannot be read any more"

_STREAMS = {stream.value: stream for stream in Stream}
_BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)


def stamp(moment: datetime) -> bytes:
    plain = moment.astimezone(UTC).replace(tzinfo=None)
    return f"{plain.isoformat(timespec='microseconds')}Z".encode()


def moment_of(stamp: bytes) -> datetime:
    return datetime.fromisoformat(stamp.decode())


def as_kept(entry: Entry) -> Entry:
    """The entry as it will be read again: on one line, of a bounded length, and something that UTF-8 can say."""
    text = entry.text[:LONGEST_TEXT]
    if "\n" in text:
        text = text.replace("\n", " ")
    if not text.isascii():
        text = text.encode(errors="replace").decode()
    instance = entry.instance[:LONGEST_INSTANCE]
    if not instance.isprintable() or not instance.isascii():
        instance = "".join(sign if sign.isascii() and sign.isprintable() else "_" for sign in instance)
    return Entry(entry.at.astimezone(UTC), entry.release, instance, entry.stream, text)


def write(entry: Entry) -> bytes:
    """Of an entry that is `as_kept`."""
    start = f"\t{entry.release}\t{entry.instance}\t{entry.stream.value}\t{entry.text}\n"
    return stamp(entry.at) + start.encode()


def read(line: bytes) -> Entry:
    """Never fails: what a power cut left of a line is told as that."""
    try:
        at, release, instance, stream, text = line.decode().split("\t", 4)
        return Entry(datetime.fromisoformat(at), int(release), instance, _STREAMS[stream], text)
    except (ValueError, KeyError):
        return Entry(_moment_at_least(line), 0, "", Stream.MUELLE, UNREADABLE)


def _moment_at_least(line: bytes) -> datetime:
    try:
        found = moment_of(line[:STAMP_BYTES])
    except ValueError:
        return _BEGINNING
    return found if found.tzinfo else _BEGINNING
