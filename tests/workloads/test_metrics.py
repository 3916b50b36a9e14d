"""What workloads use: from an engine's totals to rates, live and over thirty days, and what it costs to know it."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import func, insert, select, update

from muelle.app import PREFIX
from muelle.engines.docker import DockerEngine
from muelle.engines.protocol import Condition, Limits, Order, Sighting, Usage
from muelle.kit.clock import SystemClock
from muelle.kit.ids import new_id
from muelle.workloads import store as workload_store
from muelle.workloads.metrics import store
from muelle.workloads.metrics.meter import AT_ONCE, Meter
from muelle.workloads.metrics.packed import KIB, MINUTES, Hour
from muelle.workloads.metrics.rates import Rates, rates
from muelle.workloads.metrics.recording import KEPT_DAYS, Recorder
from muelle.workloads.model import Workload, WorkloadId, instance_name
from muelle.workloads.tables import workloads as workload_table
from tests.http.test_streams import Reader
from tests.waiting import eventually
from tests.workloads.test_deploying import becomes, deploy
from tests.workloads.test_exec import Pier, served
from tests.workloads.test_on_docker import everything_goes
from tests.world import ONE, Person, World, installation

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
MIB = 2**20


def later(seconds: float, cpu_seconds: float = 0.0, received: int = 0, sent: int = 0) -> Usage:
    return Usage(NOON + timedelta(seconds=seconds), round(cpu_seconds * 10**6), 5 * MIB, received, sent)


# --- from totals to rates


def test_rates_are_the_difference_of_two_totals() -> None:
    told = rates(later(0, 10, 100, 1000), later(4, 12, 500, 9000))
    assert told == Rates(cpu_percent=50.0, memory_bytes=5 * MIB, received_per_second=100, sent_per_second=2000)
    assert rates(later(1), later(1, 5)) is None, "no time has passed"
    assert rates(later(2), later(1, 5)) is None, "nor has time that was turned back"


def test_an_instance_that_was_started_again_counts_from_nothing() -> None:
    assert rates(later(0, 1000, 10**9, 10**9), later(10, 1, 100, 10)) == Rates(10.0, 5 * MIB, 10, 1)


amounts = st.integers(0, 10**12)
usages = st.builds(
    lambda at, cpu, memory, received, sent: Usage(NOON + timedelta(seconds=at), cpu, memory, received, sent),
    st.floats(0, 10**6),
    amounts,
    amounts,
    amounts,
    amounts,
)


@given(usages, usages)
def test_no_rate_is_ever_negative(before: Usage, now: Usage) -> None:
    told = rates(before, now)
    assert told is None or min(vars(told).values()) >= 0


@given(
    st.dictionaries(
        st.integers(0, MINUTES - 1),
        st.builds(
            Rates,
            st.integers(0, 10**7).map(lambda hundredths: hundredths / 100),
            st.integers(0, 10**9).map(lambda kib: kib * KIB),
            st.integers(0, 2**32 - 1),
            st.integers(0, 2**32 - 1),
        ),
    )
)
def test_an_hour_is_packed_and_comes_out_as_it_was(minutes: dict[int, Rates]) -> None:
    hour = Hour()
    for minute, measured in minutes.items():
        hour.put(minute, measured)
    assert dict(Hour(hour.packed()).minutes()) == minutes


def test_an_hour_takes_little_room_and_bytes_of_another_version_none() -> None:
    quiet, busy = Hour(), Hour()
    for minute in range(MINUTES):
        quiet.put(minute, Rates(0.1, 40 * MIB, 0, 0))
        busy.put(minute, Rates(minute * 1.37, 40 * MIB + minute**3 * KIB, minute**4, minute**5 % 2**33))
    assert len(quiet.packed()) < 60
    assert len(busy.packed()) < 1000
    assert list(Hour(b"\x02whatever").minutes()) == []


# --- asking an engine


class Engine:
    """Answers as it is told, and counts how many ask at once."""

    def __init__(self) -> None:
        self.answers: dict[str, Usage | Exception] = {}
        self.asking = self.most = 0

    async def usage(self, name: str) -> Usage:
        self.asking += 1
        self.most = max(self.most, self.asking)
        await asyncio.sleep(0)
        self.asking -= 1
        answer = self.answers[name]
        if isinstance(answer, Exception):
            raise answer
        return answer


async def test_a_few_are_asked_at_once_and_one_that_does_not_answer_spoils_nothing() -> None:
    engine = Engine()
    meter = Meter(engine)  # type: ignore[arg-type]
    seen = [Sighting(f"i{n}", "w", Condition.RUNNING, started_at=NOON) for n in range(100)]
    engine.answers = {one.name: later(1000, 1) for one in seen}
    assert await meter.read(seen) == {}, "it is not known what they used lately"
    engine.answers = {one.name: later(1010, 2) for one in seen} | {"i7": TimeoutError()}
    told = await meter.read(seen)
    assert len(told) == 99
    assert told["i1"].cpu_percent == 10.0
    assert 1 < engine.most <= AT_ONCE
    engine.answers["i7"] = later(1020, 3)
    assert (await meter.read(seen[7:8]))["i7"].cpu_percent == 10.0, "the time that was missed counts"


async def test_what_was_started_just_now_is_measured_from_its_start() -> None:
    engine = Engine()
    engine.answers = {"i": later(10, 5)}
    told = await Meter(engine).read([Sighting("i", "w", Condition.RUNNING, started_at=NOON)])  # type: ignore[arg-type]
    assert told["i"].cpu_percent == 50.0


# --- over time


@pytest.fixture
async def ana(one: World) -> Person:
    return await one.sign_up("ana@example.com")


@pytest.fixture
async def shop(ana: Person) -> str:
    id = str((await deploy(ana, image="fake/busy"))["id"])
    await becomes(ana, id, "running", serving=1)
    return id


def recorder(world: World) -> Recorder:
    return world.workloads.workloads.metrics._recorder


async def a_minute(world: World, minutes: float = 1) -> None:
    world.clock.leap(minutes=minutes)
    assert not await recorder(world).loop.run_once()
    assert recorder(world).loop.outcome.last_error == ""


async def asked(person: Person, id: str, **query: Any) -> Any:
    answer = await person.get(f"/workloads/{id}/metrics", params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_each_minute_is_kept_and_longer_steps_are_means(one: World, ana: Person, shop: str) -> None:
    await recorder(one).loop.stop()
    await becomes(ana, shop, "running", serving=1)
    for _ in range(5):
        await a_minute(one)
    told = await asked(ana, shop)
    assert told["step_seconds"] == 60
    assert [item["cpu_percent"] for item in told["items"][-4:]] == [pytest.approx(100, abs=1)] * 4
    assert all(item["memory_bytes"] > 0 for item in told["items"])
    moments = [item["at"] for item in told["items"]]
    assert moments == sorted(set(moments))
    longer = await asked(ana, shop, step=3600)
    assert 1 <= len(longer["items"]) <= 2
    await ana.post(f"/workloads/{shop}/stop")
    await becomes(ana, shop, "stopped", serving=0)
    await a_minute(one, 5)
    assert len((await asked(ana, shop))["items"]) == len(told["items"]), "what does not run uses nothing"


async def test_a_restart_of_muelle_goes_on_in_the_same_hour(one: World, ana: Person, shop: str) -> None:
    await recorder(one).loop.stop()
    for _ in range(3):
        await a_minute(one)
    before = (await asked(ana, shop))["items"]
    metrics = one.workloads.workloads.metrics
    old = recorder(one)
    metrics._recorder = Recorder(one.workloads.workloads.core, old.loop._lease)  # type: ignore[arg-type]
    await a_minute(one)
    await a_minute(one)
    after = (await asked(ana, shop))["items"]
    assert after[: len(before)] == before
    assert len(after) > len(before)


async def test_what_is_older_than_thirty_days_goes_and_what_was_of_deleted_workloads(
    one: World, ana: Person, shop: str
) -> None:
    await recorder(one).loop.stop()
    await a_minute(one)
    await a_minute(one)
    gone = {new_id(): Hour().packed()}
    database = one.workloads.workloads.core.database
    async with database.transaction() as tx:
        await store.keep(tx, recorder(one)._hour, gone)
    await a_minute(one, 60)
    ana = await one.log_in("ana@example.com")
    async with database.reading() as reader:
        assert {row.workload_id for row in await reader.all(select(store.usage))} == {shop}
    assert (await asked(ana, shop, since=iso(one.clock.now() - timedelta(days=1))))["items"]
    one.clock.leap(days=KEPT_DAYS)
    await a_minute(one, 120)
    async with database.reading() as reader:
        assert await reader.scalar(select(func.count()).select_from(store.usage)) <= 1


async def test_a_span_has_bounds(one: World, ana: Person, shop: str) -> None:
    now = one.clock.now()
    month = {"since": iso(now - timedelta(days=30)), "until": iso(now)}
    assert (await asked(ana, shop, **month))["step_seconds"] == 3600
    cases = (
        ({**month, "step": 60}, 422, "too_many_points"),
        ({"since": month["until"], "until": month["since"]}, 422, "bad_span"),
        ({"since": iso(now + timedelta(days=1))}, 422, "bad_span"),
        ({"step": 90}, 422, "fields_invalid"),
        ({"step": 0}, 422, "fields_invalid"),
    )
    for query, status, code in cases:
        answer = await ana.get(f"/workloads/{shop}/metrics", params=query)
        assert (answer.status_code, answer.json()["code"]) == (status, code), query
    far = {"since": "0001-01-01T00:00:00Z", "until": "9999-12-31T23:59:59Z"}
    assert (await asked(ana, shop, **far))["items"] is not None


def iso(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")


# --- live


@pytest.fixture
async def pier(one: World) -> AsyncIterator[Pier]:
    async with served(one) as pier:
        yield pier


async def test_who_watches_is_told_and_nobody_else_costs_anything(pier: Pier, ana: Person, shop: str) -> None:
    watching = pier.world.workloads.workloads.metrics._watching
    runs = watching.loop.outcome.runs
    headers = {"Authorization": f"Bearer {ana.credential}"}
    path = f"http://127.0.0.1:{pier.port}{PREFIX}/workloads/{shop}/metrics/stream"
    async with httpx.AsyncClient(headers=headers, timeout=20, trust_env=False) as client:
        async with client.stream("GET", path) as first, client.stream("GET", path) as second:
            readers = [Reader(first), Reader(second)]
            for reader in readers:
                event = await reader.next()
                assert event["event"] == "metrics"
                assert event["data"]["cpu_percent"] == pytest.approx(100, abs=5)
                assert event["data"]["uptime_seconds"] >= 0
            assert watching._watchers[shop] == 2
            assert watching.loop.outcome.runs - runs <= 3, "once for both"
        await eventually(lambda: not watching._watchers)
    assert not watching._due


@pytest.mark.needs("docker")
@pytest.mark.timeout(300)
async def test_the_same_on_docker(docker_host: str, tmp_path: Path) -> None:
    engine = DockerEngine(docker_host, f"usage{secrets.token_hex(4)}", SystemClock())
    async with installation(ONE, tmp_path / "home", engine=lambda: engine) as world, served(world) as pier:
        try:
            ana = await world.sign_up("ana@example.com")
            source = {"name": "app.py", "text": "while True:\n    pass\n"}
            limits = {"cpu_millis": 200, "memory_mib": 64}
            wanted = {"name": "busy", "file": source, "template": "python", "port": 0, "limits": limits}
            id = str((await ana.post("/workloads", wanted)).json()["workload"]["id"])
            await becomes(ana, id, "running", within=120, serving=1)
            headers = {"Authorization": f"Bearer {ana.credential}"}
            path = f"http://127.0.0.1:{pier.port}{PREFIX}/workloads/{id}/metrics/stream"
            async with (
                httpx.AsyncClient(headers=headers, timeout=60, trust_env=False) as client,
                client.stream("GET", path) as answer,
            ):
                told = (await Reader(answer).next())["data"]
            assert told["memory_bytes"] > MIB
            assert 0 < told["cpu_percent"] < 60, "it may use a fifth of a processor"
        finally:
            await everything_goes(engine)


# --- how much it costs

MANY = 1000


async def test_a_thousand_workloads_are_measured_in_a_moment(one: World, ana: Person, shop: str) -> None:
    for loop in one.workloads.loops:
        await loop.stop()
    await many(one, shop)
    await a_minute(one)
    seconds = min([await one_pass(one) for _ in range(3)])
    print(f"{MANY} workloads measured and kept in {seconds * 1000:.0f} ms of processor time")
    database = one.workloads.workloads.core.database
    async with database.reading() as reader:
        rows = await reader.all(select(store.usage).where(store.usage.c.hour == recorder(one)._hour))
    assert len(rows) == MANY
    assert seconds < 1.0


async def one_pass(world: World) -> float:
    """Its seconds of processor time: the least of some is what it costs on a machine where others work, too."""
    began = time.process_time()
    await a_minute(world)
    return time.process_time() - began


async def many(world: World, like: str) -> None:
    """So many that run, as rows and as instances; made past the reconciler, which has something else to do."""
    core = world.workloads.workloads.core
    engine = core.engine
    image = await engine.resolve("fake/web", None, lambda line: None)
    async with core.database.transaction() as tx:
        model = await workload_store.workload_by_id(tx, like)
        assert isinstance(model, Workload)
        row = await tx.first(select(workload_table).where(workload_table.c.id == like))
        assert row is not None
        for number in range(MANY - 1):
            id = new_id()
            name = instance_name(WorkloadId(id), 1, 1)
            await tx.run(insert(workload_table).values({**row._mapping, "id": id, "name": f"w{number}", "claim": id}))
            await tx.run(update(workload_table).where(workload_table.c.id == id).values(serving=name))
            order = Order(name, id, model.owner_id, image.id, limits=replace(Limits(), pids=8))
            await engine.create(order)
            await engine.start(name)
