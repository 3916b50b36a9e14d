"""Where each name leads now: made from facts in whatever order they come, and asked for each request.

Three rules make the order, and how often a fact comes, irrelevant. Of a workload, the highest version is the truth. Of
the claims to a name, the highest that was *ever* told is the only one that counts, also when the fact that told it is
out of date or its workload has let go of the name since: an older claim ended before a newer one could be made, so a
workload that still seems to hold it merely has not told us yet. And a workload that is gone is remembered with its
version, so that a fact about its life, come late, does not bring it back.

Nothing in here waits or does I/O. A lookup is one access to a dictionary, whatever the number of names.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from zlib import crc32

from muelle.events import Route, RouteChanged


@dataclass(frozen=True, slots=True)
class Entry:
    """Where a name leads, and on whose behalf."""

    host: str
    workload_id: str
    owner_id: str
    claim: str
    route: Route
    address: str
    """`host:port`, where the route is open."""
    why: str
    """For the page that is shown instead."""

    @property
    def place(self) -> str:
        """Where it stands in a list: by the age of its claim, and short, whatever the length of its name."""
        return f"{self.claim}{crc32(self.host.encode()):08x}"


Changes = Mapping[str, Entry | None]
"""Names that lead elsewhere than before; None: nowhere any more."""


class Table:
    """All names. `apply` is the one way to change it."""

    def __init__(self, facts: Iterable[RouteChanged] = ()) -> None:
        self._entries: dict[str, Entry] = {}
        self._facts: dict[str, RouteChanged] = {}
        self._claims: dict[str, str] = {}
        for fact in facts:
            self.apply(fact)

    def lookup(self, host: str) -> Entry | None:
        """Of a name in lower case, without a port and without a dot at its end."""
        return self._entries.get(host)

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Entry]:
        """In the order in which the names were claimed: no fact that comes later changes it."""
        return iter(sorted(self._entries.values(), key=lambda entry: entry.place))

    @property
    def versions(self) -> Mapping[str, int]:
        """What is known of each workload, those that are gone too."""
        return {workload: fact.version for workload, fact in self._facts.items()}

    def apply(self, fact: RouteChanged) -> Changes:
        """Takes a fact in, and tells which names it changed."""
        touched = self._heed_claims(fact.hosts)
        known = self._facts.get(fact.workload_id)
        if known is None or fact.version > known.version:
            self._facts[fact.workload_id] = fact
            touched |= set(fact.hosts) | set(known.hosts if known else ())
        return {host: self._entries.get(host) for host in touched if self._settle(host, fact, known)}

    def outbid(self, claims: Mapping[str, str]) -> Changes:
        """Takes in claims alone, as they were kept of facts that are not known any more."""
        lost = [host for host in self._heed_claims(claims) if self._entries.pop(host, None)]
        return dict.fromkeys(lost)

    def _heed_claims(self, claims: Mapping[str, str]) -> set[str]:
        """Notes the highest claim to each name; tells for which ones it rose."""
        risen = {host for host, claim in claims.items() if claim > self._claims.get(host, "")}
        self._claims.update({host: claims[host] for host in risen})
        return risen

    def _settle(self, host: str, *about: RouteChanged | None) -> bool:
        """Whether the name leads elsewhere now. Only these facts, or whoever has it already, can have it."""
        before = self._entries.get(host)
        workloads = {fact.workload_id for fact in about if fact} | ({before.workload_id} if before else set())
        after = next((entry for workload in sorted(workloads) if (entry := self._entry(host, workload))), None)
        if after is None:
            self._entries.pop(host, None)
        else:
            self._entries[host] = after
        return before != after

    def _entry(self, host: str, workload_id: str) -> Entry | None:
        fact = self._facts.get(workload_id)
        if fact is None or fact.route is Route.GONE or fact.hosts.get(host) != self._claims[host]:
            return None
        return Entry(host, workload_id, fact.owner_id, fact.hosts[host], fact.route, fact.address, fact.why)
