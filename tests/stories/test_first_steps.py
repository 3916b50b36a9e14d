"""The first minutes of a new installation and of a new client."""

from __future__ import annotations

from tests.world import World


async def test_a_new_client_is_known_and_finds_their_history(world: World) -> None:
    ana = await world.sign_up("ana@example.com")
    me = (await ana.get("/me")).json()
    assert (me["email"], me["role"], me["state"]) == ("ana@example.com", "client", "active")
    await world.recorded("LoggedIn", ana.id)
    await world.settled()
    page = (await ana.get("/me/history")).json()
    assert sorted(item["type"] for item in page["items"]) == ["AccountChanged", "AccountOpened", "LoggedIn"]
    assert {item["actor"] for item in page["items"]} == {ana.id}


async def test_a_log_out_is_known_in_every_room(world: World) -> None:
    ana = await world.sign_up("ana@example.com")
    assert (await ana.get("/me/history")).status_code == 200
    assert (await ana.post("/auth/logout")).status_code == 204
    assert (await ana.get("/me")).status_code == 401
    world.clock.leap(seconds=3)  # another process remembers for two seconds
    assert (await ana.get("/me/history")).status_code == 401


async def test_the_audit_log_holds_everything_once_and_is_whole(world: World) -> None:
    people = [await world.sign_up(f"person{number}@example.com") for number in range(10)]
    await world.settled()
    for person in people:
        assert len(await world.recorded("AccountOpened", person.id)) == 1
    verdict = await world.audit.audit.verify()
    assert verdict.whole
    assert verdict.entries == 2 + 3 * len(people)  # the first administrator's two facts come before
