"""Recognises who is asking, by access token or API key.

What was recognised is remembered for `REMEMBERED_SECONDS`, so that a busy client does not cost a query each time.
Within this process a change (log-out, suspension, a new role) is seen at once, because it makes all of it forgotten; a
change made by another process is seen after that many seconds at the latest. What could outlive that (a new key, a new
password) asks again in its own transaction: see `presence`.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from datetime import datetime, timedelta

from muelle.identity import store, tokens
from muelle.identity.model import Account
from muelle.identity.tokens import Tokens
from muelle.kit.clock import Clock
from muelle.kit.db import Database
from muelle.kit.http import Caller
from muelle.kit.http.access import TokenExpired, TokenInvalid

REMEMBERED_SECONDS = 2
REMEMBERED_CREDENTIALS = 10_000
KEY_USE_NOTED_EVERY_SECONDS = 60


@dataclass(frozen=True)
class _Known:
    caller: Caller
    until: datetime


class Recognition:
    """Implements `kit.http.Callers`."""

    def __init__(self, database: Database, clock: Clock, tokens: Tokens) -> None:
        self._database = database
        self._clock = clock
        self._tokens = tokens
        self._known: dict[str, _Known] = {}
        self._age = 0

    async def identify(self, credential: str) -> Caller:
        known = self._known.get(credential)
        if known is not None and self._clock.now() < known.until:
            return known.caller
        age = self._age
        by_key = credential.startswith(tokens.KEY_PREFIX)
        caller, expires = await (self._by_key(credential) if by_key else self._by_token(credential))
        if age == self._age:  # nothing has changed while we looked
            if len(self._known) >= REMEMBERED_CREDENTIALS:
                self._known.clear()
            until = self._clock.now() + timedelta(seconds=REMEMBERED_SECONDS)
            self._known[credential] = _Known(caller, min(until, expires) if expires else until)
        return caller

    def forget(self) -> None:
        self._age += 1
        self._known.clear()

    async def _by_token(self, token: str) -> tuple[Caller, datetime]:
        now = self._clock.now()
        claims = self._tokens.read_access(token, now)
        async with self._database.reading() as reader:
            found = await store.session_with_account(reader, claims.session_id)
        if found is None or found[1].id != claims.account_id:
            raise TokenInvalid
        session, account = found
        if session.expires_at <= now:
            raise TokenExpired
        return _caller(account, session_id=session.id), datetime.fromtimestamp(claims.expires_at, now.tzinfo)

    async def _by_key(self, text: str) -> tuple[Caller, datetime | None]:
        prefix, hash = tokens.read_key(text)
        now = self._clock.now()
        async with self._database.reading() as reader:
            found = await store.key_with_account(reader, prefix)
        if found is None or not hmac.compare_digest(found[0].secret_hash, hash):
            raise TokenInvalid
        key, account = found
        if key.expires_at is not None and key.expires_at <= now:
            raise TokenExpired
        noted = key.last_used_at
        if noted is None or now - noted >= timedelta(seconds=KEY_USE_NOTED_EVERY_SECONDS):
            async with self._database.transaction() as tx:
                await store.note_key_use(tx, key.id, now)
        return _caller(account, key_id=key.id, scopes=key.scopes), key.expires_at


def _caller(
    account: Account, session_id: str = "", key_id: str = "", scopes: frozenset[str] = frozenset({"*"})
) -> Caller:
    return Caller(
        account_id=account.id,
        email=account.email,
        name=account.name,
        role=account.role,
        suspended=account.suspended,
        session_id=session_id,
        key_id=key_id,
        scopes=scopes,
    )
