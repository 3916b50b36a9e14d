"""Turning the second factor on and off, and using it."""

from __future__ import annotations

from dataclasses import dataclass

from muelle import events
from muelle.identity import store, totp
from muelle.identity.core import Core, act_as
from muelle.identity.model import (
    Account,
    SecondFactorIsOff,
    SecondFactorIsOn,
    SecondFactorWrong,
)
from muelle.identity.presence import present, prove, proved
from muelle.kit.db import Transaction
from muelle.kit.http import Caller

_PURPOSE = "totp"


@dataclass(frozen=True)
class Setup:
    """What an authenticator needs: shown once."""

    secret: str
    url: str


class SecondFactor:
    def __init__(self, core: Core) -> None:
        self._core = core

    async def begin(self, caller: Caller) -> Setup:
        secret = totp.make_secret()
        async with self._core.database.transaction() as tx:
            account = await present(tx, caller)
            if account.totp_on:
                raise SecondFactorIsOn
            sealed = self._core.vault.seal(_PURPOSE, secret)
            await store.change_account(tx, account.id, totp_sealed=sealed, totp_last_step=0)
        return Setup(totp.shown_secret(secret), totp.setup_url(secret, caller.email))

    async def confirm(self, caller: Caller, code: str) -> list[str]:
        """The first right code turns it on; the recovery codes are shown now and never again."""
        await self._core.attempts.count("code", caller.email, "")
        codes = totp.make_recovery_codes()
        async with self._core.database.transaction() as tx:
            account = await present(tx, caller)
            if account.totp_on:
                raise SecondFactorIsOn
            await self._use_code(tx, account, code)
            await store.set_recovery_codes(tx, account.id, [self._hash(account, one) for one in codes])
            changed = await store.change_account(tx, account.id, totp_on=True)
            await self._core.outbox.emit(tx, events.SecondFactorTurnedOn(account_id=account.id))
            await self._core.tell_changed(tx, changed or account)
        return codes

    async def turn_off(self, caller: Caller, password: str | None, code: str) -> None:
        await self._core.attempts.count("code", caller.email, "")
        hash = await prove(self._core, caller, password)
        async with self._core.database.transaction() as tx:
            account = await proved(tx, caller, hash)
            if not account.totp_on:
                raise SecondFactorIsOff
            await self.use(tx, account, code)
            await store.set_recovery_codes(tx, account.id, [])
            changed = await store.change_account(tx, account.id, totp_on=False, totp_sealed=None)
            await self._core.outbox.emit(tx, events.SecondFactorTurnedOff(account_id=account.id))
            await self._core.tell_changed(tx, changed or account)

    async def use(self, tx: Transaction, account: Account, code: str) -> None:
        """Spends a code of the authenticator, or a recovery code; raises SecondFactorWrong."""
        if not totp.is_recovery_code(code):
            await self._use_code(tx, account, code)
            return
        left = await store.use_recovery_code(tx, account.id, self._hash(account, code))
        if left is None:
            raise SecondFactorWrong
        act_as(account)
        await self._core.outbox.emit(tx, events.RecoveryCodeUsed(account_id=account.id, left=left))

    async def _use_code(self, tx: Transaction, account: Account, code: str) -> None:
        if account.totp_sealed is None:
            raise SecondFactorIsOff
        secret = self._core.vault.open(_PURPOSE, account.totp_sealed)
        step = totp.matching_step(secret, code, self._core.clock.now(), after=account.totp_last_step)
        if step is None or not await store.use_totp_step(tx, account.id, step):
            raise SecondFactorWrong

    def _hash(self, account: Account, code: str) -> str:
        """Recovery codes are short enough to guess from a plain hash, so they are kept under a MAC."""
        return self._core.vault.mac("recovery codes", account.id.encode(), code.encode())
