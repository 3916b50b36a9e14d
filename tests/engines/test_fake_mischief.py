"""How the engine that pretends misbehaves when it is told to, and how others interfere with its world."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from muelle.engines.fake import FakeEngine, FakeWorld, Moment
from muelle.engines.protocol import (
    Condition,
    EngineUnavailable,
    NoSuchInstance,
    Order,
)
from muelle.engines.recipe import OwnDockerfile, Recipe, Tool
from muelle.kit.clock import MovableClock, SystemClock
from tests.engines.pretending import HOME, begun, build_order, image, only, run


@pytest.fixture
def clock() -> MovableClock:
    return MovableClock()


@pytest.fixture
def world() -> FakeWorld:
    return FakeWorld()


@pytest.fixture
def engine(clock: MovableClock, world: FakeWorld) -> FakeEngine:
    return FakeEngine(clock, HOME, world)


# How it misbehaves.


async def test_a_failing_call_fails_so_many_times(engine: FakeEngine, world: FakeWorld) -> None:
    world.fail("observe", times=2)
    for _ in range(2):
        with pytest.raises(EngineUnavailable):
            await engine.observe()
    assert list(await engine.observe()) == []
    assert await engine.check()


async def test_a_failing_world_fails_until_it_is_healed(engine: FakeEngine, world: FakeWorld) -> None:
    world.fail(reason="the daemon is gone")
    for call in CALLS:
        with pytest.raises(EngineUnavailable, match="the daemon is gone"):
            await call(engine)
    world.heal()
    assert await engine.check()


CALLS: list[Callable[[FakeEngine], Awaitable[object]]] = [
    lambda engine: engine.check(),
    lambda engine: engine.observe(),
    lambda engine: engine.create(Order("a", "a", "ana", "image")),
    lambda engine: engine.start("a"),
    lambda engine: engine.stop("a"),
    lambda engine: engine.remove("a"),
    lambda engine: anext(aiter(engine.logs("a"))),
    lambda engine: engine.usage("a"),
    lambda engine: engine.execute("a", ["true"]),
    lambda engine: engine.resolve("fake/web", None, lambda line: None),
    lambda engine: engine.build(build_order(Path(), OwnDockerfile()), lambda line: None),
    lambda engine: engine.has_image("a"),
    lambda engine: engine.images(),
    lambda engine: engine.remove_image("a"),
    lambda engine: engine.volumes(),
    lambda engine: engine.remove_volume("a"),
    lambda engine: engine.tidy(),
    lambda engine: engine.disk(),
]


async def test_a_closed_engine_answers_nothing_more(engine: FakeEngine) -> None:
    await engine.close()
    for call in CALLS:
        with pytest.raises(EngineUnavailable):
            await call(engine)


async def test_who_reads_a_log_is_let_go_when_the_engine_is_closed(engine: FakeEngine) -> None:
    order = await run(engine, "web")
    lines = engine.logs(order.name)
    assert (await anext(lines)).text == "listening on 80"
    waiting = await begun(anext(lines, None))
    assert not waiting.done()
    await engine.close()
    assert await waiting is None


async def test_a_watch_ends_when_the_world_fails(engine: FakeEngine, world: FakeWorld) -> None:
    watch = engine.watch()
    world.fail()
    with pytest.raises(StopAsyncIteration):
        await anext(watch)
    with pytest.raises(EngineUnavailable):
        engine.watch()


async def test_a_slow_call_takes_longer_by_the_clock(engine: FakeEngine, world: FakeWorld, clock: MovableClock) -> None:
    world.slow(5, "observe")
    looking = await begun(engine.observe())
    await clock.advance(4)
    assert not looking.done()
    assert await engine.check()
    await clock.advance(1)
    await looking


async def test_a_hanging_call_comes_back_when_the_world_is_healed(engine: FakeEngine, world: FakeWorld) -> None:
    world.hang("observe")
    looking = await begun(engine.observe())
    assert await engine.check()
    assert not looking.done()
    world.heal()
    await looking


async def test_a_lying_world_leaves_out_what_it_is_told_to(engine: FakeEngine, world: FakeWorld) -> None:
    await run(engine, "web", "shop-1-1")
    await run(engine, "web", "blog-1-1")
    world.lie(2, ["shop-1-1"])
    for _ in range(2):
        assert (await only(engine)).name == "blog-1-1"
    assert len(await engine.observe()) == 2


async def test_a_lying_world_shows_how_it_was(engine: FakeEngine, world: FakeWorld) -> None:
    order = await run(engine, "web")
    world.lie(1, stale=True)
    await engine.remove(order.name)
    assert (await only(engine)).condition is Condition.RUNNING
    assert list(await engine.observe()) == []


async def test_steps_are_told_before_and_after_what_they_do(
    engine: FakeEngine, world: FakeWorld, tmp_path: Path
) -> None:
    told: list[tuple[str, str, int]] = []
    world.on_step = lambda call, moment: told.append((call, moment, len(world.names())))
    order = await run(engine, "web")
    await engine.observe()
    await engine.stop(order.name)
    await engine.remove(order.name)
    await engine.build(build_order(tmp_path, Recipe("python", Tool.PYTHON)), lambda line: None)
    assert told == [
        ("resolve", Moment.BEFORE, 0),
        ("resolve", Moment.AFTER, 0),
        ("create", Moment.BEFORE, 0),
        ("create", Moment.AFTER, 1),
        ("start", Moment.BEFORE, 1),
        ("start", Moment.AFTER, 1),
        ("stop", Moment.BEFORE, 1),
        ("stop", Moment.AFTER, 1),
        ("remove", Moment.BEFORE, 1),
        ("remove", Moment.AFTER, 0),
        ("build", Moment.BEFORE, 0),
        ("build", Moment.AFTER, 0),
    ]


@pytest.mark.parametrize(("moment", "there"), [(Moment.BEFORE, []), (Moment.AFTER, ["shop-1-1"])])
async def test_a_crash_at_a_step_leaves_the_world_as_it_was_then(
    engine: FakeEngine, clock: MovableClock, world: FakeWorld, moment: Moment, there: list[str]
) -> None:
    def crash(call: str, at: Moment) -> None:
        if (call, at) == ("create", moment):
            raise KeyboardInterrupt

    world.on_step = crash
    with pytest.raises(KeyboardInterrupt):
        await run(engine, "web")
    world.on_step = None
    assert [sighting.name for sighting in await FakeEngine(clock, HOME, world).observe()] == there


async def test_a_step_may_be_waited_for(engine: FakeEngine, world: FakeWorld) -> None:
    go = asyncio.Event()

    async def hold(call: str, moment: Moment) -> None:
        await go.wait()

    world.on_step = hold
    running = await begun(run(engine, "web"))
    assert world.names() == []
    go.set()
    await running


# How others interfere with it.


async def test_an_instance_vanishes_and_a_watcher_is_told(engine: FakeEngine, world: FakeWorld) -> None:
    order = await run(engine, "web")
    watch = engine.watch()
    world.vanish(order.name)
    assert await anext(watch) == "shop"
    assert list(await engine.observe()) == []
    with pytest.raises(NoSuchInstance):
        await engine.start(order.name)


async def test_an_instance_ends_as_it_is_told_to(engine: FakeEngine, world: FakeWorld) -> None:
    order = await run(engine, "web")
    world.exit(order.name, 42)
    assert (await only(engine)).exit_code == 42


async def test_a_stranger_bears_our_label_and_no_order(engine: FakeEngine, world: FakeWorld) -> None:
    world.stranger("muelle-stranger-1-1")
    sighting = await only(engine)
    assert (sighting.name, sighting.workload) == ("muelle-stranger-1-1", "stranger")
    assert sighting.condition is Condition.RUNNING


async def test_an_image_may_be_lost(engine: FakeEngine, world: FakeWorld) -> None:
    id = await image(engine, "web")
    world.lose_image(id)
    assert not await engine.has_image(id)


async def test_a_program_prints_what_it_is_told_to(engine: FakeEngine, world: FakeWorld) -> None:
    order = await run(engine, "web")
    world.say(order.name, "something happened")
    world.exit(order.name)
    assert [line.text async for line in engine.logs(order.name)] == ["listening on 80", "something happened"]


async def test_the_world_outlives_the_event_loop_in_which_it_began() -> None:
    """As for a Muelle that was killed: its event loop is gone, and with it whoever slept until the next event."""
    world, clock = FakeWorld(real_sockets=True), SystemClock()

    def live(what: Callable[[FakeEngine], Awaitable[object]]) -> None:
        asyncio.run(within(what))

    async def within(what: Callable[[FakeEngine], Awaitable[object]]) -> None:
        await what(FakeEngine(clock, HOME, world))

    await asyncio.to_thread(live, lambda engine: run(engine, "crash-after-0.2"))

    async def sees_the_end(engine: FakeEngine) -> None:
        assert [line.text async for line in engine.logs("shop-1-1")] == ["listening on 80"]
        assert (await only(engine)).condition is Condition.EXITED

    await asyncio.to_thread(live, sees_the_end)
