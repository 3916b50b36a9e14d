"""Opening accounts, changing and closing them; and what administrators do with those of others."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from muelle import events
from muelle.identity import store
from muelle.identity.core import Core, act_as
from muelle.identity.model import (
    Account,
    AccountId,
    AlreadySo,
    EmailTaken,
    LastAdministrator,
    NoSuchAccount,
    NotOnYourself,
    RoleWhy,
    State,
)
from muelle.identity.presence import present, prove, proved
from muelle.kit.db import Transaction
from muelle.kit.http import Caller, Cursor, Role
from muelle.kit.http.access import AdministratorsOnly
from muelle.kit.ids import new_id

FIRST_ADMINISTRATOR = "admin@localhost"


@dataclass(frozen=True)
class FirstLogIn:
    """The first administrator's credentials: to be shown once."""

    email: str
    password: str


class Accounts:
    def __init__(self, core: Core) -> None:
        self._core = core

    async def open(
        self,
        tx: Transaction,
        *,
        email: str,
        name: str,
        by: str,
        password_hash: str | None = None,
        role: Role = Role.CLIENT,
        role_why: RoleWhy = RoleWhy.DEFAULT,
        email_verified: bool = False,
    ) -> Account:
        account = Account(
            id=AccountId(new_id()),
            email=email,
            name=name,
            password_hash=password_hash,
            role=role,
            role_why=role_why,
            state=State.ACTIVE,
            email_verified=email_verified,
            totp_sealed=None,
            totp_on=False,
            totp_last_step=0,
            version=1,
            created_at=self._core.clock.now(),
        )
        if not await store.add_account(tx, account):
            raise EmailTaken
        act_as(account)
        await self._core.outbox.emit(tx, events.AccountOpened(account_id=account.id, by=by))
        await self._core.tell_changed(tx, account)
        return account

    async def make_administrator(self, email: str, password: str, name: str = "Administrator") -> Account:
        """From the command line: whoever sits at the machine may."""
        hash = await self._core.passwords.hash(password)
        async with self._core.database.transaction() as tx:
            present = await store.lock_account_by_email(tx, email)
            if present is None:
                return await self._open_administrator(tx, email, name, hash)
            await store.remove_sessions(tx, present.id)
            await store.remove_keys(tx, present.id)
            await store.remove_one_time_tokens(tx, present.id)
            account = await self._changed(
                tx,
                present.id,
                password_hash=hash,
                role=Role.ADMIN,
                role_why=RoleWhy.GRANTED,
                state=State.ACTIVE,
                email_verified=True,
                totp_on=False,
                totp_sealed=None,
            )
            await self._core.outbox.emit(
                tx,
                events.PasswordChanged(account_id=account.id, why="command line"),
                events.RoleChanged(account_id=account.id, role="admin", why="command line"),
            )
            return account

    async def ensure_administrator(self) -> FirstLogIn | None:
        """On an empty installation, makes the first administrator and returns how to log in; else nothing.

        Of several replicas that start at once, one does it: the others find the address taken."""
        async with self._core.database.reading() as reader:
            if await store.count_accounts(reader):
                return None
        email = min(self._core.policy.administrators, default=FIRST_ADMINISTRATOR)
        first = FirstLogIn(email, secrets.token_urlsafe(15))
        hash = await self._core.passwords.hash(first.password)
        async with self._core.database.transaction() as tx:
            if await store.count_accounts(tx):
                return None
            try:
                await self._open_administrator(tx, first.email, "Administrator", hash)
            except EmailTaken:
                return None
        return first

    async def _open_administrator(self, tx: Transaction, email: str, name: str, hash: str) -> Account:
        return await self.open(
            tx,
            email=email,
            name=name,
            by="command line",
            password_hash=hash,
            role=Role.ADMIN,
            role_why=RoleWhy.GRANTED,
            email_verified=True,
        )

    async def get(self, id: str) -> Account:
        async with self._core.database.reading() as reader:
            account = await store.account_by_id(reader, id)
        if account is None:
            raise NoSuchAccount
        return account

    async def list(self, cursor: Cursor, search: str, role: Role | None, state: State | None) -> list[Account]:
        async with self._core.database.reading() as reader:
            return await store.list_accounts(reader, cursor, search, role, state)

    async def rename(self, caller: Caller, name: str) -> Account:
        async with self._core.database.transaction() as tx:
            await present(tx, caller)
            account = await self._changed(tx, caller.account_id, name=name)
            await self._core.outbox.emit(tx, events.ProfileChanged(account_id=account.id))
            return account

    async def close(self, caller: Caller, password: str | None) -> None:
        """A person closes their own account, and proves with the password that it is them."""
        hash = await prove(self._core, caller, password)
        async with self._core.database.transaction() as tx:
            locked = await store.lock_with_administrators(tx, caller.account_id)
            await self._remove(tx, await proved(tx, caller, hash), locked)

    async def suspend(self, caller: Caller, id: str, reason: str) -> Account:
        async with self._core.database.transaction() as tx:
            account, locked = await self._someone_else(tx, caller, id)
            if account.suspended:
                raise AlreadySo(state="suspended")
            _keep_an_administrator(account, locked)
            account = await self._changed(tx, id, state=State.SUSPENDED)
            await self._core.outbox.emit(tx, events.AccountSuspended(account_id=id, reason=reason))
            return account

    async def reinstate(self, caller: Caller, id: str) -> Account:
        async with self._core.database.transaction() as tx:
            account, _ = await self._someone_else(tx, caller, id)
            if not account.suspended:
                raise AlreadySo(state="active")
            account = await self._changed(tx, id, state=State.ACTIVE)
            await self._core.outbox.emit(tx, events.AccountReinstated(account_id=id))
            return account

    async def change_role(self, caller: Caller, id: str, role: Role) -> Account:
        async with self._core.database.transaction() as tx:
            account, locked = await self._someone_else(tx, caller, id)
            if account.role is role:
                raise AlreadySo(state=f"a {role}'s" if role is Role.CLIENT else f"an {role}'s")
            if role is Role.CLIENT:
                _keep_an_administrator(account, locked)
            account = await self._changed(tx, id, role=role, role_why=RoleWhy.GRANTED)
            await self._core.outbox.emit(tx, events.RoleChanged(account_id=id, role=role.value, why="administrator"))
            return account

    async def remove(self, caller: Caller, id: str) -> None:
        async with self._core.database.transaction() as tx:
            await self._remove(tx, *await self._someone_else(tx, caller, id))

    async def _someone_else(self, tx: Transaction, caller: Caller, id: str) -> tuple[Account, Sequence[Account]]:
        """The account, and all that are locked with it: the caller's is among them, or it administers no longer."""
        if id == caller.account_id:
            raise NotOnYourself
        locked = await store.lock_with_administrators(tx, id)
        if all(account.id != caller.account_id for account in locked):
            raise AdministratorsOnly
        for account in locked:
            if account.id == id:
                return account, locked
        raise NoSuchAccount

    async def _changed(self, tx: Transaction, id: str, **values: object) -> Account:
        account = await store.change_account(tx, id, **values)
        if account is None:
            raise NoSuchAccount
        await self._core.tell_changed(tx, account)
        return account

    async def _remove(self, tx: Transaction, account: Account, locked: Sequence[Account]) -> None:
        _keep_an_administrator(account, locked)
        await store.remove_account(tx, account.id)
        gone = events.AccountChanged(
            account_id=account.id,
            version=account.version + 1,
            email="",
            name="",
            role=account.role.value,
            state="deleted",
            email_verified=False,
        )
        await self._core.outbox.emit(tx, gone, events.AccountDeleted(account_id=account.id))
        tx.after_commit(self._core.recognition.forget)


def _keep_an_administrator(account: Account, locked: Sequence[Account]) -> None:
    if account.role is Role.ADMIN and not any(other.administers for other in locked if other.id != account.id):
        raise LastAdministrator
