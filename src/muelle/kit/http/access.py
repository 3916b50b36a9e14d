"""Who may call a route: declared beside it, checked before it, and tried out by a test for every route there is."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from muelle.kit.errors import Denied, Unrecognised


class Role(StrEnum):
    CLIENT = "client"
    ADMIN = "admin"


class Who(StrEnum):
    ANYBODY = "anybody"
    ACCOUNT = "account"  # who is logged in, about what is their own
    OWNER = "owner"  # the owner of the thing that the path names; to others it does not exist
    OWNER_OR_ADMIN = "owner or admin"  # as before, and administrators
    ADMIN = "admin"
    OPERATOR = "operator"  # an administrator, or whoever sits at the machine itself
    SERVICE = "service"  # another process of the same installation


@dataclass(frozen=True)
class Caller:
    """Who is asking, as a session or an API key vouches for it."""

    account_id: str
    email: str
    name: str
    role: Role
    suspended: bool
    session_id: str = ""
    key_id: str = ""
    scopes: frozenset[str] = frozenset({"*"})

    @property
    def is_admin(self) -> bool:
        return self.role is Role.ADMIN

    def holds(self, scope: str) -> bool:
        room = scope.partition(":")[0]
        return bool(self.scopes & {"*", scope, f"{room}:*"})


class Callers(Protocol):
    """What tells who is asking. Identity does, in this process or over HTTP."""

    async def identify(self, credential: str) -> Caller:
        """Recognises an access token or API key; raises TokenInvalid or TokenExpired."""
        ...


class TokenInvalid(Unrecognised):
    """The token is not valid."""


class TokenExpired(Unrecognised):
    """The token has expired."""

    hint = "Refresh it, or log in again."


class AccountSuspended(Denied):
    """The account is suspended: it may look at what is its own, but change nothing."""

    hint = "Ask an administrator to reinstate it."


class AdministratorsOnly(Denied):
    """Only an administrator may do that."""


class ScopeMissing(Denied):
    """The API key lacks the scope "{scope}"."""

    hint = "Make a key that has it, or log in."


class SessionOnly(Denied):
    """An API key cannot do that."""

    hint = "Log in with the password."


@dataclass(frozen=True)
class Access:
    who: Who
    scope: str = ""
    even_suspended: bool = False
    session_only: bool = False

    @classmethod
    def anybody(cls) -> Access:
        return cls(Who.ANYBODY)

    @classmethod
    def account(cls, scope: str, *, even_suspended: bool = False, session_only: bool = False) -> Access:
        return cls(Who.ACCOUNT, scope, even_suspended, session_only)

    @classmethod
    def owner(cls, scope: str, *, even_suspended: bool = False, session_only: bool = False) -> Access:
        return cls(Who.OWNER, scope, even_suspended, session_only)

    @classmethod
    def owner_or_admin(cls, scope: str) -> Access:
        return cls(Who.OWNER_OR_ADMIN, scope)

    @classmethod
    def admin(cls, scope: str) -> Access:
        return cls(Who.ADMIN, scope)

    @classmethod
    def operator(cls, scope: str) -> Access:
        return cls(Who.OPERATOR, scope)

    @classmethod
    def service(cls) -> Access:
        return cls(Who.SERVICE)

    @property
    def needs_credentials(self) -> bool:
        return self.who is not Who.ANYBODY

    @property
    def administers(self) -> bool:
        return self.who in (Who.ADMIN, Who.OPERATOR)

    def admit(self, caller: Caller | None, *, changes: bool) -> None:
        """Lets the caller through or raises. Whether a thing is the caller's own is for the room to say."""
        if self.who is Who.ANYBODY:
            return
        if caller is None:
            raise Unrecognised
        if self.session_only and not caller.session_id:
            raise SessionOnly
        if not caller.holds(self.scope):
            raise ScopeMissing(scope=self.scope)
        if self.administers and not caller.is_admin:
            raise AdministratorsOnly
        if caller.suspended and (changes or self.administers) and not self.even_suspended:
            raise AccountSuspended

    def refusals(self, *, changes: bool) -> list[type[Denied]]:
        """The errors that recognising and admitting a caller can raise: for the API's description."""
        match self.who:
            case Who.ANYBODY:
                return []
            case Who.SERVICE:
                return [Unrecognised]
        found: list[type[Denied]] = [Unrecognised, TokenInvalid, TokenExpired]
        found.append(SessionOnly if self.session_only else ScopeMissing)  # a session holds every scope
        if self.administers:
            found.append(AdministratorsOnly)
        if (changes or self.administers) and not self.even_suspended:
            found.append(AccountSuspended)
        return found
