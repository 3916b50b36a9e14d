"""What every verb of identity works with, handed in once."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta

from muelle.events import AccountChanged
from muelle.identity.attempts import Attempts
from muelle.identity.letters import Letters
from muelle.identity.model import Account
from muelle.identity.passwords import Passwords
from muelle.identity.recognition import Recognition
from muelle.identity.tokens import Tokens
from muelle.kit.bus import ANONYMOUS, Outbox, origin
from muelle.kit.clock import Clock
from muelle.kit.db import Database, Transaction
from muelle.kit.vault import Vault


@dataclass(frozen=True)
class Policy:
    """What the operator has decided."""

    administrators: frozenset[str] = frozenset()
    signup_open: bool = True
    access_lifetime: timedelta = timedelta(minutes=15)
    session_lifetime: timedelta = timedelta(days=30)
    url: str = "http://127.0.0.1:7070"


@dataclass(frozen=True)
class Core:
    database: Database
    outbox: Outbox
    clock: Clock
    vault: Vault
    passwords: Passwords
    tokens: Tokens
    attempts: Attempts
    letters: Letters
    recognition: Recognition
    policy: Policy

    async def tell_changed(self, tx: Transaction, account: Account) -> None:
        """Publishes how the account is now, and forgets what was remembered of it."""
        await self.outbox.emit(tx, level(account))
        tx.after_commit(self.recognition.forget)


def act_as(account: Account) -> None:
    """From here on, who was nobody is this person: for the log, and for the facts that follow."""
    now = origin.get()
    if now.actor == ANONYMOUS:
        origin.set(replace(now, actor=account.id))


def level(account: Account) -> AccountChanged:
    return AccountChanged(
        account_id=account.id,
        version=account.version,
        email=account.email,
        name=account.name,
        role=account.role.value,
        state=account.state.value,
        email_verified=account.email_verified,
    )
