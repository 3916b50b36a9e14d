"""/api/v1/accounts: what administrators see and do of other people's accounts."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

from fastapi import Query

from muelle.identity.http.desk import IdentityNow
from muelle.identity.http.shapes import RoleBody, ShownAccount, Suspension
from muelle.identity.model import AlreadySo, LastAdministrator, NoSuchAccount, NotOnYourself, State
from muelle.kit.http import Access, CallerNow, Page, PageQuery, Role, RoomRouter, page_of
from muelle.kit.http.pages import BadCursor
from muelle.kit.http.values import Id, PlainText

router = RoomRouter("identity", prefix="/accounts", tags=["Accounts"])

READ = Access.admin("identity:read")
WRITE = Access.admin("identity:write")
ROLES = replace(WRITE, session_only=True)
"""Never with an API key: one with this scope alone could make its holder an administrator, with all of them."""


@router.get("", READ, raises=[BadCursor])
async def list_accounts(
    cursor: PageQuery,
    identity: IdentityNow,
    search: Annotated[PlainText, Query(max_length=100, description="Part of the address or the name.")] = "",
    role: Annotated[Role | None, Query(description="Only those with this role.")] = None,
    state: Annotated[State | None, Query(description="Only those in this state.")] = None,
) -> Page[ShownAccount]:
    """All accounts, the oldest first."""
    found = await identity.accounts.list(cursor, search, role, state)
    return page_of(found, cursor, lambda account: account.id, ShownAccount.of)


@router.get("/{account_id}", READ, raises=[NoSuchAccount])
async def get_account(account_id: Id, identity: IdentityNow) -> ShownAccount:
    """One account."""
    return ShownAccount.of(await identity.accounts.get(account_id))


@router.post("/{account_id}/suspend", WRITE, raises=[NoSuchAccount, NotOnYourself, AlreadySo, LastAdministrator])
async def suspend_account(account_id: Id, body: Suspension, caller: CallerNow, identity: IdentityNow) -> ShownAccount:
    """Suspends: the person may log in and look, and change nothing."""
    return ShownAccount.of(await identity.accounts.suspend(caller, account_id, body.reason))


@router.post("/{account_id}/reinstate", WRITE, raises=[NoSuchAccount, NotOnYourself, AlreadySo])
async def reinstate_account(account_id: Id, caller: CallerNow, identity: IdentityNow) -> ShownAccount:
    """Lifts a suspension."""
    return ShownAccount.of(await identity.accounts.reinstate(caller, account_id))


@router.put("/{account_id}/role", ROLES, raises=[NoSuchAccount, NotOnYourself, AlreadySo, LastAdministrator])
async def change_role(account_id: Id, body: RoleBody, caller: CallerNow, identity: IdentityNow) -> ShownAccount:
    """Makes somebody an administrator or a client."""
    return ShownAccount.of(await identity.accounts.change_role(caller, account_id, body.role))


@router.delete("/{account_id}", WRITE, raises=[NoSuchAccount, NotOnYourself, LastAdministrator], status_code=204)
async def delete_account(account_id: Id, caller: CallerNow, identity: IdentityNow) -> None:
    """Deletes an account and everything in it, for ever."""
    await identity.accounts.remove(caller, account_id)
