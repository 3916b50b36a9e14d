"""Two replicas of identity on one PostgreSQL: what only the database can keep straight between them."""

from __future__ import annotations

import asyncio
from collections import Counter

import httpx
from sqlalchemy import func, select

from muelle.identity import attempts, store
from muelle.identity.log_in import LogIn
from muelle.identity.oidc.model import Vouched
from muelle.identity.tables import api_keys, one_time_tokens, sessions
from muelle.kit.http import Cursor
from tests.identity.doors import bearer, code_of, door, hold_still, try_log_in
from tests.waiting import eventually
from tests.world import PASSWORD, World

WRONG = "not the password"


async def test_a_limit_holds_over_all_replicas(twins: World) -> None:
    hold_still(twins)
    await twins.sign_up("ana@example.com")
    tries = [await try_log_in(twins.apps[number % 2], "ana@example.com", WRONG) for number in range(14)]
    assert [answer.status_code for answer in tries] == [401] * attempts.PER_PAIR.burst + [429] * 4
    crowd = await asyncio.gather(*(try_log_in(twins.apps[n % 2], "bea@example.com", WRONG) for n in range(30)))
    assert Counter(answer.status_code for answer in crowd) == {401: attempts.PER_PAIR.burst, 429: 20}


async def test_many_log_ins_at_once_get_in_each_others_way_nowhere(twins: World) -> None:
    """Counting, forgiving and tidying up take the same rows: in one order, or the database breaks a tie by an error."""
    hold_still(twins)
    await twins.sign_up("ana@example.com")
    for _ in range(6):
        tries = [try_log_in(twins.apps[number % 2], "ana@example.com") for number in range(10)]
        tidying = [app.identity.log_in.forget_expired() for app in twins.apps]
        found = await asyncio.gather(*tries, *tidying)
        statuses = {answer.status_code for answer in found if isinstance(answer, httpx.Response)}
        assert statuses <= {200, 429}
        twins.clock.leap(hours=1)


async def test_a_closed_session_can_leave_nothing_behind_by_another_replica(twins: World) -> None:
    """Which may still remember it for a moment: enough for a look, not for a new key."""
    thief = await twins.sign_up("ana@example.com")
    owner = await twins.log_in("ana@example.com")
    async with door(twins.apps[1]) as late:
        assert (await late.get("/me", headers=bearer(thief))).status_code == 200  # now it is remembered here
        assert (await owner.delete("/me/sessions")).json() == {"revoked": 1}
        tries = [
            await late.post("/me/keys", headers=bearer(thief), json={"name": "back door", "scopes": ["*"]}),
            await late.post("/me/second-factor", headers=bearer(thief)),
            await late.post(
                "/me/password", headers=bearer(thief), json={"present": PASSWORD, "password": "the thief's"}
            ),
            await late.request("DELETE", "/me", headers=bearer(thief), json={"password": PASSWORD}),
            await late.request("DELETE", "/me/sessions", headers=bearer(thief)),
        ]
        assert [code_of(answer) for answer in tries] == [(401, "token_invalid")] * len(tries)
        assert (await late.get("/me", headers=bearer(owner))).status_code == 200
        twins.clock.leap(seconds=3)
        assert (await late.get("/me", headers=bearer(thief))).status_code == 401
    assert (await owner.get("/me/keys")).json() == []


async def test_who_is_no_administrator_any_more_administers_nobody_at_once(twins: World) -> None:
    root, boss = await twins.administrator("root@example.com"), await twins.administrator("boss@example.com")
    ana = await twins.sign_up("ana@example.com")
    async with door(twins.apps[1]) as late:
        assert (await late.get("/accounts", headers=bearer(boss))).status_code == 200  # now it is remembered here
        assert (await root.ask("PUT", f"/accounts/{boss.id}/role", {"role": "client"})).status_code == 200
        for who in (ana, root):
            answer = await late.post(f"/accounts/{who.id}/suspend", headers=bearer(boss), json={})
            assert code_of(answer) == (403, "administrators_only")
        answer = await late.put(f"/accounts/{ana.id}/role", headers=bearer(boss), json={"role": "admin"})
        assert code_of(answer) == (403, "administrators_only")


