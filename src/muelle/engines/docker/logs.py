"""What an instance writes, as lines, while it writes it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime

from muelle.engines.docker.daemon import Daemon, Refused, within
from muelle.engines.docker.names import Names
from muelle.engines.docker.streams import Frames, Lines, moment
from muelle.engines.protocol import Line, NoSuchInstance

_IS_GOING = "marked for removal"
"""What the daemon says of one that is just being removed."""


async def follow(daemon: Daemon, names: Names, name: str, since: datetime | None) -> AsyncIterator[Line]:
    """Ends with the container. One that is not read holds back the daemon's sending, and nothing grows."""
    path = f"containers/{within(names.container(name))}/logs"
    params = {"follow": True, "stdout": True, "stderr": True, "timestamps": True, "since": _since(since)}
    try:
        async with daemon.stream("read a log", "GET", path, params=params) as chunks:
            told = _Told()
            async for chunk in chunks:
                for line in told.feed(chunk):
                    yield line
            for line in told.end():
                yield line
    except Refused as refused:
        if refused.status == 404 or _IS_GOING in str(refused):
            raise NoSuchInstance(name=name) from None
        raise


class _Told:
    """Frames, each beginning with its moment, and lines made of them."""

    def __init__(self) -> None:
        self._frames = Frames()
        self._lines = Lines()

    def feed(self, chunk: bytes) -> Iterator[Line]:
        for stream, payload in self._frames.feed(chunk):
            stamp, _, data = payload.partition(b" ")
            at = moment(stamp.decode()) or datetime.now(UTC)
            yield from self._lines.feed(stream, at, data)

    def end(self) -> Iterator[Line]:
        return self._lines.end()


def _since(moment: datetime | None) -> str:
    if moment is None:
        return "0"
    whole, micros = int(moment.timestamp()), moment.microsecond
    return f"{whole}.{micros:06d}000"
