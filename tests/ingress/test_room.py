"""The room: facts come in, the table is there at once, and is there again after a start."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

import pytest
from fastapi import FastAPI

from muelle.events import Route, RouteChanged
from muelle.ingress import room, store
from muelle.ingress.http import ShownRoute, router
from muelle.ingress.table import Changes
from muelle.ingress.verbs import GONE_DAYS, Verbs
from muelle.kit.bus import Envelope, Inbox, Origin
from muelle.kit.clock import MovableClock
from muelle.kit.db import Database, open_database
from muelle.kit.db.migrations import migrate
from muelle.kit.http import Access, Cursor
from muelle.kit.http.routes import declared
from muelle.kit.ids import new_id_at
from tests.ingress.test_table import fact
from tests.servers.supply import Servers

CLOCK = MovableClock()


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.needs("postgres"))])
def address(request: pytest.FixtureRequest, servers: Servers) -> Iterator[str]:
    with ExitStack() as stack:
        yield stack.enter_context(servers.postgres_url()) if request.param == "postgres" else ""


@pytest.fixture
async def database(tmp_path: Path, address: str) -> AsyncIterator[Database]:
    database = open_database(room.NAME, folder=tmp_path, url=address)
    await migrate(database, room.MIGRATIONS)
    try:
        yield database
    finally:
        await database.close()


def envelope(told: RouteChanged) -> Envelope:
    now = CLOCK.now()
    data = told.model_dump(mode="json")
    return Envelope(new_id_at(now), "RouteChanged", "workloads", told.workload_id, now, Origin(), data)


async def take(database: Database, verbs: Verbs, *told: RouteChanged) -> Inbox:
    inbox = Inbox(room.NAME, database, CLOCK, room.consumers(verbs))
    (taker,) = inbox.takers()
    assert await taker.take([envelope(each).to_bytes() for each in told]) == []
    assert await inbox.counts() == {"parked": 0, "dead": 0}
    return inbox


FACTS = [
    fact("w1", 1, {"a.x": "1"}),
    fact("w1", 2, {"b.x": "3"}),
    fact("w2", 1, {"a.x": "2"}, Route.STOPPED, "Its owner stopped it."),
    fact("w3", 5, {}, Route.GONE),
]


async def test_in_whatever_order_facts_come_the_table_is_the_same_after_a_start(database: Database) -> None:
    for order in itertools.islice(itertools.permutations(FACTS), 0, None, 5):
        async with database.transaction() as tx:
            await tx.run(store.routes.delete())
            await tx.run(store.claims.delete())
        verbs = Verbs(database, CLOCK)
        await take(database, verbs, *order)
        again = Verbs(database, CLOCK)
        await again.load()
        for each in (verbs, again):
            assert {entry.host: entry.workload_id for entry in each.table} == {"a.x": "w2", "b.x": "w1"}
            assert each.table.versions == {"w1": 2, "w2": 1, "w3": 5}
        assert list(verbs.table) == list(again.table)


async def test_a_claim_outlives_the_fact_that_told_it(database: Database) -> None:
    verbs = Verbs(database, CLOCK)
    await take(database, verbs, fact("w2", 1, {"a.x": "2"}), fact("w2", 2, {}), fact("w1", 1, {"a.x": "1"}))
    again = Verbs(database, CLOCK)
    await again.load()
    assert verbs.table.lookup("a.x") is None
    assert again.table.lookup("a.x") is None


async def test_listeners_hear_each_change_once(database: Database) -> None:
    verbs = Verbs(database, CLOCK)
    heard: list[Changes] = []

    def broken(_changes: Changes) -> None:
        raise RuntimeError("no")

    verbs.listen(broken)
    verbs.listen(heard.append)
    await take(database, verbs, fact("w1", 1, {"a.x": "1"}))
    await take(database, verbs, fact("w1", 1, {"a.x": "1"}))
    assert heard == [{"a.x": verbs.table.lookup("a.x")}]


async def test_a_fact_is_true_though_it_could_not_be_written_down_and_comes_again(database: Database) -> None:
    verbs = Verbs(database, CLOCK)

    async def fail() -> None:
        async with database.transaction() as tx:
            await verbs.record(tx, envelope(fact("w1", 1, {"a.x": "1"})))
            raise RuntimeError("the disk is full")

    with pytest.raises(RuntimeError):
        await fail()
    assert verbs.table.lookup("a.x") is not None
    await take(database, verbs, fact("w1", 1, {"a.x": "1"}))
    again = Verbs(database, CLOCK)
    await again.load()
    assert list(again.table) == list(verbs.table)


async def test_a_replica_learns_what_another_has_taken_in(database: Database) -> None:
    one, other = Verbs(database, CLOCK), Verbs(database, CLOCK)
    await take(database, one, *(fact(f"w{n}", 1, {f"{n}.x": f"{n:04}"}) for n in range(700)))
    await other.catch_up()
    assert list(other.table) == list(one.table)
    await take(database, one, fact("w5", 2, {}), fact("w6", 2, {"5.x": "9999"}))
    await other.catch_up()
    assert list(other.table) == list(one.table)


async def test_those_that_are_gone_for_long_are_forgotten(database: Database) -> None:
    verbs = Verbs(database, CLOCK)
    await take(database, verbs, *FACTS)
    CLOCK.jump(timedelta(days=GONE_DAYS - 1).total_seconds())
    await verbs.forget_gone()
    async with database.reading() as reader:
        assert set(await store.versions(reader)) == {"w1", "w2", "w3"}
    CLOCK.jump(timedelta(days=2).total_seconds())
    await verbs.forget_gone()
    async with database.reading() as reader:
        assert set(await store.versions(reader)) == {"w1", "w2"}


async def test_a_text_that_a_database_cannot_keep_is_no_reason_to_be_dark(database: Database) -> None:
    verbs = Verbs(database, CLOCK)
    await take(database, verbs, fact("w1", 1, {"a.x": "1"}, Route.FAILED, "half a pair \ud800, nul \0 in it"))
    again = Verbs(database, CLOCK)
    await again.load()
    assert again.table.lookup("a.x") is not None


async def test_the_list_of_routes_comes_in_pages(database: Database) -> None:
    verbs = Verbs(database, CLOCK)
    long = "x" * 200
    await take(database, verbs, *(fact(f"w{n}", 1, {f"{long}{n}.x": "7", f"{n}.y": "7"}) for n in range(5)))
    found: list[str] = []
    after: str | None = None
    while page := await verbs.list(Cursor(after, 3)):
        found += [ShownRoute.of(entry).host for entry in page[:3]]
        after = page[:3][-1].place
        assert len(after) < 100
    assert found == [entry.host for entry in verbs.table]
    assert len(found) == 10


def test_the_list_is_for_operators() -> None:
    (route,) = router.routes
    stands = declared(getattr(route, "endpoint", None))
    assert stands is not None
    assert stands.access == Access.operator("ingress:read")
    FastAPI().include_router(router)


async def test_the_room_cleans_up_and_catches_up_where_there_are_replicas(database: Database) -> None:
    loops = {loop.name for loop in room.loops(database, Verbs(database, CLOCK), CLOCK)}
    assert loops == {"ingress.cleaning"} | ({"ingress.catching_up"} if database.postgres else set())
