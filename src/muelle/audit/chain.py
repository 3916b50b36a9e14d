"""The chain, as pure functions: what an entry's hash covers, and where a chain breaks.

Each entry's hash covers the one before, so that no entry can be changed, removed or put in without all later hashes
changing too. Details enter only as a salted hash of their own: when a person's account is deleted, the details of their
entries are erased, and the chain still holds. The end of the chain cannot vouch for itself; who wants to be sure that
nothing was cut off there notes the head's hash elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256

GENESIS = "0" * 64
ERASED_BY = "AccountDeleted"


@dataclass(frozen=True)
class Entry:
    seq: int
    event_id: str
    at: datetime
    room: str
    type: str
    subject: str
    actor: str
    address: str
    request_id: str
    salt: str | None
    details: str | None
    details_hash: str
    hash: str


@dataclass(frozen=True)
class Head:
    seq: int
    hash: str


@dataclass(frozen=True)
class Verdict:
    """What verifying found: how many entries hold, and in words where the first one does not."""

    entries: int
    head: Head
    broken: str = ""

    @property
    def whole(self) -> bool:
        return not self.broken


def hash_details(salt: str, details: str) -> str:
    return _digest(salt, details)


def hash_entry(before: str, entry: Entry) -> str:
    return _digest(
        before,
        str(entry.seq),
        entry.event_id,
        entry.at.isoformat(timespec="microseconds"),
        entry.room,
        entry.type,
        entry.subject,
        entry.actor,
        entry.address,
        entry.request_id,
        entry.details_hash,
    )


class Walk:
    """Re-computes everything from the first entry on and finds the first one that does not fit.

    `expected_hash` is a head that somebody noted earlier: it has to be in the chain.
    """

    def __init__(self, expected_hash: str = "") -> None:
        self.count = 0
        self.broken = ""
        self._expected = expected_hash
        self._met = expected_hash in ("", GENESIS)
        self._before = GENESIS
        self._erased: dict[str, int] = {}
        self._deleted: set[str] = set()

    def step(self, entry: Entry) -> None:
        """Takes the next entry; `broken` then says whether it fits."""
        broken = _broken(entry, self.count + 1, self._before)
        if broken:
            self.broken = f"entry {entry.seq}: {broken}"
            return
        if entry.details is None:
            self._erased.setdefault(entry.subject, entry.seq)
        if entry.type == ERASED_BY:
            self._deleted.add(entry.subject)
        self._met = self._met or entry.hash == self._expected
        self._before, self.count = entry.hash, self.count + 1

    def end(self, head: Head | None) -> Verdict:
        """There are no more entries: does that fit, too?"""
        return Verdict(self.count, head or Head(0, ""), self.broken or self._broken_end(head))

    def _broken_end(self, head: Head | None) -> str:
        if head is None:
            return "the head is gone"
        if (self.count, self._before) != (head.seq, head.hash):
            return f"the head says {head.seq} entries, there are {self.count}, or its hash is another"
        if not self._met:
            return "no entry has the hash that was expected: the chain was cut off or made anew"
        missing = [seq for subject, seq in self._erased.items() if subject not in self._deleted]
        if missing:
            return f"entry {min(missing)}: its details are gone, though the account was not deleted"
        return ""


def _broken(entry: Entry, expected_seq: int, before: str) -> str:
    if entry.seq < expected_seq:
        return "it has no place in the chain"
    if entry.seq > expected_seq:
        return f"entry {expected_seq} is missing before it"
    if entry.hash != hash_entry(before, entry):
        return "it was changed"
    if entry.details is None:
        return "" if entry.salt is None else "its details were changed"
    if entry.salt is None or entry.details_hash != hash_details(entry.salt, entry.details):
        return "its details were changed"
    return ""


def _digest(*parts: str) -> str:
    """Each part with its length, so that no two lists of parts read the same.

    Bytes that are no UTF-8 (somebody changed them) count as what they are.
    """
    digest = sha256()
    for part in parts:
        encoded = part.encode(errors="surrogateescape")
        digest.update(len(encoded).to_bytes(8, "big") + encoded)
    return digest.hexdigest()
