"""All that may be asked of ingress: take a fact in, know the table, list it, and tell whoever wants to hear changes."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from itertools import dropwhile, islice

import structlog

from muelle.events import RouteChanged
from muelle.ingress import store
from muelle.ingress.table import Changes, Entry, Table
from muelle.kit.bus import Envelope
from muelle.kit.clock import Clock
from muelle.kit.db import Database, Transaction
from muelle.kit.http import Cursor

GONE_DAYS = 35
"""How long a workload that is gone is remembered: longer than any fact about it can still arrive (see
`kit.bus.inbox.REMEMBERED_DAYS`)."""

Listener = Callable[[Changes], None]

_log = structlog.get_logger("muelle.ingress")


class Verbs:
    """`table` is the living one: the proxy reads it, nobody but this writes it."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self.table = Table()
        self._database = database
        self._clock = clock
        self._listeners: list[Listener] = []

    def listen(self, listener: Listener) -> None:
        """Tells each change from now on, once. The listener must not wait, and what it raises is logged."""
        self._listeners.append(listener)

    async def load(self) -> None:
        """Makes the table from what is written down: before anything else, so that names lead somewhere at once."""
        async with self._database.reading() as reader:
            claims, facts = await store.highest_claims(reader), await store.facts(reader)
        self._tell(self.table.outbid(claims))
        for fact in facts:
            self._apply(fact)

    async def record(self, tx: Transaction, envelope: Envelope) -> None:
        """Takes a fact in: at once for the proxy, and then for the next start.

        It is true where it comes from, whether or not we can write it down now. Where we cannot it comes again, and the
        table does not mind to be told twice.
        """
        fact = envelope.read(RouteChanged)
        self._apply(fact)
        await store.keep(tx, fact, envelope.at)

    async def catch_up(self) -> None:
        """Learns what another replica has taken in: each fact comes to one of those that share a database."""
        known = self.table.versions
        async with self._database.reading() as reader:
            written = await store.versions(reader)
            newer = {workload for workload, version in written.items() if version > known.get(workload, -1)}
            facts = await store.facts(reader, newer) if newer else []
            claims = await store.highest_claims(reader)
        self._tell(self.table.outbid(claims))
        for fact in facts:
            self._apply(fact)

    async def forget_gone(self) -> None:
        async with self._database.transaction() as tx:
            await store.forget_gone(tx, self._clock.now() - timedelta(days=GONE_DAYS))

    async def list(self, cursor: Cursor) -> list[Entry]:
        """The oldest claim first; one more than the page holds, where there are more."""
        after = cursor.after or ""
        following = dropwhile(lambda entry: entry.place <= after, self.table) if after else iter(self.table)
        return list(islice(following, cursor.limit + 1))

    def _apply(self, fact: RouteChanged) -> None:
        self._tell(self.table.apply(fact))

    def _tell(self, changes: Changes) -> None:
        for listener in self._listeners if changes else ():
            try:
                listener(changes)
            except Exception:  # what one of them cannot bear is no reason for the others, or the table, to go without
                _log.exception("a listener failed")
