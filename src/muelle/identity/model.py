"""What identity is about, as values, and what can go wrong with them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import NewType

from muelle.kit.errors import Conflict, Denied, Invalid, Missing, Unrecognised
from muelle.kit.http import Role

AccountId = NewType("AccountId", str)
SessionId = NewType("SessionId", str)
KeyId = NewType("KeyId", str)

SHORTEST_PASSWORD = 6
LONGEST_PASSWORD = 256
LONGEST_NAME = 200
LARGEST_KEYRING = 50
LARGEST_SESSION_LIST = 100


class State(StrEnum):
    ACTIVE = "active"
    SUSPENDED = "suspended"


class RoleWhy(StrEnum):
    """Where a role comes from: only what the list gave, the list takes away again."""

    DEFAULT = "default"
    LIST = "list"
    GRANTED = "granted"


@dataclass(frozen=True)
class Account:
    id: AccountId
    email: str
    name: str
    password_hash: str | None
    role: Role
    role_why: RoleWhy
    state: State
    email_verified: bool
    totp_sealed: bytes | None
    totp_on: bool
    totp_last_step: int
    version: int
    created_at: datetime

    @property
    def suspended(self) -> bool:
        return self.state is State.SUSPENDED

    @property
    def administers(self) -> bool:
        return self.role is Role.ADMIN and not self.suspended


@dataclass(frozen=True)
class Session:
    id: SessionId
    account_id: AccountId
    generation: int
    by: str
    agent: str
    address: str
    created_at: datetime
    seen_at: datetime
    expires_at: datetime


@dataclass(frozen=True)
class ApiKey:
    id: KeyId
    account_id: AccountId
    name: str
    prefix: str
    secret_hash: str
    scopes: frozenset[str]
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None


class EmailTaken(Conflict):
    """An account with that e-mail address already exists."""

    hint = "Log in, or reset the password."


class SignupClosed(Denied):
    """Accounts are opened by an administrator here."""


class NoSuchAccount(Missing):
    """There is no such account."""


class NoSuchSession(Missing):
    """There is no such session of yours."""


class NoSuchKey(Missing):
    """There is no such API key of yours."""


class LogInFailed(Unrecognised):
    """The e-mail address or the password is wrong."""

    hint = "Check both, or reset the password."


class SecondFactorNeeded(Unrecognised):
    """The password is right; the account also asks for a code."""

    hint = "Send the request again with `code`: six digits from the authenticator, or a recovery code."


class SecondFactorWrong(Unrecognised):
    """The code is wrong or was used before."""

    hint = "Wait for the next code of the authenticator, or use a recovery code."


class PasswordWrong(Denied):
    """The present password is wrong."""


class PasswordTooShort(Invalid):
    """A password has {shortest} characters or more."""


class PasswordNeeded(Invalid):
    """This account has a password: send it along."""


class LinkSpent(Invalid):
    """That link or token was used before, is too old, or was never given out."""

    hint = "Ask for a new one."


class KeyringFull(Conflict):
    """An account has at most {most} API keys."""

    hint = "Revoke one that is not needed any more."


class UnknownScope(Invalid):
    """There is no scope "{scope}"."""

    hint = "Allowed are {allowed}."


class NotInThePast(Invalid):
    """The expiry has to be in the future."""


class NotOnYourself(Conflict):
    """Administrators do not do that to their own account."""

    hint = "Ask another administrator."


class LastAdministrator(Conflict):
    """That would leave nobody to administer."""

    hint = "Make another account an administrator first."


class AlreadySo(Conflict):
    """The account is {state} already."""


class SecondFactorIsOn(Conflict):
    """The second factor is on already."""

    hint = "Turn it off first to set up another authenticator."


class SecondFactorIsOff(Conflict):
    """The second factor is not on."""


class EmailUnproven(Denied):
    """The provider does not vouch for that e-mail address."""

    hint = "Confirm the address with the provider first."