async def test_a_code_is_spent_once_and_only_the_newest_is_good(twins: World) -> None:
    await twins.sign_up("ana@example.com")
    await asyncio.gather(*(app.identity.recovery.ask("ana@example.com") for app in twins.apps for _ in range(2)))
    async with twins.identity.identity.core.database.reading() as reader:
        good = one_time_tokens.c.purpose == "reset"
        assert await reader.scalar(select(func.count()).select_from(one_time_tokens).where(good)) == 1
    await eventually(lambda: len(twins.postbox.to("ana@example.com")) == 5)
    letters = twins.postbox.to("ana@example.com")
    codes = [line.strip() for mail in letters for line in mail.text.splitlines() if line.startswith("    ")]
    bodies = [{"token": code, "password": f"password {number}"} for number, code in enumerate(codes * 2)]
    answers = await asyncio.gather(*(reset(twins, number % 2, body) for number, body in enumerate(bodies)))
    assert Counter(answers) == {204: 1, 422: 9}


async def reset(world: World, replica: int, body: dict[str, str]) -> int:
    async with door(world.apps[replica]) as client:
        return (await client.post("/auth/password/reset", json=body)).status_code


async def test_what_a_stranger_does_at_the_very_moment_does_not_survive_either(twins: World) -> None:
    """The owner's first vouched log-in, against a stranger who makes keys and sessions at the other replica."""
    for round_ in range(6):
        email = f"ana{round_}@example.com"
        stranger = await twins.sign_up(email, "the stranger's password")
        vouched = Vouched("https://little.example", f"subject {round_}", email, email_verified=True)

        async def make_key(who=stranger) -> None:  # type: ignore[no-untyped-def]
            async with door(twins.apps[1]) as client:
                body = {"name": "back door", "scopes": ["*"]}
                await client.post("/me/keys", headers=bearer(who), json=body)

        strangers = [make_key() for _ in range(3)]
        strangers += [try_log_in(twins.apps[1], email, "the stranger's password") for _ in range(2)]  # type: ignore[misc]
        owners: LogIn = twins.apps[0].identity.log_in
        found = await asyncio.gather(*strangers[:2], owners.vouched("little", vouched, ""), *strangers[2:])
        (logged_in,) = [one for one in found if one is not None and not isinstance(one, httpx.Response)]
        async with twins.identity.identity.core.database.reading() as reader:
            account = await store.account_by_id(reader, stranger.id)
            keys = await reader.all(select(api_keys.c.id).where(api_keys.c.account_id == stranger.id))
            left = await reader.all(select(sessions.c.id).where(sessions.c.account_id == stranger.id))
        assert account is not None
        assert account.email_verified
        assert account.password_hash is None
        assert keys == []
        assert [row.id for row in left] == [logged_in.session.id]


async def test_who_is_deleted_while_logging_in_is_not_there_and_nothing_breaks(twins: World) -> None:
    for round_ in range(5):
        email = f"ana{round_}@example.com"
        ana = await twins.sign_up(email)
        vouched = Vouched("https://little.example", f"subject {round_}", email, email_verified=True)
        log_ins = [try_log_in(twins.apps[number % 2], email) for number in range(4)]
        token = {"refresh_token": ana.tokens["refresh_token"]}
        found = await asyncio.gather(
            *log_ins,
            twins.apps[1].identity.log_in.vouched("little", vouched, ""),
            twins.ask("POST", "/auth/refresh", json=token),
            ana.delete("/me", {"password": PASSWORD}),
        )
        statuses = {answer.status_code for answer in found if isinstance(answer, httpx.Response)}
        assert statuses <= {200, 204, 401}, statuses


async def test_of_many_sign_ups_at_once_one_wins(twins: World) -> None:
    answers = await asyncio.gather(*(sign_up(twins, number % 2, f"Ana {number}") for number in range(6)))
    assert sorted(answers) == [201] + [409] * 5
    found = await twins.identity.identity.accounts.list(Cursor(None, 10), "ana@example.com", None, None)
    assert len(found) == 1


async def sign_up(world: World, replica: int, name: str) -> int:
    body = {"email": "ana@example.com", "password": PASSWORD, "name": name}
    async with door(world.apps[replica]) as client:
        return (await client.post("/auth/signup", json=body)).status_code
