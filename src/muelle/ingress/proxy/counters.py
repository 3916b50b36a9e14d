"""What the proxy counts, for metrics: plain numbers, read whenever somebody asks."""

from __future__ import annotations

from dataclasses import dataclass, field

from muelle.ingress.pages import Reason


@dataclass
class Counters:
    requests: int = 0
    """Heads that were understood."""
    answers: list[int] = field(default_factory=lambda: [0] * 10)
    """By the first digit of the status, of workloads and of our own pages alike."""
    pages: dict[Reason, int] = field(default_factory=lambda: dict.fromkeys(Reason, 0))
    refused: int = 0
    """Requests that were no proper HTTP."""
    turned_away: int = 0
    """Connections that there was no room for."""
    retried: int = 0
    """Requests that were sent again, because a kept connection turned out to be closed."""
    broken_off: int = 0
    """Answers that their workload did not end."""
    abandoned: int = 0
    """Requests whose client did not wait for the end."""
    tunnels: int = 0
    """WebSockets and other upgrades, since the start."""
    connections: int = 0
    """Of clients, open now."""
