"""The life of an account, from sign-up to the day it is deleted."""

from __future__ import annotations

import asyncio
import json

from tests.identity.doors import code_of, key_of
from tests.world import PASSWORD, World


async def test_an_address_opens_one_account_however_it_is_spelt(world: World) -> None:
    ana = await world.sign_up("Ana@Example.com")
    spellings = ["ana@example.com", "ANA@EXAMPLE.COM", "  ana@Example.Com "]
    bodies = [{"email": email, "password": "another password", "name": "Not Ana"} for email in spellings]
    answers = await asyncio.gather(*(world.ask("POST", "/auth/signup", json=body) for body in bodies))
    assert [code_of(answer) for answer in answers] == [(409, "email_taken")] * 3
    assert (await world.log_in("aNa@eXample.com")).id == ana.id
    await world.settled()
    assert len(await world.recorded("AccountOpened", ana.id)) == 1


async def test_a_suspended_person_may_look_and_change_nothing(world: World) -> None:
    root = await world.administrator()
    ana = await world.sign_up("ana@example.com")
    program = await key_of(ana)
    told = await root.post(f"/accounts/{ana.id}/suspend", {"reason": "unpaid"})
    assert told.json()["state"] == "suspended"
    world.clock.leap(seconds=3)  # another process remembers for two seconds
    for who in (ana, program):
        assert (await who.get("/me")).json()["state"] == "suspended"
        assert (await who.get("/me/history")).status_code == 200
        assert code_of(await who.ask("PATCH", "/me", {"name": "New"})) == (403, "account_suspended")
    assert code_of(await ana.post("/me/keys", {"name": "k", "scopes": ["*"]})) == (403, "account_suspended")
    again = await world.log_in("ana@example.com")
    assert (await again.get("/me/account")).json()["state"] == "suspended"
    assert (await world.ask("POST", "/auth/refresh", json={"refresh_token": again.tokens["refresh_token"]})).is_success
    assert code_of(await root.post(f"/accounts/{ana.id}/suspend", {})) == (409, "already_so")
    assert (await root.post(f"/accounts/{ana.id}/reinstate")).json()["state"] == "active"
    world.clock.leap(seconds=3)
    for who in (ana, program):
        assert (await who.ask("PATCH", "/me", {"name": "New"})).status_code == 200
    (suspended,) = await world.recorded("AccountSuspended", ana.id)
    assert (suspended.actor, json.loads(suspended.details)["reason"]) == (root.id, "unpaid")
    assert len(await world.recorded("AccountReinstated", ana.id)) == 1


async def test_who_leaves_is_forgotten_and_may_come_back_as_somebody_new(world: World) -> None:
    ana = await world.sign_up("ana@example.com", name="Ana Canaria")
    program, elsewhere = await key_of(ana), await world.log_in("ana@example.com")
    await ana.ask("PATCH", "/me", {"name": "Anacleta"})
    assert code_of(await ana.delete("/me", {})) == (422, "password_needed")
    assert code_of(await ana.delete("/me", {"password": "a wrong guess"})) == (403, "password_wrong")
    assert (await ana.delete("/me", {"password": PASSWORD})).status_code == 204
    for who in (ana, program, elsewhere):
        assert (await who.get("/me")).status_code == 401
    refreshed = await world.ask("POST", "/auth/refresh", json={"refresh_token": elsewhere.tokens["refresh_token"]})
    assert refreshed.status_code == 401
    world.clock.leap(seconds=3)
    assert (await ana.get("/me/history")).status_code == 401

    again = await world.sign_up("ana@example.com")
    assert again.id != ana.id
    await world.recorded("AccountDeleted", ana.id)
    await world.settled()
    entries = await history(world, ana.id)
    assert {"AccountOpened", "AccountChanged", "ApiKeyMade", "ProfileChanged", "AccountDeleted"} <= set(entries)
    assert all(details is None for found in entries.values() for details in found)
    assert all(details for found in (await history(world, again.id)).values() for details in found)
    assert (await world.audit.audit.verify()).whole


async def history(world: World, subject: str) -> dict[str, list[str | None]]:
    """The details of everything recorded about somebody, by type."""
    from muelle.kit.http import Cursor

    found: dict[str, list[str | None]] = {}
    for entry in await world.audit.audit.list(Cursor(None, 200), subject=subject):
        found.setdefault(entry.type, []).append(entry.details)
    return found
