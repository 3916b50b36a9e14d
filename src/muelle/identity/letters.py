"""Letters: mail that identity still has to send. Written in the transaction of their cause, sent after it, retried.

A letter is sealed, because it holds a secret link, and gone once it is sent. Several replicas share the work: each
claims a letter by a guarded update before it sends it. A crash between sending and noting it sends the same letter
twice, with the same Message-ID; never none.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import timedelta

import structlog
from sqlalchemy import delete, select, update

from muelle.identity.store import AnyRow
from muelle.identity.tables import letters
from muelle.kit.clock import Clock
from muelle.kit.db import Database, Transaction
from muelle.kit.ids import new_id
from muelle.kit.loops import Loop, pause_before_retry
from muelle.kit.mail import Mail, Mailer
from muelle.kit.vault import Vault

PERIOD_SECONDS = 5
LEASE_SECONDS = 120
LAST_ATTEMPT = 10
BATCH = 20
_PURPOSE = "letters"

_log = structlog.get_logger("muelle.letters")


@dataclass(frozen=True)
class Letter:
    kind: str
    to: str
    subject: str
    text: str


class Letters:
    def __init__(self, database: Database, mailer: Mailer, clock: Clock, vault: Vault) -> None:
        self._database = database
        self._mailer = mailer
        self._clock = clock
        self._vault = vault
        self.loop = Loop("identity.letters", self._send_due, PERIOD_SECONDS, clock)

    async def write(self, tx: Transaction, letter: Letter) -> None:
        await self._put(tx, letter)
        tx.after_commit(self.loop.wake)

    async def write_for_show(self, tx: Transaction, letter: Letter) -> None:
        """Takes as long as writing it, and leaves nothing: for somebody who is not here."""
        await tx.run(delete(letters).where(letters.c.id == await self._put(tx, letter)))
        tx.after_commit(self.loop.wake)

    async def _put(self, tx: Transaction, letter: Letter) -> str:
        sealed = self._vault.seal(_PURPOSE, json.dumps(asdict(letter)).encode())
        row = {"id": new_id(), "kind": letter.kind, "sealed": sealed, "attempts": 0, "next_at": self._clock.now()}
        await tx.run(letters.insert().values(row))
        return str(row["id"])

    async def _send_due(self) -> bool:
        due = select(letters).where(letters.c.next_at <= self._clock.now()).order_by(letters.c.next_at).limit(BATCH)
        async with self._database.reading() as reader:
            rows = await reader.all(due)
        for row in rows:
            if await self._claim(row):
                await self._send(row)
        return len(rows) == BATCH

    async def _claim(self, row: AnyRow) -> bool:
        unchanged = letters.c.id == row.id, letters.c.attempts == row.attempts
        until = self._clock.now() + timedelta(seconds=LEASE_SECONDS)
        async with self._database.transaction() as tx:
            claim = update(letters).where(*unchanged).values(attempts=row.attempts + 1, next_at=until)
            return bool((await tx.run(claim)).rowcount)

    async def _send(self, row: AnyRow) -> None:
        try:
            letter = Letter(**json.loads(self._vault.open(_PURPOSE, row.sealed)))
            await self._mailer.send(Mail(row.id, letter.to, letter.subject, letter.text))
        except Exception as error:
            await self._put_back(row, row.attempts + 1, error)
        else:
            async with self._database.transaction() as tx:
                await tx.run(delete(letters).where(letters.c.id == row.id))

    async def _put_back(self, row: AnyRow, attempts: int, error: Exception) -> None:
        """For later, or for good; unless somebody else has it by now, because this took longer than the lease."""
        given_up = attempts >= LAST_ATTEMPT
        _log.warning("letter not sent", kind=row.kind, attempts=attempts, given_up=given_up, error=str(error))
        ours = letters.c.id == row.id, letters.c.attempts == attempts
        next_at = self._clock.now() + timedelta(seconds=5 * pause_before_retry(attempts))
        async with self._database.transaction() as tx:
            await tx.run(
                delete(letters).where(*ours) if given_up else update(letters).where(*ours).values(next_at=next_at)
            )
