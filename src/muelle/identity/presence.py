"""Whoever changes the ways into their own account: are they still there, and is it really them?

A caller was recognised before the transaction began, by another replica maybe from memory: their session may be closed
by now. And a password takes so long to check that it can be replaced meanwhile. So both are asked again inside the
transaction, with the account locked.
"""

from __future__ import annotations

from muelle.identity import store
from muelle.identity.core import Core
from muelle.identity.model import Account, PasswordNeeded, PasswordWrong
from muelle.kit.db import Transaction
from muelle.kit.http import Caller
from muelle.kit.http.access import TokenInvalid


async def present(tx: Transaction, caller: Caller) -> Account:
    """The caller's account, locked, if it and the session that they act in are still there."""
    account = await store.lock_account(tx, caller.account_id)
    if account is None:
        raise TokenInvalid
    if caller.session_id and not await store.is_open(tx, caller.session_id, account.id):
        raise TokenInvalid
    return account


async def prove(core: Core, caller: Caller, password: str | None) -> str | None:
    """Checks the present password, and returns the hash that it fits: for `proved`. None: the account has none."""
    async with core.database.reading() as reader:
        account = await store.account_by_id(reader, caller.account_id)
    if account is None:
        raise TokenInvalid
    if account.password_hash is None:
        return None
    if password is None:
        raise PasswordNeeded
    await core.attempts.count("password", account.email, "")
    if not await core.passwords.verify(account.password_hash, password):
        raise PasswordWrong
    return account.password_hash


async def proved(tx: Transaction, caller: Caller, hash: str | None) -> Account:
    """`present`, and the password is still the one that was proved."""
    account = await present(tx, caller)
    if account.password_hash != hash:
        raise PasswordWrong
    return account
