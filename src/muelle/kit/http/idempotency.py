"""`Idempotency-Key`: a request that is sent again has its effect once and gets the same answer again.

A row in the room's own database says how far the first request is. `running`: claimed, nothing written. `committed`:
set in the very transaction that has the effect, so that no crash can come between. `answered`: the answer is kept
(sealed, for it may hold a secret) and given again. Equal requests that arrive meanwhile wait for it. Only a crash
between `committed` and `answered` loses the answer, and then the repetition is told so instead of being done twice.

Each run of a request owns its row by an id of its own, so that one that lost it, having taken longer than its lease,
can neither have an effect any more nor write over the answer of the run that took its place.
"""

from __future__ import annotations

import json
import re
from base64 import b64decode, b64encode
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import structlog
from sqlalchemy import (
    CheckConstraint,
    Column,
    ColumnElement,
    Index,
    LargeBinary,
    Row,
    String,
    Table,
    delete,
    select,
    update,
)
from starlette.responses import Response

from muelle.kit.clock import Clock
from muelle.kit.db import Database, Instant, Transaction
from muelle.kit.db.database import at_commit
from muelle.kit.db.tables import furniture
from muelle.kit.errors import Conflict, Invalid
from muelle.kit.ids import new_id
from muelle.kit.loops import Loop
from muelle.kit.vault import Vault

HEADER = "idempotency-key"
KEPT_HOURS = 24
LEASE_SECONDS = 60
WAIT_SECONDS = 10
CLEANING_PERIOD_SECONDS = 600
NOT_KEPT = frozenset({401, 429})
"""Answers that say "nothing was done, ask properly": whatever was noted on the way there, it may be asked again."""
_KEY = re.compile(r"[\x21-\x7e]{1,255}")
_KEPT_HEADERS = ("content-type", "location")
_PURPOSE = "idempotent answers"

_log = structlog.get_logger("muelle.http")

answers = Table(
    "answers",
    furniture,
    Column("caller", String(64), primary_key=True),
    Column("key", String(255), primary_key=True),
    Column("fingerprint", String(64), nullable=False),
    Column("state", String(10), nullable=False),
    Column("owner", String(24), nullable=False),
    Column("lease_until", Instant, nullable=False),
    Column("sealed", LargeBinary, nullable=True),
    Column("created_at", Instant, nullable=False),
    CheckConstraint("state IN ('running', 'committed', 'answered')", name="answer_state"),
    Index("answers_by_age", "created_at"),
)


class BadIdempotencyKey(Invalid):
    """An Idempotency-Key has 1 to 255 visible ASCII characters."""


class KeyUsedBefore(Invalid):
    """This Idempotency-Key was used for another request."""

    hint = "Use a fresh key for each request that is meant as a new one."


class StillRunning(Conflict):
    """The first request with this Idempotency-Key is still running."""

    hint = "Send it again in a moment; it will have the same answer."


class AnswerLost(Conflict):
    """The first request with this Idempotency-Key was carried out, but its answer was lost in a crash."""

    hint = "Look at the thing itself, and use a fresh key if anything is left to do."


@dataclass(frozen=True)
class Request:
    """What makes two requests the same: who, which key, and a fingerprint of everything that was asked."""

    caller: str
    key: str
    fingerprint: str


