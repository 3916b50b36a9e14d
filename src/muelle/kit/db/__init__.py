"""One small face over SQLite and PostgreSQL.

    async with database.transaction() as tx:      # reads and writes; commits at the end, or leaves nothing
        await tx.run(insert(accounts).values(...))
        tx.after_commit(relay.wake)
    async with database.reading() as reader:      # reads only, beside any writer
        row = await reader.first(select(accounts).where(...))

It promises that a transaction is short: whatever may wait for somebody else (an engine, HTTP, a mail server, a slow
hash) calls `refuse_inside_transaction`; a transaction inside another one is refused too, and so is a reading inside one
of the same database.
"""

from muelle.kit.db.database import Database, Reading, Transaction, aside, open_database
from muelle.kit.db.guard import SlowCallInTransaction, refuse_inside_transaction
from muelle.kit.db.types import Instant

__all__ = [
    "Database",
    "Instant",
    "Reading",
    "SlowCallInTransaction",
    "Transaction",
    "aside",
    "open_database",
    "refuse_inside_transaction",
]
