"""What the engine that pretends can do beyond the protocol: named programs, by the clock, at next to no cost."""

from __future__ import annotations

import asyncio
import gc
import json
import tracemalloc
from collections.abc import Awaitable
from datetime import timedelta
from pathlib import Path

import httpx
import pytest

from muelle.engines.fake import FakeEngine, FakeWorld
from muelle.engines.fake.program import NAMED
from muelle.engines.protocol import (
    BuildFailed,
    CannotDo,
    Condition,
    Engine,
    Limits,
    Mount,
    Order,
)
from muelle.engines.recipe import OwnDockerfile, Recipe, Step, Tool
from muelle.kit.clock import MovableClock, SystemClock
from tests.engines.pretending import HOME, begun, build_order, image, only, run
from tests.waiting import eventually

MOST_BYTES_EACH = 1024


@pytest.fixture
def clock() -> MovableClock:
    return MovableClock()


@pytest.fixture
def world() -> FakeWorld:
    return FakeWorld()


@pytest.fixture
def engine(clock: MovableClock, world: FakeWorld) -> FakeEngine:
    return FakeEngine(clock, HOME, world)


# The programs.


@pytest.mark.parametrize("words", NAMED)
async def test_each_named_program_can_be_run_and_removed(engine: FakeEngine, words: str) -> None:
    order = await run(engine, words)
    await engine.remove(order.name)
    assert list(await engine.observe()) == []


async def test_a_program_that_crashes_has_ended_when_start_returns(engine: FakeEngine) -> None:
    await run(engine, "crash")
    sighting = await only(engine)
    assert (sighting.condition, sighting.exit_code) == (Condition.EXITED, 1)


async def test_a_program_that_crashes_later_runs_until_then_by_the_clock(
    engine: FakeEngine, clock: MovableClock
) -> None:
    await run(engine, "crash-after-3")
    await clock.advance(2.9)
    assert (await only(engine)).condition is Condition.RUNNING
    await clock.advance(0.1)
    sighting = await only(engine)
    assert sighting.condition is Condition.EXITED
    assert sighting.started_at is not None
    assert sighting.ended_at == sighting.started_at + timedelta(seconds=3)


async def test_a_look_shows_what_the_clock_says_when_nobody_was_woken(engine: FakeEngine, clock: MovableClock) -> None:
    await run(engine, "crash-after-3")
    clock.jump(10)
    assert (await only(engine)).condition is Condition.EXITED


async def test_a_memory_hog_is_ended_for_it(engine: FakeEngine, clock: MovableClock) -> None:
    await run(engine, "memory-hog")
    await clock.advance(1)
    sighting = await only(engine)
    assert (sighting.exit_code, sighting.out_of_memory) == (137, True)


async def test_a_stubborn_program_is_ended_when_its_time_is_over(engine: FakeEngine, clock: MovableClock) -> None:
    order = await run(engine, "stubborn")
    stopping = await begun(engine.stop(order.name, 10))
    await clock.advance(9)
    assert not stopping.done()
    await clock.advance(1)
    await stopping
    assert (await only(engine)).exit_code == 137


async def test_a_stop_goes_on_when_muelle_is_killed(engine: FakeEngine, clock: MovableClock, world: FakeWorld) -> None:
    order = await run(engine, "stubborn")
    stopping = await begun(engine.stop(order.name, 10))
    await clock.advance(1)
    stopping.cancel()
    await clock.advance(9)
    assert (await only(FakeEngine(clock, HOME, world))).condition is Condition.EXITED


async def test_an_exit_code_can_be_asked_for(engine: FakeEngine) -> None:
    await run(engine, "exit-7")
    assert (await only(engine)).exit_code == 7


async def test_one_that_cannot_be_started_says_why(engine: FakeEngine) -> None:
    await run(engine, "unstartable")
    sighting = await only(engine)
    assert "executable file not found" in sighting.reason
    assert sighting.started_at is None


async def test_usage_is_what_the_program_would_use_within_its_limits(engine: FakeEngine, clock: MovableClock) -> None:
    order = await run(engine, "busy", limits=Limits(cpu_millis=500))
    await clock.advance(10)
    assert (await engine.usage(order.name)).cpu_micros == 5_000_000


async def test_a_build_reads_what_its_program_does(engine: FakeEngine, tmp_path: Path) -> None:
    (tmp_path / "program.json").write_text(json.dumps({"exits_after_seconds": 0, "exit_code": 9}))
    built = await engine.build(build_order(tmp_path, Recipe("python", Tool.PYTHON)), lambda line: None)
    await engine.create(Order("shop-1-1", "shop", "ana", built.id))
    await engine.start("shop-1-1")
    assert (await only(engine)).exit_code == 9


