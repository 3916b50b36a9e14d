"""Every fact that rooms tell each other, in one file.

A *level* fact says how a thing is and carries a `version`: keep the highest. The others say that something was done;
the envelope says when, by whom and in which request. Facts are for ever: fields may be added, with a default, and are
never renamed. No fact holds a secret.
"""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar, Literal

from muelle.kit.bus import Fact


class AboutAccount(Fact):
    subject: ClassVar[str] = "account_id"
    account_id: str


class AccountChanged(AboutAccount):
    """Level: how an account is, each time that it changed in a way that others may care about."""

    version: int
    email: str
    name: str
    role: Literal["client", "admin"]
    state: Literal["active", "suspended", "deleted"]
    email_verified: bool


class AccountOpened(AboutAccount):
    by: str
    """What it was opened with: `password`, a provider's name, `mock` or `command line`."""


class AccountSuspended(AboutAccount):
    reason: str = ""


class AccountReinstated(AboutAccount):
    pass


class AccountDeleted(AboutAccount):
    pass


class RoleChanged(AboutAccount):
    role: Literal["client", "admin"]
    why: str


class LoggedIn(AboutAccount):
    by: str
    session_id: str


class LogInRefused(AboutAccount):
    reason: str


class LoggedOut(AboutAccount):
    session_id: str


class SessionsRevoked(AboutAccount):
    count: int
    why: str


class RefreshTokenReused(AboutAccount):
    """Somebody used a refresh token for the second time: it was stolen, or a client is broken."""

    session_id: str


class ProfileChanged(AboutAccount):
    pass


class PasswordChanged(AboutAccount):
    why: str


class PasswordResetRequested(AboutAccount):
    pass


class EmailVerified(AboutAccount):
    by: str


class UnprovenAccessRemoved(AboutAccount):
    """Whoever owns the address has proved it; what somebody else may have left in the account before is gone."""

    why: str


class ProviderLinked(AboutAccount):
    provider: str


class ApiKeyMade(AboutAccount):
    key_id: str
    name: str
    scopes: list[str]


class ApiKeyRevoked(AboutAccount):
    key_id: str


class SecondFactorTurnedOn(AboutAccount):
    pass


class SecondFactorTurnedOff(AboutAccount):
    pass


class RecoveryCodeUsed(AboutAccount):
    left: int


class Route(StrEnum):
    """What is behind a workload's names."""

    OPEN = "open"
    STARTING = "starting"
    STOPPED = "stopped"
    FAILED = "failed"
    GONE = "gone"


class RouteChanged(Fact):
    """Where a workload's names lead now. A level: the highest version is the truth, the others are passed over."""

    subject: ClassVar[str] = "workload_id"
    workload_id: str
    owner_id: str
    version: int
    hosts: dict[str, str]
    """Full host names in lower case, each with the id of its claim: of two workloads the higher claim has the name."""
    route: Route
    address: str = ""
    """`host:port`, where the route is open."""
    why: str = ""
    """For the page that is shown instead: a sentence."""


class WorkloadChanged(Fact):
    """Level: how a workload is, each time that it changed in a way that others may care about."""

    subject: ClassVar[str] = "workload_id"
    workload_id: str
    owner_id: str
    version: int
    kind: str
    name: str
    wish: Literal["running", "stopped", "deleted"]
    phase: str
    code: str = ""
    why: str = ""
    release: int = 0
    serving: int = 0
    """The release that has the traffic; 0: none."""
    gone: bool = False
    """Nothing of it is left."""


class WorkloadAsked(Fact):
    """Its owner, or somebody who may, wanted something of a workload."""

    subject: ClassVar[str] = "workload_id"
    workload_id: str
    owner_id: str
    what: str
    """`made`, `deployed`, `changed`, `started`, `stopped`, `restarted`, `rolled back`, `renamed`, `given names`,
    `executed`, `cancelled`, `deleted`."""
    name: str
    release: int = 0


class ReleaseJudged(Fact):
    """A release has proven good or bad: once, and for ever."""

    subject: ClassVar[str] = "workload_id"
    workload_id: str
    owner_id: str
    release: int
    verdict: Literal["good", "bad"]
    code: str = ""
    why: str = ""


class DeploymentEnded(Fact):
    """A source has become a release, or has not."""

    subject: ClassVar[str] = "workload_id"
    workload_id: str
    owner_id: str
    deployment_id: str
    state: Literal["released", "failed", "cancelled"]
    release: int = 0
    code: str = ""
    why: str = ""
