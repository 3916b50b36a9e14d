"""All that may be asked of audit: record a fact, list what was recorded, verify that nobody changed it."""

from __future__ import annotations

import json
import secrets
from dataclasses import replace

from muelle.audit import chain, store
from muelle.audit.chain import Entry, Verdict, Walk
from muelle.kit.bus import Envelope
from muelle.kit.db import Database, Transaction
from muelle.kit.http import Cursor

LONGEST = {"room": 40, "type": 100, "subject": 100, "actor": 100, "address": 64, "request_id": 64}


class Verbs:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def record(self, tx: Transaction, envelope: Envelope) -> None:
        """Appends a fact. Facts of different rooms arrive in any order: the chain's order is that of arrival."""
        before = await store.lock_head(tx)
        details = _storable(json.dumps(envelope.data, ensure_ascii=False, sort_keys=True))
        salt = secrets.token_hex(16)
        entry = Entry(
            seq=before.seq + 1,
            event_id=envelope.id,
            at=envelope.at,
            **_clipped(envelope),
            salt=salt,
            details=details,
            details_hash=chain.hash_details(salt, details),
            hash="",
        )
        await store.append(tx, replace(entry, hash=chain.hash_entry(before.hash, entry)))
        if await store.is_recorded(tx, chain.ERASED_BY, entry.subject):  # also for a fact that comes late
            await store.erase_details(tx, entry.subject)

    async def list(self, cursor: Cursor, *, subject: str = "", actor: str = "", type: str = "") -> list[Entry]:
        async with self._database.reading() as reader:
            return await store.list_entries(reader, cursor, subject=subject, actor=actor, type=type)

    async def verify(self, expected_hash: str = "") -> Verdict:
        """Walks the whole chain. What is appended meanwhile is walked, too: it may be the reason why something earlier
        was erased behind our back."""
        walk = Walk(expected_hash.strip().lower())
        async with self._database.reading() as reader:
            while True:
                before = walk.count
                async for entry in store.entries_after(reader, before):
                    walk.step(entry)
                    if walk.broken:
                        break
                head = await store.head_as_it_is(reader)
                if walk.broken or head is None or head.seq <= walk.count or walk.count == before:
                    return walk.end(head)


def _clipped(envelope: Envelope) -> dict[str, str]:
    """The texts of an envelope, each such that its column can hold it."""
    texts = {
        "room": envelope.room,
        "type": envelope.type,
        "subject": envelope.subject,
        "actor": envelope.origin.actor,
        "address": envelope.origin.address,
        "request_id": envelope.origin.request_id,
    }
    return {name: _storable(text)[: LONGEST[name]] for name, text in texts.items()}


def _storable(text: str) -> str:
    """In letters that every database can keep."""
    return text.replace("\0", "").encode(errors="replace").decode()