@pytest.mark.parametrize("text", ['{"colour": 1}', "[]", "nonsense", '"text"'])
async def test_a_build_refuses_a_program_that_makes_no_sense(engine: FakeEngine, tmp_path: Path, text: str) -> None:
    (tmp_path / "program.json").write_text(text)
    with pytest.raises(BuildFailed, match=r"program\.json"):
        await engine.build(build_order(tmp_path, Recipe("python", Tool.PYTHON)), lambda line: None)


async def test_a_build_takes_its_time_by_the_clock(
    engine: FakeEngine, clock: MovableClock, world: FakeWorld, tmp_path: Path
) -> None:
    recipe = Recipe("python", Tool.PYTHON, (Step("echo wait && sleep 30"),))
    building = await begun(engine.build(build_order(tmp_path, recipe), lambda line: None))
    await clock.advance(29)
    assert not building.done()
    assert world.builds == {"build-1"}
    await clock.advance(1)
    await building
    assert world.builds == set()


# What it declares.


async def test_a_world_without_capabilities_refuses_what_they_are_about(clock: MovableClock, tmp_path: Path) -> None:
    engine = FakeEngine(clock, HOME, FakeWorld(capabilities=frozenset()))
    built = await engine.build(build_order(tmp_path, Recipe("python", Tool.PYTHON)), lambda line: None)
    order = Order("shop-1-1", "shop", "ana", built.id, mounts=(Mount("data", "/data"),))
    refused: list[Awaitable[object]] = [
        engine.resolve("fake/web", None, lambda line: None),
        engine.build(build_order(tmp_path, OwnDockerfile()), lambda line: None),
        engine.create(order),
        engine.execute("shop-1-1", ["true"]),
    ]
    for call in refused:
        with pytest.raises(CannotDo):
            await call
    assert list(await engine.observe()) == []


# What it costs.


async def test_a_thousand_running_instances_cost_little_and_nothing_waits_for_them(engine: FakeEngine) -> None:
    id = await image(engine, "web")
    orders = [Order(f"shop{number}-1-1", f"shop{number}", "ana", id, port=80) for number in range(1000)]
    gc.collect()
    tracemalloc.start()
    for order in orders:
        await engine.create(order)
        await engine.start(order.name)
    each = tracemalloc.get_traced_memory()[0] / len(orders)
    tracemalloc.stop()
    assert each < MOST_BYTES_EACH
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_nobody_waits_when_what_was_to_happen_will_not(engine: FakeEngine, world: FakeWorld) -> None:
    order = await run(engine, "crash-after-3")
    assert len(asyncio.all_tasks()) == 2
    await engine.remove(order.name)
    await engine.observe()
    await eventually(lambda: len(asyncio.all_tasks()) == 1)


# Its doors.


@pytest.fixture
async def doors() -> FakeEngine:
    return FakeEngine(SystemClock(), HOME, FakeWorld(real_sockets=True))


async def ask(engine: Engine, path: str = "/") -> httpx.Response:
    address = (await only(engine)).address
    assert address is not None
    async with httpx.AsyncClient(trust_env=False) as client:
        return await client.get(f"http://{address.host}:{address.port}{path}")


async def test_a_program_that_listens_tells_who_it_is(doors: FakeEngine) -> None:
    order = await run(doors, "web", environment={"RELEASE": "7"})
    told = (await ask(doors, "/a?b=c")).json()
    assert (told["instance"], told["path"]) == (order.name, "/a?b=c")
    assert told["environment"] == {"RELEASE": "7", "PORT": "80"}
    await doors.remove(order.name)


async def test_a_program_answers_the_number_that_it_is_told(doors: FakeEngine) -> None:
    order = await run(doors, "answers-503")
    assert (await ask(doors)).status_code == 503
    await doors.remove(order.name)


@pytest.mark.parametrize("words", ["deaf", "wrong-port", "slow-start-60"])
async def test_nobody_answers_where_nobody_listens(doors: FakeEngine, words: str) -> None:
    order = await run(doors, words)
    with pytest.raises(httpx.ConnectError):
        await ask(doors)
    await doors.remove(order.name)


async def test_a_program_that_starts_slowly_answers_when_it_is_ready(doors: FakeEngine) -> None:
    order = await run(doors, "slow-start-0.2")
    assert (await eventually(lambda: ask(doors))).status_code == 200
    await doors.remove(order.name)


async def test_the_door_is_shut_when_the_program_ends(doors: FakeEngine) -> None:
    order = await run(doors, "web")
    address = (await only(doors)).address
    assert address is not None
    reader, writer = await asyncio.open_connection(address.host, address.port)
    await doors.stop(order.name)
    assert await reader.read() == b""
    writer.close()
    with pytest.raises(OSError, match=r"refused|Connect call failed"):
        await asyncio.open_connection(address.host, address.port)
