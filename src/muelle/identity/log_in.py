"""Logging in and out: by password and second factor, by a provider that vouches, by refresh token; and the sessions."""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from typing import Protocol

from muelle import events
from muelle.identity import store
from muelle.identity.accounts import Accounts
from muelle.identity.core import Core, act_as
from muelle.identity.model import (
    LONGEST_NAME,
    Account,
    EmailTaken,
    EmailUnproven,
    LogInFailed,
    NoSuchSession,
    RoleWhy,
    SecondFactorNeeded,
    SecondFactorWrong,
    Session,
    SessionId,
    SignupClosed,
)
from muelle.identity.presence import present
from muelle.identity.proof import Proof, accept_proof
from muelle.identity.second_factor import SecondFactor
from muelle.kit.bus import origin
from muelle.kit.db import Transaction, aside
from muelle.kit.errors import Unrecognised
from muelle.kit.http import Caller, Role
from muelle.kit.http.access import TokenExpired, TokenInvalid
from muelle.kit.ids import new_id


class Vouching(Protocol):
    """What a provider says of a person (see `identity.oidc.Vouched`)."""

    @property
    def issuer(self) -> str: ...
    @property
    def subject(self) -> str: ...
    @property
    def email(self) -> str: ...
    @property
    def email_verified(self) -> bool: ...
    @property
    def name(self) -> str: ...


class RefreshReused(Unrecognised):
    """This refresh token was used before, so the session is closed: somebody may have stolen it."""

    hint = "Log in again."


@dataclass(frozen=True)
class LoggedIn:
    account: Account
    session: Session
    access_token: str
    refresh_token: str


