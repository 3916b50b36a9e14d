"""How long the proxy waits for what, and how much of everything it takes: all of it, in one place."""

from __future__ import annotations

import resource
from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Seconds are rounded up to ticks, where nothing else is said."""

    tick_seconds: float = 1.0
    """How finely time-outs are kept: one look at all connections each tick costs less than a timer for each request."""

    head_bytes: int = 32 * 1024
    """Of a request, or of an answer: its first line and all its headers."""
    target_bytes: int = 16 * 1024
    headers: int = 100

    head_seconds: float = 15
    """For the whole head of a request, from its first byte: whoever is slower may be at it on purpose."""
    idle_seconds: float = 75
    """Between two requests of a client."""
    crowded_seconds: float = 3
    """The same, when there is hardly any room left for other clients."""
    body_seconds: float = 60
    """Between two pieces of a request's body."""
    stalled_seconds: float = 120
    """For a client that takes nothing of an answer that waits for it."""
    answer_seconds: float = 300
    """For the head of an answer, from the last byte of the request: longer than the time-outs of most programs, so that
    it is theirs that is seen. An answer that has begun may take for ever, as a stream of events does."""
    linger_seconds: float = 5
    """For a client that still sends a body which nobody wants, so that it can read the answer that says so."""

    connect_seconds: float = 5
    patience_seconds: float = 2
    """For a workload that refuses connections, before it is called unreachable."""
    starting_seconds: float = 3
    """For a workload that starts, before the page is shown."""
    pause_seconds: float = 0.05
    """Between two looks at whether somebody is there by now."""
    waiting: int = 200
    """Requests that wait for one workload to start, at the same time. The others get the page at once."""

    connections: int = 4096
    """Of clients. Fewer, where the process may not open twice as many files."""
    under_way: int = 1024
    """Requests at the same time to one workload, so that none takes all connections from its neighbours."""
    idle_connections: int = 64
    """Kept open to one workload, for the next requests."""
    idle_upstream_seconds: float = 4
    """Shorter than the five seconds after which most servers close a connection: better we than they."""
    buffer_bytes: int = 64 * 1024
    """Of either direction of a connection, beyond what the kernel holds: more is not read until it has gone on."""
    replay_bytes: int = 64 * 1024
    """Of a request's body, kept in case a kept connection turns out to be closed."""

    def ticks(self, seconds: float) -> int:
        """After how many ticks so many seconds are over for certain."""
        return int(-(-seconds // self.tick_seconds)) + 1

    @property
    def in_ticks(self) -> Ticks:
        return Ticks(
            head=self.ticks(self.head_seconds),
            idle=self.ticks(self.idle_seconds),
            crowded=self.ticks(self.crowded_seconds),
            body=self.ticks(self.body_seconds),
            stalled=self.ticks(self.stalled_seconds),
            answer=self.ticks(self.answer_seconds),
            linger=self.ticks(self.linger_seconds),
            idle_upstream=self.ticks(self.idle_upstream_seconds),
        )


@dataclass(frozen=True, slots=True)
class Ticks:
    """The time-outs that every request sets anew, worked out once."""

    head: int
    idle: int
    crowded: int
    body: int
    stalled: int
    answer: int
    linger: int
    idle_upstream: int


FILES_OF_OTHERS = 200
"""What the rest of the process has open: databases, the bus, its own listener."""


def connections_possible(wanted: int) -> int:
    """How many clients there can be: each takes a file for itself and one for its workload."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return wanted if soft == resource.RLIM_INFINITY else max(16, min(wanted, (soft - FILES_OF_OTHERS) // 2))
