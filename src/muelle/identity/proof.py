"""Who owns an address: codes by mail, and what happens to an account the first time that somebody proves it.

Anybody can open an account with anybody's address. Until the address is proved, everything in the account (password,
sessions, keys, second factor, links) may be a stranger's, who waits for the owner to move in. So the first proof that
does not also know the password throws all of it away.
"""

from __future__ import annotations

from datetime import timedelta

from muelle.events import EmailVerified, UnprovenAccessRemoved
from muelle.identity import store, tokens
from muelle.identity.attempts import PER_MAILBOX
from muelle.identity.core import Core
from muelle.identity.model import Account, LinkSpent
from muelle.identity.presence import present
from muelle.identity.texts import VERIFY_HOURS, verify_letter
from muelle.kit.db import Transaction
from muelle.kit.http import Caller

VERIFY = "verify"


class Proof:
    def __init__(self, core: Core) -> None:
        self._core = core

    async def ask(self, tx: Transaction, account: Account) -> None:
        """Writes a letter with a code to the account's address."""
        token = tokens.one_time()
        until = self._core.clock.now() + timedelta(hours=VERIFY_HOURS)
        await store.add_one_time_token(tx, tokens.digest(token), VERIFY, account, until)
        await self._core.letters.write(tx, verify_letter(account.email, token, self._core.policy.url))

    async def ask_again(self, caller: Caller) -> None:
        await self._core.attempts.count("verify", caller.email, "", per_account=PER_MAILBOX)
        async with self._core.database.transaction() as tx:
            account = await present(tx, caller)
            if not account.email_verified:
                await self.ask(tx, account)

    async def confirm(self, caller: Caller, token: str) -> None:
        """Both at once: logged in with what the account was opened with, and a code from the mailbox."""
        async with self._core.database.transaction() as tx:
            account = await present(tx, caller)
            spent = await store.spend_one_time_token(tx, tokens.digest(token), VERIFY, self._core.clock.now())
            if spent is None or spent.account_id != account.id or spent.email != account.email:
                raise LinkSpent
            account = await store.change_account(tx, account.id, email_verified=True) or account
            await self._core.outbox.emit(tx, EmailVerified(account_id=account.id, by="mail"))
            await self._core.tell_changed(tx, account)


async def accept_proof(core: Core, tx: Transaction, account: Account, by: str) -> Account:
    """The owner of the address is here, without the password: an unproven account is cleared and theirs.

    The account has to be locked: else a stranger could put something in between two of the removals.
    """
    if account.email_verified:
        return account
    await store.remove_sessions(tx, account.id)
    await store.remove_keys(tx, account.id)
    await store.unlink_providers(tx, account.id)
    await store.remove_one_time_tokens(tx, account.id)
    await store.set_recovery_codes(tx, account.id, [])
    cleared = await store.change_account(
        tx, account.id, email_verified=True, password_hash=None, totp_on=False, totp_sealed=None
    )
    await core.outbox.emit(
        tx, EmailVerified(account_id=account.id, by=by), UnprovenAccessRemoved(account_id=account.id, why=by)
    )
    account = cleared or account
    await core.tell_changed(tx, account)
    return account
