"""The chain, as pure functions: what an entry's hash covers, and where a chain breaks.

Each entry's hash covers the one before, so that no entry can be changed, removed or put in without all later hashes
changing too. Details enter only as a salted hash of their own: when a person's account is deleted, the details of their
entries are erased, and the chain still holds. The end of the chain cannot vouch for itself; who wants to be sure that
nothing was cut off there notes the head's hash elsewhere.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
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


async def verify(entries: AsyncIterator[Entry], head: Head, expected_hash: str = "") -> Verdict:
    """Re-computes everything from the first entry on and names the first one that does not fit.

    `expected_hash` is a head that somebody noted earlier: it has to be in the chain.
    """
    before, count, met = GENESIS, 0, not expected_hash
    erased: dict[str, int] = {}
    deleted: set[str] = set()
    async for entry in entries:
        broken = _broken(entry, count + 1, before)
        if broken:
            return Verdict(count, head, f"entry {entry.seq}: {broken}")
        if entry.details is None:
            erased.setdefault(entry.subject, entry.seq)
        if entry.type == ERASED_BY:
            deleted.add(entry.subject)
        met = met or entry.hash == expected_hash
        before, count = entry.hash, count + 1
    if (count, before) != (head.seq, head.hash):
        return Verdict(count, head, f"the head says {head.seq} entries, there are {count}, or its hash is another")
    if not met:
        return Verdict(count, head, "no entry has the hash that was expected: the chain was cut off or made anew")
    missing = [seq for subject, seq in erased.items() if subject not in deleted]
    if missing:
        return Verdict(count, head, f"entry {min(missing)}: its details are gone, though the account was not deleted")
    return Verdict(count, head)


def _broken(entry: Entry, expected_seq: int, before: str) -> str:
    if entry.seq != expected_seq:
        return f"entry {expected_seq} is missing before it"
    if entry.details is not None and entry.details_hash != hash_details(entry.salt or "", entry.details):
        return "its details were changed"
    if entry.hash != hash_entry(before, entry):
        return "it was changed"
    return ""


def _digest(*parts: str) -> str:
    """Each part with its length, so that no two lists of parts read the same."""
    digest = sha256()
    for part in parts:
        encoded = part.encode()
        digest.update(len(encoded).to_bytes(8, "big") + encoded)
    return digest.hexdigest()
