"""API keys: for programs that act for a person. Shown once, kept as a hash, limited by scopes and an expiry."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from muelle import events
from muelle.identity import store, tokens
from muelle.identity.core import Core
from muelle.identity.model import (
    LARGEST_KEYRING,
    AccountId,
    ApiKey,
    KeyId,
    KeyringFull,
    NoSuchKey,
    NotInThePast,
    UnknownScope,
)
from muelle.identity.presence import present
from muelle.kit.http import Caller
from muelle.kit.ids import new_id

EVERYTHING = "*"


@dataclass(frozen=True)
class MadeKey:
    key: ApiKey
    text: str


class Keyring:
    """`scopes` are those that the routes of this installation ask for."""

    def __init__(self, core: Core, scopes: frozenset[str]) -> None:
        self._core = core
        self._allowed = scopes | {EVERYTHING} | {f"{scope.partition(':')[0]}:*" for scope in scopes}

    async def make(self, caller: Caller, name: str, scopes: frozenset[str], expires_at: datetime | None) -> MadeKey:
        now = self._core.clock.now()
        for scope in sorted(scopes - self._allowed):
            raise UnknownScope(scope=scope, allowed=", ".join(sorted(self._allowed)))
        if expires_at is not None and expires_at <= now:
            raise NotInThePast
        fresh = tokens.make_key()
        key = ApiKey(
            id=KeyId(new_id()),
            account_id=AccountId(caller.account_id),
            name=name,
            prefix=fresh.prefix,
            secret_hash=fresh.secret_hash,
            scopes=scopes,
            created_at=now,
            expires_at=expires_at,
            last_used_at=None,
        )
        async with self._core.database.transaction() as tx:
            await present(tx, caller)
            if len(await store.list_keys(tx, caller.account_id)) >= LARGEST_KEYRING:
                raise KeyringFull(most=LARGEST_KEYRING)
            await store.add_key(tx, key)
            fact = events.ApiKeyMade(account_id=key.account_id, key_id=key.id, name=name, scopes=sorted(scopes))
            await self._core.outbox.emit(tx, fact)
        return MadeKey(key, fresh.text)

    async def list(self, caller: Caller) -> list[ApiKey]:
        async with self._core.database.reading() as reader:
            return await store.list_keys(reader, caller.account_id)

    async def revoke(self, caller: Caller, key_id: str) -> None:
        async with self._core.database.transaction() as tx:
            await present(tx, caller)
            if not await store.remove_keys(tx, caller.account_id, only=key_id):
                raise NoSuchKey
            await self._core.outbox.emit(tx, events.ApiKeyRevoked(account_id=caller.account_id, key_id=key_id))
            tx.after_commit(self._core.recognition.forget)
