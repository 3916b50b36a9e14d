"""What administrators do with the accounts of others, and how the first of them comes to be."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete

from muelle.identity.accounts import FIRST_ADMINISTRATOR
from muelle.identity.tables import accounts
from muelle.kit.http import Cursor
from tests.identity.doors import bearer, code_of, door, key_of, try_log_in
from tests.identity.test_second_factor import turned_on
from tests.world import ONE, PASSWORD, Person, World, installation


async def listed(root: Person, **query: Any) -> list[str]:
    answer = await root.get("/accounts", params=query)
    assert answer.status_code == 200, answer.text
    return [item["email"] for item in answer.json()["items"]]


@pytest.fixture
async def root(one: World) -> Person:
    return await one.administrator("root@example.com")


async def test_accounts_are_found_by_part_of_address_or_name(one: World, root: Person) -> None:
    await one.sign_up("ana@example.com", name="Ana Canaria")
    await one.sign_up("bea@example.com", name="Ángel Ñandú")
    await one.sign_up("eva_100@example.com", name="100% Eva \\o/")
    found = {
        "ANA": ["ana@example.com"],
        "canaria": ["ana@example.com"],
        "example.com": ["root@example.com", "ana@example.com", "bea@example.com", "eva_100@example.com"],
        "Ángel": ["bea@example.com"],
        "Ñandú": ["bea@example.com"],
        "%": ["eva_100@example.com"],
        "_": ["eva_100@example.com"],
        "a%a": [],
        "e_a": [],
        "\\": ["eva_100@example.com"],
        "\\o/": ["eva_100@example.com"],
        "' OR 1=1 --": [],
        "0%": ["eva_100@example.com"],
    }
    for search, expected in found.items():
        assert await listed(root, search=search) == expected, search


async def test_accounts_are_listed_by_role_and_state(one: World, root: Person) -> None:
    ana, bea = await one.sign_up("ana@example.com"), await one.sign_up("bea@example.com")
    assert (await root.post(f"/accounts/{ana.id}/suspend", {})).status_code == 200
    assert await listed(root, role="admin") == [FIRST_ADMINISTRATOR, "root@example.com"]
    assert await listed(root, role="client") == ["ana@example.com", "bea@example.com"]
    assert await listed(root, state="suspended") == ["ana@example.com"]
    assert await listed(root, role="client", state="active", search="EXAMPLE") == ["bea@example.com"]
    for query in ({"role": "king"}, {"state": "asleep"}, {"limit": 0}, {"limit": 201}, {"search": "x" * 101}):
        assert (await root.get("/accounts", params=query)).status_code == 422
    shown = (await root.get(f"/accounts/{bea.id}")).json()
    assert (shown["email"], shown["state"]) == ("bea@example.com", "active")
    assert "password" not in str(shown)
    assert code_of(await root.get(f"/accounts/{'0' * 24}")) == (404, "no_such_account")
    assert (await root.get("/accounts/1")).status_code == 422


async def test_pages_neither_repeat_nor_skip_while_people_sign_up_and_leave(one: World, root: Person) -> None:
    people = [await one.sign_up(f"person{number}@example.com") for number in range(7)]
    seen: list[str] = []
    cursor: dict[str, str] = {}
    for newcomer in range(20):
        page = (await root.get("/accounts", params={"limit": 2, "search": "person"} | cursor)).json()
        seen += [item["email"] for item in page["items"]]
        assert len(page["items"]) <= 2
        if newcomer == 0:
            assert (await people[0].delete("/me", {"password": PASSWORD})).status_code == 204
            assert (await people[5].delete("/me", {"password": PASSWORD})).status_code == 204
        if newcomer < 3:
            await one.sign_up(f"newperson{newcomer}@example.com")
        if page["next"] is None:
            break
        cursor = {"cursor": page["next"]}
    assert seen == [f"person{number}@example.com" for number in (0, 1, 2, 3, 4, 6)] + [
        f"newperson{number}@example.com" for number in range(3)
    ]
    for bad in ("x", "!!", "W10=", "WzFd", "bnVsbA=="):
        assert code_of(await root.get("/accounts", params={"cursor": bad}))[0] == 422


async def test_clients_administer_nobody(one: World, root: Person) -> None:
    ana, bea = await one.sign_up("ana@example.com"), await one.sign_up("bea@example.com")
    tries: list[tuple[str, str, dict[str, str] | None]] = [
        ("GET", "/accounts", None),
        ("GET", f"/accounts/{ana.id}", None),
        ("POST", f"/accounts/{bea.id}/suspend", {}),
        ("POST", f"/accounts/{bea.id}/reinstate", None),
        ("PUT", f"/accounts/{ana.id}/role", {"role": "admin"}),
        ("DELETE", f"/accounts/{bea.id}", None),
    ]
    for method, path, body in tries:
        assert code_of(await ana.ask(method, path, body)) == (403, "administrators_only")
        assert (await one.nobody().ask(method, path, body)).status_code == 401
    assert await listed(root, search="example.com") == ["root@example.com", "ana@example.com", "bea@example.com"]


async def test_a_new_role_counts_at_once(one: World, root: Person) -> None:
    ana = await one.sign_up("ana@example.com")
    assert (await ana.get("/accounts")).status_code == 403
    assert (await root.ask("PUT", f"/accounts/{ana.id}/role", {"role": "admin"})).json()["role"] == "admin"
    assert (await ana.get("/accounts")).status_code == 200
    again = await root.ask("PUT", f"/accounts/{ana.id}/role", {"role": "admin"})
    assert code_of(again) == (409, "already_so")
    assert (await root.ask("PUT", f"/accounts/{ana.id}/role", {"role": "client"})).json()["role"] == "client"
    assert (await ana.get("/accounts")).status_code == 403
    for role in ("king", "", None):
        assert (await root.ask("PUT", f"/accounts/{ana.id}/role", {"role": role})).status_code == 422
    roles = await one.recorded("RoleChanged", ana.id)
    await one.settled()
    roles = await one.recorded("RoleChanged", ana.id)
    assert [entry.actor for entry in roles] == [root.id, root.id]


async def test_a_suspended_administrator_administers_nothing(one: World, root: Person) -> None:
    boss = await one.administrator("boss@example.com")
    assert (await root.post(f"/accounts/{boss.id}/suspend", {"reason": "away"})).status_code == 200
    assert code_of(await boss.post(f"/accounts/{root.id}/suspend", {})) == (403, "account_suspended")
    assert code_of(await boss.post(f"/accounts/{boss.id}/reinstate")) == (403, "account_suspended")


async def test_nobody_does_it_to_themselves(one: World, root: Person) -> None:
    me = f"/accounts/{root.id}"
    tries: list[tuple[str, str, dict[str, str] | None]] = [
        ("POST", f"{me}/suspend", {}),
        ("POST", f"{me}/reinstate", None),
        ("PUT", f"{me}/role", {"role": "client"}),
        ("DELETE", me, None),
    ]
    for method, path, body in tries:
        assert code_of(await root.ask(method, path, body)) == (409, "not_on_yourself")
    assert (await root.get("/me")).json()["role"] == "admin"


async def test_whom_an_administrator_deletes_is_gone_with_everything(one: World, root: Person) -> None:
    ana = await one.sign_up("ana@example.com")
    key = await key_of(ana)
    assert (await root.delete(f"/accounts/{ana.id}")).status_code == 204
    assert code_of(await root.delete(f"/accounts/{ana.id}")) == (404, "no_such_account")
    for who in (ana, key):
        assert (await who.get("/me")).status_code == 401
    assert (await try_log_in(one.identity, "ana@example.com")).status_code == 401
    (entry,) = await one.recorded("AccountDeleted", ana.id)
    assert entry.actor == root.id
    for path in ("suspend", "reinstate"):
        body = {} if path == "suspend" else None
        assert code_of(await root.post(f"/accounts/{ana.id}/{path}", body)) == (404, "no_such_account")


async def test_the_last_administrator_stays(one: World, root: Person) -> None:
    first = (await root.get("/accounts", params={"search": FIRST_ADMINISTRATOR})).json()["items"][0]
    assert (await root.post(f"/accounts/{first['id']}/suspend", {})).status_code == 200
    assert code_of(await root.delete("/me", {"password": PASSWORD})) == (409, "last_administrator")
    assert (await root.post(f"/accounts/{first['id']}/reinstate")).status_code == 200
    assert (await root.delete("/me", {"password": PASSWORD})).status_code == 204
    assert (await root.get("/me")).status_code == 401


async def test_two_administrators_cannot_remove_each_other(twins: World) -> None:
    """The classic: each sees the other and goes ahead. On two replicas, so that nothing but the database is between."""
    await twins.identity.identity.accounts.make_administrator("a@example.com", PASSWORD)
    await forget_all_but(twins, "a@example.com")
    for round_ in range(8):
        a, b = await twins.administrator("a@example.com"), await twins.administrator("b@example.com")
        ways = ["DELETE /accounts/{}", "PUT /accounts/{}/role", "POST /accounts/{}/suspend", "DELETE /me"]
        one, other = ways[round_ % 4], ways[round_ // 4 * 3]
        answers = await asyncio.gather(act(twins, 0, a, one, b), act(twins, 1, b, other, a))
        assert sorted(status // 100 for status in answers) in ([2, 4], [2, 2]), answers
        found = await twins.identity.identity.accounts.list(Cursor(None, 10), "", None, None)
        left = [account for account in found if account.role == "admin" and account.state == "active"]
        assert len(left) == 1


async def act(world: World, replica: int, who: Person, way: str, on_whom: Person) -> int:
    method, _, path = way.format(on_whom.id).partition(" ")
    bodies = {"PUT": {"role": "client"}, "POST": {}, "DELETE": {"password": PASSWORD} if path == "/me" else None}
    async with door(world.apps[replica]) as client:
        answer = await client.request(method, path, json=bodies[method], headers=bearer(who))
    return answer.status_code


async def forget_all_but(world: World, email: str) -> None:
    async with world.identity.identity.core.database.transaction() as tx:
        await tx.run(delete(accounts).where(accounts.c.email != email))


# The first of them


async def test_a_new_installation_has_one_administrator_and_says_how_to_log_in_once(tmp_path: Path) -> None:
    async with installation(ONE, tmp_path / "home") as world:
        await forget_all_but(world, "")
        first = await world.identity.identity.accounts.ensure_administrator()
        assert first is not None
        assert first.email == FIRST_ADMINISTRATOR
        assert len(first.password) >= 20
        root = await world.log_in(first.email, first.password)
        assert root.tokens["account"]["role"] == "admin"
        assert await world.identity.identity.accounts.ensure_administrator() is None
    async with installation(ONE, tmp_path / "home") as world:
        assert (await world.log_in(first.email, first.password)).id == root.id
        assert len(await listed(root_of(world, await world.log_in(first.email, first.password)))) == 1


def root_of(world: World, person: Person) -> Person:
    return Person(world, person.email, person.tokens)


async def test_the_first_administrator_has_an_address_from_the_list(tmp_path: Path) -> None:
    async with installation(ONE, tmp_path / "home", admin_emails="zoe@example.com, Boss@example.com") as world:
        found = await world.identity.identity.accounts.list(Cursor(None, 10), "", None, None)
        assert [(account.email, account.role) for account in found] == [("boss@example.com", "admin")]


async def test_two_replicas_that_start_at_once_make_one_administrator(twins: World) -> None:
    for _ in range(5):
        await forget_all_but(twins, "")
        made = await asyncio.gather(
            *(app.identity.accounts.ensure_administrator() for app in twins.apps for _ in range(3))
        )
        (first,) = [how for how in made if how is not None]
        root = await twins.log_in(first.email, first.password)
        assert await listed(root) == [first.email]
        await twins.settled()
        assert len(await twins.recorded("AccountOpened", root.id)) == 1


async def test_the_command_line_takes_an_account_back_from_whoever_has_it(one: World) -> None:
    thief = await one.sign_up("boss@example.com", "the thief's password")
    key = await key_of(thief)
    _, codes = await turned_on(thief)
    account = await one.identity.identity.accounts.make_administrator("boss@example.com", PASSWORD)
    assert account.id == thief.id
    for who in (thief, key):
        assert (await who.get("/me")).status_code == 401
    assert (
        await try_log_in(one.identity, "boss@example.com", "the thief's password", code=codes[0])
    ).status_code == 401
    boss = await one.log_in("boss@example.com")
    told = boss.tokens["account"]
    assert (told["role"], told["email_verified"], told["second_factor"]) == ("admin", True, False)
