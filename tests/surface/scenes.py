"""Somebody who is about to call a route: a fresh account in a given state, with what they hold and what is theirs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from argon2 import PasswordHasher

from muelle.app import SCOPES, Application
from muelle.identity import store
from muelle.identity.log_in import LoggedIn
from muelle.identity.model import State
from muelle.kit.http import Access, Caller, Role, Who
from muelle.kit.ids import new_id
from muelle.workloads.model import Kind, Spec
from muelle.workloads.sources.model import ImageSource
from tests.world import PASSWORD, World

HASH = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash(PASSWORD)


@dataclass(frozen=True)
class Persona:
    name: str
    credential: Literal["none", "session", "revoked session", "fitting key", "other key"] = "session"
    role: Role = Role.CLIENT
    suspended: bool = False
    owns: bool = True
    """Whether the thing that the path names is theirs."""


PERSONAS = (
    Persona("anonymous", "none"),
    Persona("revoked session", "revoked session"),
    Persona("owner"),
    Persona("stranger", owns=False),
    Persona("suspended", suspended=True),
    Persona("key that fits", "fitting key"),
    Persona("key that does not", "other key"),
    Persona("admin", role=Role.ADMIN, owns=False),
    Persona("suspended admin", role=Role.ADMIN, suspended=True, owns=False),
    Persona("admin's key that fits", "fitting key", Role.ADMIN, owns=False),
    Persona("admin's key that does not", "other key", Role.ADMIN, owns=False),
)


@dataclass(frozen=True)
class Scene:
    """`fields` are true answers to what a body may ask, by name; `places` to what a path names."""

    headers: dict[str, str]
    fields: dict[str, Any]
    places: dict[str, str]


async def scene(world: World, persona: Persona, access: Access) -> Scene:
    identity = world.identity
    me = await log_in(identity, role=persona.role, suspended=persona.suspended)
    other = me if persona.owns and not access.administers else await log_in(identity)
    fields = {"email": me.account.email, "password": PASSWORD, "present": PASSWORD, "refresh_token": me.refresh_token}
    fields["credential"] = me.access_token
    places = {"account_id": str(other.account.id)}
    if access.who is Who.OWNER:
        another = await log_in(identity, other.account.email)
        made = await identity.identity.keyring.make(caller(other), "theirs", frozenset({"*"}), None)
        places |= {"session_id": str(another.session.id), "key_id": str(made.key.id)}
    if access.who is Who.OWNER_OR_ADMIN:
        places |= await workload_of(world, caller(other))
    credential = await _credential(identity, persona, access, me)
    return Scene({"Authorization": f"Bearer {credential}"} if credential else {}, fields, places)


async def workload_of(world: World, owner: Caller) -> dict[str, str]:
    """A workload of theirs, with a deployment that waits for ever: nobody builds here."""
    workload, deployment = await world.workloads.workloads.deploying.make(
        owner,
        name="theirs",
        kind=Kind.CONTAINER,
        description="",
        source=ImageSource("fake/web"),
        template="auto",
        spec=Spec(),
    )
    return {"workload_id": workload.id, "deployment_id": deployment.id}


async def log_in(
    identity: Application, email: str = "", *, role: Role = Role.CLIENT, suspended: bool = False
) -> LoggedIn:
    """A session of a fresh account, or one more of the account with that address."""
    verbs = identity.identity
    async with verbs.core.database.transaction() as tx:
        account = await store.account_by_email(tx, email) if email else None
        if account is None:
            account = await verbs.accounts.open(
                tx, email=f"{new_id()}@example.com", name="Somebody", by="test", password_hash=HASH, role=role
            )
        if suspended:
            account = await store.change_account(tx, account.id, state=State.SUSPENDED) or account
        return await verbs.log_in.open_session(tx, account, "password", "test")


def caller(logged_in: LoggedIn) -> Caller:
    account = logged_in.account
    return Caller(account.id, account.email, account.name, account.role, account.suspended, logged_in.session.id)


async def _credential(identity: Application, persona: Persona, access: Access, me: LoggedIn) -> str:
    match persona.credential:
        case "none":
            return ""
        case "session":
            return me.access_token
        case "revoked session":
            gone = await log_in(identity, me.account.email)
            await identity.identity.log_in.log_out(caller(gone))
            return gone.access_token
        case "fitting key":
            scopes = {access.scope or "identity:read"}
        case "other key":
            scopes = {min(SCOPES - {access.scope})}
    return (await identity.identity.keyring.make(caller(me), "a key", frozenset(scopes), None)).text
