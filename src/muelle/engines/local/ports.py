"""Ports of this machine: which one an instance listens on.

They are given out in turn, so that a port comes back only after all others: whoever still knows it as somebody's does
not reach somebody else there.
"""

from __future__ import annotations

import socket
import zlib
from collections.abc import Collection
from pathlib import Path

from muelle.engines.local.files import read_json, write_json
from muelle.engines.protocol import EngineFailed

ENGINE = "local"
LOOPBACK = "127.0.0.1"
FIRST_PORT, LAST_PORT = 20_000, 29_999


class Ports:
    def __init__(self, file: Path, ports: range) -> None:
        self._file = file
        self._ports = ports

    def choose(self, taken: Collection[int]) -> int:
        """The next that nobody has. Neither does this wait, nor may it be left in the middle."""
        first = self._next()
        for turn in range(len(self._ports)):
            port = self._ports[(first + turn) % len(self._ports)]
            if port not in taken and is_free(port):
                write_json(self._file, {"next": (first + turn + 1) % len(self._ports)}, outlasts_power=False)
                return port
        raise EngineFailed(engine=ENGINE, what="give it a port", reason="none is free")

    def _next(self) -> int:
        """At first one of its own for each home, so that two of them do not always reach for the same."""
        kept = (read_json(self._file) or {}).get("next")
        return kept if isinstance(kept, int) else zlib.crc32(str(self._file).encode()) % len(self._ports)


def is_free(port: int) -> bool:
    """Whether nobody listens there, on any address of the machine."""
    for address in ("0.0.0.0", LOOPBACK):  # noqa: S104  # it is given back at once
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((address, port))
            except OSError:
                return False
    return True
