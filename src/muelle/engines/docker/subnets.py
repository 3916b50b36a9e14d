"""Which part of our range an owner's network gets. Pure, but for one look at this machine's routes.

Docker's own pools run out after some thirty networks. Ours are cut out of one range: 1,024 of 61 containers each.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator
from ipaddress import IPv4Network
from pathlib import Path

RANGE = "10.213.0.0/16"
PREFIX = 26
_ROUTES = Path("/proc/net/route")


def free(whole: IPv4Network, taken: Iterable[IPv4Network], owner: str) -> Iterator[IPv4Network]:
    """Those that overlap with nothing, beginning where the owner's name says: two who choose at once rarely meet."""
    parts = list(whole.subnets(new_prefix=max(PREFIX, whole.prefixlen)))
    occupied = list(taken)
    first = zlib.crc32(owner.encode()) % len(parts)
    for part in parts[first:] + parts[:first]:
        if not any(part.overlaps(other) for other in occupied):
            yield part


def routed(routes: str) -> Iterator[IPv4Network]:
    """What this machine already reaches some other way, from `/proc/net/route`; the default route is none of it."""
    for line in routes.splitlines()[1:]:
        _, destination, _, _, _, _, _, mask, *_ = line.split()
        length = bin(int(mask, 16)).count("1")
        if length:
            address = struct.pack("<L", int(destination, 16))  # as this machine's memory has it
            yield IPv4Network((address, length), strict=False)


def routed_here() -> list[IPv4Network]:
    try:
        return list(routed(_ROUTES.read_text()))
    except (OSError, ValueError):
        return []
