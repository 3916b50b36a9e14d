"""Names that nobody else makes: 24 hex digits that sort by the time they were made.

Twelve digits of milliseconds since 1970, then twelve that start at random each millisecond and count up within it, so
that ids of one process sort in the order in which they were made. Ids say when a thing was made and nothing else; they
are no secrets (`secrets.token_*` is for those).
"""

from __future__ import annotations

import itertools
import re
import secrets
import threading
import time
from datetime import UTC, datetime

ID_PATTERN = r"^[0-9a-f]{24}$"
_TAIL_BITS = 48
_lock = threading.Lock()
_last = 0
_tails = itertools.count(secrets.randbits(_TAIL_BITS))


def new_id() -> str:
    global _last  # noqa: PLW0603 - the one counter of the process: it is what makes ids rise
    with _lock:
        fresh = (time.time_ns() // 1_000_000 << _TAIL_BITS) | secrets.randbits(_TAIL_BITS - 8)
        _last = fresh if fresh > _last else _last + 1
        return f"{_last:024x}"


def new_id_at(moment: datetime) -> str:
    """An id that says it was made at that moment, for what lives by a clock that was handed in.

    Ids for the same moment rise in the order in which this process makes them.
    """
    return f"{int(moment.timestamp() * 1000):012x}{next(_tails) % (1 << _TAIL_BITS):012x}"


def is_id(text: str) -> bool:
    return re.fullmatch(ID_PATTERN, text) is not None


def made_at(id: str) -> datetime:
    return datetime.fromtimestamp(int(id[:12], 16) / 1000, UTC)


def first_id_at(moment: datetime) -> str:
    """Lower than every id made from that moment on, higher than every earlier one."""
    return f"{int(moment.timestamp() * 1000):012x}{0:012x}"
