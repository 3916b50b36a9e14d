"""A new password: by knowing the old one, or by a code that went to the account's address."""

from __future__ import annotations

from datetime import timedelta

from muelle import events
from muelle.identity import store, tokens
from muelle.identity.core import Core
from muelle.identity.model import LinkSpent, NoSuchAccount, PasswordNeeded, PasswordWrong
from muelle.identity.proof import accept_proof
from muelle.identity.texts import RESET_HOURS, reset_letter
from muelle.kit.bus import origin
from muelle.kit.http import Caller

RESET = "reset"


class Recovery:
    def __init__(self, core: Core) -> None:
        self._core = core

    async def ask(self, email: str) -> None:
        """Writes a letter where there is such an account; nobody can tell from outside whether there is."""
        await self._core.attempts.count("reset", email, origin.get().address)
        token = tokens.one_time()
        until = self._core.clock.now() + timedelta(hours=RESET_HOURS)
        async with self._core.database.transaction() as tx:
            account = await store.account_by_email(tx, email)
            if account is None:
                return
            await store.add_one_time_token(tx, tokens.digest(token), RESET, account, until)
            await self._core.letters.write(tx, reset_letter(account.email, token, self._core.policy.url))
            await self._core.outbox.emit(tx, events.PasswordResetRequested(account_id=account.id))

    async def reset(self, token: str, password: str) -> None:
        """Closes every session; who has the mailbox has the account."""
        digest, now = tokens.digest(token), self._core.clock.now()
        async with self._core.database.reading() as reader:
            if await store.one_time_token_holder(reader, digest, RESET, now) is None:
                raise LinkSpent  # before a hash is spent on it
        hash = await self._core.passwords.hash(password)
        async with self._core.database.transaction() as tx:
            spent = await store.spend_one_time_token(tx, digest, RESET, now)
            account = await store.lock_account(tx, spent.account_id) if spent else None
            if spent is None or account is None or account.email != spent.email:
                raise LinkSpent
            account = await accept_proof(self._core, tx, account, "reset by mail")
            await store.remove_sessions(tx, account.id)
            account = await store.change_account(tx, account.id, password_hash=hash) or account
            await self._core.outbox.emit(tx, events.PasswordChanged(account_id=account.id, why="reset by mail"))
            await self._core.tell_changed(tx, account)

    async def change(self, caller: Caller, present: str | None, password: str) -> None:
        """Closes every other session. An account that never had a password gets one without telling an old one."""
        await self._core.attempts.count("password", caller.email, "")
        async with self._core.database.reading() as reader:
            account = await store.account_by_id(reader, caller.account_id)
        if account is None:
            raise NoSuchAccount
        if account.password_hash is not None:
            if present is None:
                raise PasswordNeeded
            if not await self._core.passwords.verify(account.password_hash, present):
                raise PasswordWrong
        hash = await self._core.passwords.hash(password)
        async with self._core.database.transaction() as tx:
            await store.remove_sessions(tx, account.id, but=caller.session_id)
            await store.remove_one_time_tokens(tx, account.id, RESET)
            account = await store.change_account(tx, account.id, password_hash=hash) or account
            await self._core.outbox.emit(tx, events.PasswordChanged(account_id=account.id, why="owner"))
            await self._core.tell_changed(tx, account)
