"""What a program writes gets into the logbook once, whatever becomes of the engine, of Muelle, or of the disk."""

from __future__ import annotations

import asyncio
import os
import random
import resource
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest

from muelle.engines.protocol import Engine, Line
from muelle.engines.protocol import Stream as Output
from muelle.kit.clock import SystemClock
from muelle.workloads.logbook import Collector, LogBook, Pace, Stream
from tests.waiting import eventually
from tests.workloads.logbook.lines import WEB, Telling, texts


@pytest.fixture
async def book(tmp_path: Path) -> AsyncIterator[LogBook]:
    book = LogBook(tmp_path, SystemClock())
    yield book
    await book.close()


@pytest.fixture(autouse=True)
def soon_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("muelle.kit.loops.FIRST_RETRY_SECONDS", 0.01)


def collecting(engine: Any, book: LogBook, pace: Pace | None = None) -> asyncio.Task[None]:
    collector = Collector(cast(Engine, engine), book, SystemClock(), pace)
    return asyncio.create_task(collector.collect(WEB, "web", 3))


async def kept(book: LogBook) -> list[str]:
    return texts((await book.read("web", limit=5_000)).entries)


async def stopped(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_lines_are_kept_as_they_come_and_it_ends_with_the_instance(book: LogBook) -> None:
    engine = Telling()
    engine.write("hello", 1)
    engine.write("oh dear", 2, output=Output.ERR)
    task = collecting(engine, book)
    found = (await eventually(lambda: _entries(book, 2)))[-2:]
    assert [(k.entry.text, k.entry.stream, k.entry.release, k.entry.instance) for k in found] == [
        ("hello", Stream.OUT, 3, WEB),
        ("oh dear", Stream.ERR, 3, WEB),
    ]
    for number in range(700):
        engine.write(f"line {number}", 3)
    engine.end()
    await task
    assert await kept(book) == ["hello", "oh dear", *(f"line {number}" for number in range(700))]


async def _some(book: LogBook) -> None:
    await eventually(lambda: _entries(book, 1))


async def _entries(book: LogBook, count: int) -> Any:
    entries = (await book.read("web", limit=5_000)).entries
    return entries if len(entries) >= count else ()


async def test_an_instance_that_is_not_there_is_no_trouble(book: LogBook) -> None:
    await asyncio.wait_for(collecting(Telling(), book), 5)
    assert await kept(book) == []


@pytest.mark.parametrize("seed", range(4))
async def test_nothing_is_lost_or_doubled_by_failing_engines_and_restarts(tmp_path: Path, seed: int) -> None:
    dice, engine = random.Random(seed), Telling()
    engine.write("line 0", 0)
    written, moment = ["line 0"], 0.0
    book = LogBook(tmp_path, SystemClock(), 4_000, 10**6)
    task = collecting(engine, book)
    await _some(book)
    while len(written) < 600:
        for _ in range(dice.randrange(40)):
            moment += dice.choice([0, 0, 0, 0.000001, 0.5])
            text = dice.choice(["the same again", f"line {len(written)}"])
            written.append(text)
            engine.write(text, moment, output=dice.choice(list(Output)))
        event = dice.random()
        if event < 0.3:
            engine.fails_after = dice.randrange(30)
        elif event < 0.5:
            await stopped(task)
            await book.close()
            book = LogBook(tmp_path, SystemClock(), 4_000, 10**6)
            task = collecting(engine, book)
        elif event < 0.7:
            await _some(book)
        else:
            await asyncio.sleep(0.001 * dice.randrange(80))
    engine.end()
    await task
    assert await kept(book) == written
    assert any(engine.asked)
    await book.close()


async def test_each_instance_has_a_position_of_its_own_although_its_lines_are_gone(tmp_path: Path) -> None:
    engine = Telling()
    engine.write("the quiet one", 1)
    book = LogBook(tmp_path, SystemClock(), 2_000, 10_000)
    task = collecting(engine, book)
    await eventually(lambda: _entries(book, 1))
    await stopped(task)
    for number in range(3000):
        engine.write(f"line {number}", 10 + number, "the-loud-one")
    engine.end("the-loud-one")
    await Collector(cast(Engine, engine), book, SystemClock()).collect("the-loud-one", "web", 4)
    assert "the quiet one" not in await kept(book)
    await book.close()
    book = LogBook(tmp_path, SystemClock(), 2_000, 10_000)
    engine.end()
    await collecting(engine, book)
    assert "the quiet one" not in await kept(book)
    position = await book.position("web", WEB)
    assert position is not None
    assert engine.asked[-1] == position.at
    await book.close()


async def test_a_full_disk_is_waited_for(book: LogBook, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    engine = Telling()
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        for number in range(1000):
            engine.write(f"line {number}", number)
        task = collecting(engine, book)
        await eventually(lambda: engine.told >= 256)
        await asyncio.sleep(0.1)
        assert engine.told < 600  # what cannot be written is not read
    engine.end()
    await task
    assert await kept(book) == [f"line {number}" for number in range(1000)]


async def test_a_second_has_only_so_many_lines_and_the_rest_is_counted(book: LogBook) -> None:
    engine = Telling()
    for number in range(50):
        engine.write(f"a {number}", 1)
    for number in range(11):
        engine.write(f"b {number}", 2)
    task = collecting(engine, book, Pace(kept_lines_per_second=10))
    told = await eventually(lambda: _entries(book, 22))  # also where nothing more is written
    notes = [k.entry for k in told if k.entry.stream is Stream.MUELLE]
    assert [note.text.partition(":")[0] for note in notes] == ["40 lines were dropped", "1 line was dropped"]
    assert texts(told)[:10] == [f"a {number}" for number in range(10)]
    assert texts(told)[11:21] == [f"b {number}" for number in range(10)]
    await stopped(task)


async def test_what_was_written_while_muelle_was_away_is_not_too_much(book: LogBook) -> None:
    engine = Telling()
    for number in range(3_000):
        engine.write(f"line {number}", number / 8)
    engine.end()
    await collecting(engine, book, Pace(kept_lines_per_second=10))
    assert len(await kept(book)) == 3_000


class Flood:
    """A program that writes as fast as it is read, 1 KB at a time, for as long as it is let."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.lines = 0

    async def logs(self, name: str, since: datetime | None = None) -> AsyncIterator[Line]:
        until = time.monotonic() + self.seconds
        while time.monotonic() < until:
            self.lines += 1
            yield Line(datetime.now(UTC), Output.OUT, "x" * 1000)


async def test_a_flood_fills_neither_memory_nor_the_loop(book: LogBook) -> None:
    flood = Flood(2.0)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    used, began = time.process_time(), time.perf_counter()
    task = collecting(flood, book)
    last, longest = began, 0.0
    while not task.done():
        await asyncio.sleep(0.001)
        now = time.perf_counter()
        longest, last = max(longest, now - last), now
    cost = (time.process_time() - used) / (last - began)
    size = await book.size("web")
    print(f"{flood.lines / 2:.0f} lines/s read, {size / 2**20:.1f} MiB kept, {cost:.0%} of a processor, ", end="")
    print(f"longest stall {longest * 1000:.0f} ms")
    assert flood.lines <= 20_000 * 4
    assert size <= 4 * 1.2 * 2**20
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < 50 * 1024
    assert longest < 0.5
    assert (await book.tail("web", 1, stream=Stream.MUELLE)).entries, "it says that lines were dropped"
