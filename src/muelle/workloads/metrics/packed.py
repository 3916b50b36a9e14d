"""An hour of a workload in some dozens of bytes: sixty minutes, each with four numbers or with nothing.

A row for each minute would be 43 million for a thousand workloads and 30 days. An hour lies by columns and is
compressed: what hardly changes takes hardly any room.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

from muelle.workloads.metrics.rates import Rates

MINUTES = 60
COLUMNS = 4
KIB = 1024
LARGEST = 2**32 - 1
"""4 TiB of memory, 4 GB a second: whatever is beyond that is shown as that."""
LEVEL = 1
_FORMAT = struct.Struct(f"<Q{COLUMNS * MINUTES}I")
_VERSION = b"\x01"


class Hour:
    """Which minutes are known (a bit for each), and four columns of sixty numbers."""

    def __init__(self, data: bytes = b"") -> None:
        """Bytes of a version that is not known are passed over: it is about a graph, and not about money."""
        self._known = 0
        self._numbers = [0] * (COLUMNS * MINUTES)
        if data[:1] == _VERSION:
            self._known, *self._numbers = _FORMAT.unpack(zlib.decompress(data[1:]))

    def put(self, minute: int, rates: Rates) -> None:
        self._known |= 1 << minute
        numbers = (
            round(rates.cpu_percent * 100),
            rates.memory_bytes // KIB,
            rates.received_per_second,
            rates.sent_per_second,
        )
        for column, number in enumerate(numbers):
            self._numbers[column * MINUTES + minute] = min(number, LARGEST)

    def minutes(self) -> Iterator[tuple[int, Rates]]:
        for minute in range(MINUTES):
            if self._known >> minute & 1:
                cpu, memory, received, sent = self._numbers[minute::MINUTES]
                yield minute, Rates(cpu / 100, memory * KIB, received, sent)

    def packed(self) -> bytes:
        return _VERSION + zlib.compress(_FORMAT.pack(self._known, *self._numbers), LEVEL)