class LogIn:
    def __init__(self, core: Core, accounts: Accounts, proof: Proof, second_factor: SecondFactor) -> None:
        self._core = core
        self._accounts = accounts
        self._proof = proof
        self._second_factor = second_factor

    async def sign_up(self, email: str, password: str, name: str, agent: str) -> LoggedIn:
        """Opens a client's account. Whatever the address, it is never an administrator's."""
        if not self._core.policy.signup_open:
            raise SignupClosed
        await self._core.attempts.count("sign-up", "", origin.get().address)
        hash = await self._core.passwords.hash(password)
        async with self._core.database.transaction() as tx:
            account = await self._accounts.open(tx, email=email, name=name, password_hash=hash, by="password")
            await self._proof.ask(tx, account)
            return await self.open_session(tx, account, "password", agent)

    async def with_password(self, email: str, password: str, code: str | None, agent: str) -> LoggedIn:
        """The same answer, after the same time, for a wrong password and for an address that nobody has."""
        address = origin.get().address
        await self._core.attempts.count("log-in", email, address)
        async with self._core.database.reading() as reader:
            account = await store.account_by_email(reader, email)
        hash = account.password_hash if account else None
        if not await self._core.passwords.verify(hash, password) or account is None or hash is None:
            await self._note_refusal(account, email, "wrong password")
            raise LogInFailed
        fresh = await self._core.passwords.hash(password) if self._core.passwords.outdated(hash) else None
        try:
            logged_in = await self._open_checked(account, hash, code, agent, fresh)
        except SecondFactorWrong:
            await self._note_refusal(account, email, "wrong code")
            raise
        await self._core.attempts.forgive("log-in", email, address)
        return logged_in

    async def _open_checked(
        self, account: Account, hash: str, code: str | None, agent: str, fresh_hash: str | None
    ) -> LoggedIn:
        async with self._core.database.transaction() as tx:
            now = await store.lock_account(tx, account.id)
            if now is None or now.password_hash is None or not hmac.compare_digest(now.password_hash, hash):
                raise LogInFailed  # the password was changed while we checked the old one
            if now.totp_on:
                if code is None:
                    raise SecondFactorNeeded
                await self._second_factor.use(tx, now, code)
            if fresh_hash is not None:
                now = await store.change_account(tx, account.id, password_hash=fresh_hash) or now
            return await self.open_session(tx, now, "password", agent)

    async def vouched(self, provider: str, vouching: Vouching, agent: str) -> LoggedIn:
        """By somebody who vouches for the person and their address."""
        if not vouching.email_verified:
            raise EmailUnproven
        async with self._core.database.transaction() as tx:
            account = await store.lock_account_by_link(tx, vouching.issuer, vouching.subject)
            if account is None:
                account = await self._account_for(tx, provider, vouching)
            act_as(account)
            account = await self._apply_list(tx, account, vouching.email)
            return await self.open_session(tx, account, provider, agent)

    async def _account_for(self, tx: Transaction, provider: str, vouching: Vouching) -> Account:
        account = await store.lock_account_by_email(tx, vouching.email)
        account = account or await self._open_vouched(tx, provider, vouching)
        act_as(account)
        account = await accept_proof(self._core, tx, account, provider)
        linked = await store.link_provider(
            tx,
            issuer=vouching.issuer,
            subject=vouching.subject,
            account_id=account.id,
            provider=provider,
            now=self._core.clock.now(),
        )
        if linked:
            await self._core.outbox.emit(tx, events.ProviderLinked(account_id=account.id, provider=provider))
        return account

    async def _open_vouched(self, tx: Transaction, provider: str, vouching: Vouching) -> Account:
        """A new account; or the one that somebody opened with that address at this very moment."""
        policy, email = self._core.policy, vouching.email
        if not policy.signup_open and email not in policy.administrators:
            raise SignupClosed
        name = (vouching.name or email.partition("@")[0])[:LONGEST_NAME]
        try:
            return await self._accounts.open(tx, email=email, name=name, by=provider, email_verified=True)
        except EmailTaken:
            account = await store.lock_account_by_email(tx, email)
            if account is None:
                raise
            return account

    async def _apply_list(self, tx: Transaction, account: Account, vouched_email: str) -> Account:
        """The administrators' list counts at each vouched log-in, and takes back only what it gave itself."""
        listed = account.email in self._core.policy.administrators and account.email == vouched_email
        if listed and account.role is not Role.ADMIN:
            role, why = Role.ADMIN, RoleWhy.LIST
        elif not listed and account.role is Role.ADMIN and account.role_why is RoleWhy.LIST:
            role, why = Role.CLIENT, RoleWhy.DEFAULT
        else:
            return account
        changed = await store.change_account(tx, account.id, role=role, role_why=why) or account
        await self._core.outbox.emit(tx, events.RoleChanged(account_id=account.id, role=role.value, why="list"))
        await self._core.tell_changed(tx, changed)
        return changed

    async def open_session(self, tx: Transaction, account: Account, by: str, agent: str) -> LoggedIn:
        act_as(account)
        now = self._core.clock.now()
        session = Session(
            id=SessionId(new_id()),
            account_id=account.id,
            generation=1,
            by=by,
            agent="".join(char for char in agent if char.isprintable())[:200],
            address=origin.get().address[:64],
            created_at=now,
            seen_at=now,
            expires_at=now + self._core.policy.session_lifetime,
        )
        await store.add_session(tx, session)
        await self._core.outbox.emit(tx, events.LoggedIn(account_id=account.id, by=by, session_id=session.id))
        return self._tokens_for(account, session, 1)

    async def refresh(self, token: str) -> LoggedIn:
        claims = self._core.tokens.read_refresh(token)
        now = self._core.clock.now()
        reused = False
        async with self._core.database.transaction() as tx:
            found = await store.session_with_account(tx, claims.session_id)
            if found is None:
                raise TokenInvalid
            session, account = found
            if session.expires_at <= now:
                raise TokenExpired
            until = now + self._core.policy.session_lifetime
            if session.generation != claims.generation or not await store.next_generation(tx, session, now, until):
                reused = await self._close_stolen(tx, session)
                if not reused:
                    raise TokenInvalid  # it was closed at this very moment, by somebody who may
        if reused:
            raise RefreshReused
        return self._tokens_for(account, session, session.generation + 1)

    async def log_out(self, caller: Caller) -> None:
        async with self._core.database.transaction() as tx:
            for id in await store.remove_sessions(tx, caller.account_id, only=caller.session_id):
                await self._core.outbox.emit(tx, events.LoggedOut(account_id=caller.account_id, session_id=id))
            tx.after_commit(self._core.recognition.forget)

    async def sessions(self, caller: Caller) -> list[Session]:
        async with self._core.database.reading() as reader:
            return await store.list_sessions(reader, caller.account_id, self._core.clock.now())

    async def revoke(self, caller: Caller, session_id: str) -> None:
        if not await self._revoke(caller, only=session_id):
            raise NoSuchSession

    async def revoke_others(self, caller: Caller) -> int:
        return await self._revoke(caller, but=caller.session_id)

    async def forget_expired(self) -> None:
        async with self._core.database.transaction() as tx:
            await store.remove_expired(tx, self._core.clock.now())
        await self._core.attempts.forget_old()

    async def _revoke(self, caller: Caller, *, only: str | None = None, but: str | None = None) -> int:
        async with self._core.database.transaction() as tx:
            await present(tx, caller)
            gone = await store.remove_sessions(tx, caller.account_id, only=only, but=but)
            if gone:
                fact = events.SessionsRevoked(account_id=caller.account_id, count=len(gone), why="owner")
                await self._core.outbox.emit(tx, fact)
                tx.after_commit(self._core.recognition.forget)
            return len(gone)

    async def _close_stolen(self, tx: Transaction, session: Session) -> bool:
        if not await store.remove_sessions(tx, session.account_id, only=session.id):
            return False
        fact = events.RefreshTokenReused(account_id=session.account_id, session_id=session.id)
        await self._core.outbox.emit(tx, fact)
        tx.after_commit(self._core.recognition.forget)
        return True

    async def _note_refusal(self, account: Account | None, email: str, reason: str) -> None:
        """In the account's history. An address that nobody has leaves no trace to fill a disk with; it only takes as
        long."""
        with aside():
            if account is None:
                await self._core.attempts.count_for_show("log-in", email)
                return
            async with self._core.database.transaction() as tx:
                await self._core.outbox.emit(tx, events.LogInRefused(account_id=account.id, reason=reason))

    def _tokens_for(self, account: Account, session: Session, generation: int) -> LoggedIn:
        lifetime = self._core.policy.access_lifetime
        access = self._core.tokens.access(account.id, session.id, self._core.clock.now(), lifetime)
        return LoggedIn(account, session, access, self._core.tokens.refresh(session.id, generation))