class Answers:
    """A room's memory of answers. `once` runs the handler the first time and repeats its answer later."""

    def __init__(self, room: str, database: Database, clock: Clock, vault: Vault, process: str) -> None:
        self._database = database
        self._clock = clock
        self._vault = vault
        self._runs: set[str] = set()
        self.cleaning = Loop(f"{room}.answers_cleaning", self._forget_old, CLEANING_PERIOD_SECONDS, clock)

    def request(self, caller: str, key: str, *parts: bytes) -> Request:
        if not _KEY.fullmatch(key):
            raise BadIdempotencyKey
        return Request(caller[:64], key, self._vault.mac("idempotent requests", *parts))

    async def once(self, request: Request, handle: Callable[[], Awaitable[Response]]) -> Response:
        run = new_id()
        self._runs.add(run)
        try:
            kept = await self._claim_or_wait(request, run)
            return kept if kept is not None else await self._run(request, run, handle)
        finally:
            self._runs.discard(run)

    async def _claim_or_wait(self, request: Request, run: str) -> Response | None:
        """None: the request is ours to run."""
        deadline = self._clock.now() + timedelta(seconds=WAIT_SECONDS)
        pause = 0.01
        while not await self._claim(request, run):
            while (row := await self._row(request)) is not None:
                if row.fingerprint != request.fingerprint:
                    raise KeyUsedBefore
                if row.state == "answered":
                    return self._repeat(row)
                if self._is_left(row) and await self._row(request) == row:  # it did not end between the two looks
                    if row.state == "committed":
                        raise AnswerLost
                    if await self._take_over(request, run, row):
                        return None
                if self._clock.now() >= deadline:
                    raise StillRunning
                await self._clock.sleep(pause)
                pause = min(pause * 2, 0.25)
        return None

    async def _claim(self, request: Request, run: str) -> bool:
        fresh = {"caller": request.caller, "key": request.key, "fingerprint": request.fingerprint}
        row = fresh | self._lease(run) | {"state": "running", "created_at": self._clock.now()}
        async with self._database.transaction() as tx:
            return bool(await tx.insert_new(answers, [row], answers.c.key))

    async def _take_over(self, request: Request, run: str, row: Row[Any]) -> bool:
        left = answers.c.owner == row.owner, answers.c.state == "running"
        async with self._database.transaction() as tx:
            taken = update(answers).where(*_this(request), *left).values(self._lease(run))
            return bool((await tx.run(taken)).rowcount)

    def _lease(self, run: str) -> dict[str, Any]:
        return {"owner": run, "lease_until": self._clock.now() + timedelta(seconds=LEASE_SECONDS)}

    async def _row(self, request: Request) -> Row[Any] | None:
        async with self._database.reading() as reader:
            return await reader.first(select(answers).where(*_this(request)))

    def _is_left(self, row: Row[Any]) -> bool:
        """Whether nobody works on it any more. On a database of our own, only our own runs can."""
        alone = not self._database.shared
        return bool(row.lease_until < self._clock.now()) or (alone and row.owner not in self._runs)

    async def _run(self, request: Request, run: str, handle: Callable[[], Awaitable[Response]]) -> Response:
        effect = _Effect(self._database, request, run)
        try:
            response = await effect.watch(handle)
        except BaseException:
            with suppress(Exception):  # where even that fails, the lease runs out
                await (self._lose(request, run) if effect.committed else self._let_go(request, run))
            raise
        if response.status_code in NOT_KEPT or (response.status_code >= 500 and not effect.committed):
            await self._let_go(request, run)
        else:
            await self._keep(request, run, response)
        return response

    async def _keep(self, request: Request, run: str, response: Response) -> None:
        text = {
            "status": response.status_code,
            "headers": {name: response.headers[name] for name in _KEPT_HEADERS if name in response.headers},
            "body": b64encode(bytes(response.body)).decode(),
        }
        sealed = self._vault.seal(_PURPOSE, json.dumps(text).encode())
        try:
            async with self._database.transaction() as tx:
                await tx.run(update(answers).where(*_ours(request, run)).values(state="answered", sealed=sealed))
        except Exception as error:  # this time it can still be given
            _log.warning("answer not kept", error=f"{type(error).__name__}: {error}")

    async def _let_go(self, request: Request, run: str) -> None:
        """The key is free again."""
        async with self._database.transaction() as tx:
            await tx.run(delete(answers).where(*_ours(request, run)))

    async def _lose(self, request: Request, run: str) -> None:
        """It was done, and there is no answer to keep."""
        async with self._database.transaction() as tx:
            over = self._clock.now() - timedelta(seconds=1)
            await tx.run(update(answers).where(*_ours(request, run)).values(lease_until=over))

    def _repeat(self, row: Row[Any]) -> Response:
        text = json.loads(self._vault.open(_PURPOSE, row.sealed))
        headers = text["headers"] | {"Idempotency-Replayed": "true"}
        return Response(b64decode(text["body"]), text["status"], headers)

    async def _forget_old(self) -> None:
        oldest = self._clock.now() - timedelta(hours=KEPT_HOURS)
        async with self._database.transaction() as tx:
            await tx.run(delete(answers).where(answers.c.created_at < oldest))


class _Effect:
    """Writes into each transaction of the request, up to the first that commits, that it had its effect."""

    def __init__(self, database: Database, request: Request, run: str) -> None:
        self.committed = False
        self._database = database
        self._request = request
        self._run = run

    async def watch(self, handle: Callable[[], Awaitable[Response]]) -> Response:
        token = at_commit.set(self._mark)
        try:
            return await handle()
        finally:
            at_commit.reset(token)

    async def _mark(self, tx: Transaction) -> None:
        if self.committed or tx.database is not self._database:
            return
        still_ours = *_ours(self._request, self._run), answers.c.state == "running"
        if not (await tx.run(update(answers).where(*still_ours).values(state="committed"))).rowcount:
            raise StillRunning  # it took longer than its lease, and somebody else runs it now
        tx.after_commit(self._remember)

    def _remember(self) -> None:
        self.committed = True


def _this(request: Request) -> tuple[ColumnElement[bool], ...]:
    return answers.c.caller == request.caller, answers.c.key == request.key


def _ours(request: Request, run: str) -> tuple[ColumnElement[bool], ...]:
    return *_this(request), answers.c.owner == run
