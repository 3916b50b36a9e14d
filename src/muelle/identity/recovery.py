"""A new password: by knowing the old one, or by a code that went to the account's address."""

from __future__ import annotations

from datetime import timedelta

from muelle import events
from muelle.identity import store, tokens
from muelle.identity.attempts import PER_MAILBOX
from muelle.identity.core import Core, act_as
from muelle.identity.model import Account, LinkSpent
from muelle.identity.presence import prove, proved
from muelle.identity.proof import accept_proof
from muelle.identity.texts import RESET_HOURS, reset_letter
from muelle.kit.bus import origin
from muelle.kit.db import Transaction
from muelle.kit.http import Caller

RESET = "reset"


class Recovery:
    def __init__(self, core: Core) -> None:
        self._core = core

    async def ask(self, email: str) -> None:
        """Writes a letter where there is such an account. Nobody can tell from outside whether there is, neither by the
        answer nor by the time."""
        await self._core.attempts.count("reset", email, origin.get().address, per_account=PER_MAILBOX)
        token = tokens.one_time()
        letter = reset_letter(email, token, self._core.policy.url)
        until = self._core.clock.now() + timedelta(hours=RESET_HOURS)
        async with self._core.database.transaction() as tx:
            account = await store.lock_account_by_email(tx, email)
            if account is None:
                await self._core.letters.write_for_show(tx, letter)
                return
            await store.add_one_time_token(tx, tokens.digest(token), RESET, account, until)
            await self._core.letters.write(tx, letter)
            await self._core.outbox.emit(tx, events.PasswordResetRequested(account_id=account.id))

    async def reset(self, token: str, password: str) -> None:
        """Closes every session; who has the mailbox has the account."""
        digest, now = tokens.digest(token), self._core.clock.now()
        async with self._core.database.reading() as reader:
            holder = await store.one_time_token_holder(reader, digest, RESET, now)
        if holder is None:
            raise LinkSpent  # before a hash is spent on it
        hash = await self._core.passwords.hash(password)
        async with self._core.database.transaction() as tx:
            account = await store.lock_account(tx, holder.id)
            spent = await store.spend_one_time_token(tx, digest, RESET, now)
            if spent is None or account is None or account.email != spent.email:
                raise LinkSpent
            act_as(account)
            account = await accept_proof(self._core, tx, account, "reset by mail")
            await self._replace(tx, account, hash, "reset by mail")

    async def change(self, caller: Caller, password_now: str | None, password: str) -> None:
        """Closes every other session. An account that never had a password gets one without telling an old one."""
        proof = await prove(self._core, caller, password_now)
        hash = await self._core.passwords.hash(password)
        async with self._core.database.transaction() as tx:
            account = await proved(tx, caller, proof)
            await store.remove_one_time_tokens(tx, account.id, RESET)
            await self._replace(tx, account, hash, "owner", but=caller.session_id)

    async def _replace(self, tx: Transaction, account: Account, hash: str, why: str, but: str | None = None) -> None:
        await store.remove_sessions(tx, account.id, but=but)
        account = await store.change_account(tx, account.id, password_hash=hash) or account
        await self._core.outbox.emit(tx, events.PasswordChanged(account_id=account.id, why=why))
        await self._core.tell_changed(tx, account)
