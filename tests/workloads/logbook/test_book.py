"""Logs outlive the program: kept in order, found again, bounded, and never told twice."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import timedelta
from pathlib import Path

import pytest

from muelle.kit.clock import MovableClock
from muelle.workloads.logbook import Kept, LogBook, LogsUnwritable, Skipped, Stream
from tests.waiting import eventually
from tests.workloads.logbook.lines import START, entries, entry, texts

FULL = 10_000


def opened(folder: Path, segment: int = 2_000, kept: int = 20_000) -> LogBook:
    return LogBook(folder, MovableClock(), segment, kept)


@pytest.fixture
async def book(tmp_path: Path) -> AsyncIterator[LogBook]:
    book = opened(tmp_path)
    yield book
    await book.close()


async def all_of(book: LogBook, workload: str = "web", limit: int = 7, **wanted: object) -> list[Kept]:
    found: list[Kept] = []
    after = None
    while True:
        page = await book.read(workload, after, limit, **wanted)  # type: ignore[arg-type]
        found += page.entries
        if page.next is None:
            return found
        after = page.next


async def test_lines_come_back_in_order_a_page_at_a_time(book: LogBook) -> None:
    last = await book.append("web", entries(100))
    found = await all_of(book)
    assert [kept.entry for kept in found] == entries(100)
    cursors = [kept.cursor for kept in found]
    assert cursors == list(range(cursors[0], cursors[0] + 100))
    assert last == cursors[-1] == await book.last("web")
    page = await book.read("web", cursors[97])
    assert (texts(page.entries), page.next, page.upto) == (["line 98", "line 99"], None, cursors[-1])
    assert texts((await book.read("web", cursors[9], before=cursors[12])).entries) == ["line 10", "line 11"]
    assert (await book.read("web", cursors[-1] + 1000)).upto == cursors[-1]


async def test_whatever_a_program_writes_is_one_line(book: LogBook) -> None:
    written = ["", " \t tabs\tand more\t", "line\nend\r", "ñandú 🐚 \x1b[31mred\x00", "\ud800", "x" * 20_000, "\u2028"]
    await book.append("web", [entry(text) for text in written])
    told = texts(await all_of(book))
    assert told == [*written[:2], "line end\r", written[3], "?", "x" * 16_384, "\u2028"]
    await book.append("web", [entry("hello", instance="a\tb\nc")])
    assert (await book.tail("web", 1)).entries[0].entry.instance == "a_b_c"


async def test_the_last_lines_are_read_from_the_end(book: LogBook, tmp_path: Path) -> None:
    for start in range(0, 200, 20):
        await book.append("web", entries(20, start))
    segments = sorted((tmp_path / "web").glob("*.log"), key=lambda path: int(path.stem))
    assert len(segments) > 4
    assert texts((await book.tail("web", 3)).entries) == ["line 197", "line 198", "line 199"]
    everything = await book.tail("web", 1_000)
    assert texts(everything.entries) == [f"line {number}" for number in range(200)]
    middle = everything.entries[100].cursor
    assert texts((await book.tail("web", 2, before=middle)).entries) == ["line 98", "line 99"]
    assert texts((await book.tail("web", 2, contains="LINE 1")).entries) == ["line 198", "line 199"]
    for segment in segments[:-2]:
        segment.unlink()  # what it does not need it does not miss
    assert texts((await book.tail("web", 3)).entries) == ["line 197", "line 198", "line 199"]


async def test_blocks_and_lines_of_any_length_fit_together(tmp_path: Path) -> None:
    book = opened(tmp_path, 10**6, 10**8)
    lengths = [0, 1, 16_000, 65_000, 3, 16_384, 16_384, 16_384, 16_384, 16_384, 7] * 5
    written = [f"{number:03}" + "é" * length for number, length in enumerate(lengths)]
    await book.append("web", [entry(text) for text in written])
    cut = [text[:16_384] for text in written]
    assert texts(await all_of(book)) == cut
    assert texts((await book.tail("web", 1_000)).entries) == cut
    await book.close()


async def test_lines_are_found_by_text_time_stream_and_release(book: LogBook) -> None:
    await book.append("web", entries(50))
    await book.append("web", [entry("Straße FEHLER", 60, release=2, stream=Stream.ERR), entry("100% [a.b]*", 61)])
    assert texts(await all_of(book, contains="LINE 4")) == ["line 4", *(f"line {n}" for n in range(40, 50))]
    assert texts(await all_of(book, contains="strasse fehler")) == ["Straße FEHLER"]
    assert texts(await all_of(book, contains="[A.B]*")) == ["100% [a.b]*"]
    assert await all_of(book, contains="muelle-web") == []  # the instance's name is not what it wrote
    assert texts(await all_of(book, stream=Stream.ERR)) == texts(await all_of(book, release=2)) == ["Straße FEHLER"]
    since, until = START + timedelta(seconds=10), START + timedelta(seconds=13)
    assert texts(await all_of(book, since=since, until=until)) == ["line 10", "line 11", "line 12"]
    assert texts((await book.tail("web", 2, until=until)).entries) == ["line 11", "line 12"]
    empty = await book.read("web", contains="nowhere", limit=1)
    assert (empty.entries, empty.next, empty.upto) == ((), None, await book.last("web"))


async def test_a_search_leaves_alone_what_its_time_excludes(tmp_path: Path) -> None:
    book = opened(tmp_path)
    for start in range(0, 200, 20):
        await book.append("web", entries(20, start))
    await book.close()
    first = min((tmp_path / "web").glob("*.log"), key=lambda path: int(path.stem))
    lied = first.read_bytes().replace(b"2026-01-01T00:00", b"2026-01-01T00:03")
    first.write_bytes(lied)  # it would be found if it were looked for: the index knows better
    book = opened(tmp_path)
    since = START + timedelta(seconds=198)
    assert texts(await all_of(book, since=since)) == ["line 198", "line 199"]
    await book.close()


async def test_what_is_oldest_is_dropped_and_its_cursors_never_come_back(tmp_path: Path) -> None:
    book = opened(tmp_path)
    first = await book.append("web", entries(1))
    assert first is not None
    for start in range(1, 1001, 20):
        await book.append("web", entries(20, start))
        assert await book.size("web") <= 20_000
    assert await book.size() == await book.size("web")
    page = await book.read("web", first, 1)
    assert page.entries[0].cursor == first + page.skipped + 1
    assert page.entries[0].entry.text == f"line {page.skipped + 1}"
    assert page.skipped > 500
    assert (await book.read("web", 12)).skipped == page.skipped + 1  # no cursor of ours: from the beginning on
    await book.bound(["web"], 0)
    assert await book.size() == 0
    for _ in range(2):
        await book.close()
        book = opened(tmp_path)
        assert (await book.read("web", first)).skipped == 1000
        assert await book.last("web") == first + 1000
    assert await book.append("web", entries(1)) == first + 1001
    await book.close()


async def test_an_owner_s_workloads_are_bounded_together(book: LogBook) -> None:
    for number in range(5):
        for start in range(0, 100, 20):
            await book.append(f"web{number}", entries(20, 1000 * number + start))
    before = {number: await book.size(f"web{number}") for number in range(5)}
    await book.bound(["web0", "web1", "web2", "nothing"], 10_000)
    sizes = {number: await book.size(f"web{number}") for number in range(5)}
    assert sizes[0] < sizes[2] == before[2]  # the oldest went first
    assert sizes[0] + sizes[1] + sizes[2] <= 10_000
    assert (sizes[3], sizes[4]) == (before[3], before[4])


async def test_dropped_means_dropped(book: LogBook, tmp_path: Path) -> None:
    last = await book.append("web", entries(10))
    assert last is not None
    following = asyncio.create_task(_collected(book, last))
    await eventually(lambda: book._recent)
    await book.drop("web")
    await book.drop("web")
    assert await following == []
    assert list(tmp_path.iterdir()) == []
    assert (await book.read("web")).entries == (await book.tail("web")).entries == ()
    anew = await book.append("web", entries(1))
    assert anew is not None
    assert anew > last


async def test_what_does_not_exist_leaves_no_trace(book: LogBook, tmp_path: Path) -> None:
    assert (await book.read("nothing", 7)).upto == 7
    assert await book.last("nothing") is await book.position("nothing", "a") is None
    assert await book.size("nothing") == await book.size() == 0
    assert book._timelines == {}
    assert list(tmp_path.iterdir()) == []
    for id in ("..", "a/b", "", "a" * 200, ".hidden"):
        with pytest.raises(ValueError, match="no workload's id"):
            await book.read(id)


async def test_a_disk_that_is_full_keeps_all_or_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    book = opened(tmp_path)
    await book.append("web", entries(5))
    real = os.pwrite

    def full(handle: int, data: memoryview, place: int) -> int:
        if len(data) > 40:
            return real(handle, data[:40], place)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    monkeypatch.setattr(os, "ftruncate", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(LogsUnwritable, match="No space left"):
        await book.append("web", entries(5, 5))
    monkeypatch.undo()
    assert len(await all_of(book)) == 5
    await book.append("web", entries(5, 10))
    assert texts(await all_of(book)) == [f"line {n}" for n in (0, 1, 2, 3, 4, 10, 11, 12, 13, 14)]
    await book.close()


@pytest.mark.parametrize("state", ["kept", "lost", "nonsense"])
async def test_a_restart_knows_all_again_and_cuts_a_torn_line(tmp_path: Path, state: str) -> None:
    book = opened(tmp_path)
    for start in range(0, 120, 20):
        await book.append("web", entries(20, start))
    found = await all_of(book)
    position = await book.position("web", "muelle-web-1-1")
    await book.close()
    last = max((tmp_path / "web").glob("*.log"), key=lambda path: int(path.stem))
    with open(last, "ab") as file:
        file.write(b"2026-01-01T00:05:00.000000Z\t1\tmuelle-web-1-1\tout\tcut in the mid")
    if state == "lost":
        (tmp_path / "web" / "state.json").unlink()
    elif state == "nonsense":
        (tmp_path / "web" / "state.json").write_text('{"upto": [], "segments": {"x": 1}}')
    book = opened(tmp_path)
    assert await all_of(book) == found
    assert await book.position("web", "muelle-web-1-1") == position
    assert await book.append("web", entries(1, 120)) == found[-1].cursor + 1
    assert texts(await all_of(book)) == [f"line {number}" for number in range(121)]
    await book.close()


async def test_files_that_somebody_meddled_with_do_no_harm(tmp_path: Path) -> None:
    book = opened(tmp_path)
    for start in range(0, 120, 20):
        await book.append("web", entries(20, start))
    first, second, *_, last = sorted((tmp_path / "web").glob("*.log"), key=lambda path: int(path.stem))
    first.write_bytes(b"\0" * 30 + b"\nrubbish\xff\n" + first.read_bytes())
    second.unlink()
    os.truncate(last, 100)
    (tmp_path / "web" / "notes.log").write_text("not ours")
    assert await book.append("web", entries(1, 500)) is not None
    assert "line 500" in texts(await all_of(book))
    await book.close()
    book = opened(tmp_path)
    assert texts(await all_of(book))[:3] == ["this line cannot be read any more"] * 2 + ["line 0"]
    assert "line 500" in texts(await all_of(book))
    await book.close()


WRITER = """
import asyncio, sys
from pathlib import Path
from muelle.kit.clock import SystemClock
from muelle.workloads.logbook import LogBook
from tests.workloads.logbook.lines import entries

async def main():
    book, number = LogBook(Path(sys.argv[1]), SystemClock(), 200_000, 10**8), int(sys.argv[2])
    while True:
        last = await book.append("web", entries(500, number))
        number += 500
        print(number, last, flush=True)

asyncio.run(main())
"""


async def test_killed_in_the_middle_of_writing_it_loses_nothing_that_was_kept(tmp_path: Path) -> None:
    done, last = 0, 0
    for turn in range(3):
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path), str(done)], stdout=subprocess.PIPE
        ) as writer:
            assert writer.stdout is not None
            for _ in range(10 + 7 * turn):
                done, last = map(int, writer.stdout.readline().split())
            writer.send_signal(signal.SIGKILL)
            rest = writer.stdout.read().split(b"\n")[:-1]
        if rest:
            done, last = map(int, rest[-1].split())
        book = opened(tmp_path, 200_000, 10**8)
        kept = await all_of(book, limit=5_000)
        assert len(kept) >= done
        assert kept[done - 1].cursor == last
        assert texts(kept) == [f"line {number}" for number in range(len(kept))]
        assert kept[-1].cursor - kept[0].cursor == len(kept) - 1
        done = len(kept)
        await book.close()


# --- followers


async def _collected(book: LogBook, after: int | None, count: int = FULL, pause: float = 0) -> list[Kept | Skipped]:
    found: list[Kept | Skipped] = []
    async with aclosing(book.follow("web", after)) as items:
        async for item in items:
            found.append(item)
            if isinstance(item, Kept) and item.entry.text == f"line {count - 1}":
                break
            if pause:
                await asyncio.sleep(pause)
    return found


def without_a_gap(items: list[Kept | Skipped], last: int) -> None:
    """Each cursor once and in order, what was skipped told by its number, up to the end."""
    expected: int | None = None
    for item in items:
        if isinstance(item, Skipped):
            assert expected is None or item.lines > 0
            expected = None if expected is None else expected + item.lines
        else:
            assert expected is None or item.cursor == expected
            expected = item.cursor + 1
    assert expected == last + 1


async def test_followers_miss_nothing_and_see_nothing_twice(tmp_path: Path) -> None:
    book = opened(tmp_path, 20_000, 10**7)
    first = await book.append("web", entries(1))

    async def write() -> None:
        for start in range(1, FULL, 37):
            await book.append("web", entries(min(37, FULL - start), start))

    async def follow_later(turn: int) -> list[Kept | Skipped]:
        await eventually(lambda: _at_least(book, first, turn * 1000))
        return await _collected(book, None if turn % 2 else first)

    *found, _ = await asyncio.gather(*(follow_later(turn) for turn in range(8)), write())
    last = await book.last("web")
    assert last is not None
    for turn, items in enumerate(found):
        without_a_gap(items, last)
        assert len(items) == (FULL if turn % 2 else FULL - 1)
    assert book._recent == {}
    await book.close()


async def _at_least(book: LogBook, first: int | None, count: int) -> bool:
    return (await book.last("web") or 0) - (first or 0) >= count


async def test_a_follower_that_falls_behind_is_told_how_much_it_missed(tmp_path: Path) -> None:
    book = opened(tmp_path)
    await book.append("web", entries(10))
    items = book.follow("web")
    assert isinstance(await anext(items), Kept)
    for start in range(10, 3000, 10):
        await book.append("web", entries(10, start))
    found: list[Kept | Skipped] = []
    while not (found and isinstance(found[-1], Kept) and found[-1].entry.text == "line 2999"):
        found.append(await anext(items))
    await items.aclose()
    skipped = [item for item in found if isinstance(item, Skipped)]
    assert len(skipped) == 1
    assert skipped[0].lines > 2000
    assert len(found) - 1 + skipped[0].lines + 1 == 3000
    without_a_gap(found, await book.last("web") or 0)
    await book.close()


async def test_a_follower_of_nothing_is_there_when_something_comes(book: LogBook) -> None:
    following = asyncio.create_task(_collected(book, None, 30))
    await eventually(lambda: book._recent)
    await book.append("web", entries(30))
    assert len(await following) == 30


async def test_a_follower_who_waits_does_nothing(book: LogBook, monkeypatch: pytest.MonkeyPatch) -> None:
    last = await book.append("web", entries(3))
    following = asyncio.create_task(_collected(book, last, 100))
    await eventually(lambda: book._recent)
    await book.append("web", entries(1, 3))
    await book.append("other", entries(1))
    read = 0

    async def counted(*_: object, **__: object) -> None:
        nonlocal read
        read += 1

    monkeypatch.setattr(book, "read", counted)  # from now on the files are none of its business
    for start in range(4, 100, 4):
        await book.append("web", entries(4, start))
    assert len(await following) == 97
    assert read == 0


async def test_a_cancelled_append_is_kept_as_a_whole(book: LogBook) -> None:
    for start in range(0, 100, 10):
        task = asyncio.create_task(book.append("web", entries(10, start)))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    await eventually(lambda: _at_least(book, 0, 1))
    kept = await eventually(lambda: _all_hundred(book))
    assert sorted(texts(kept)) == sorted(f"line {number}" for number in range(100))


async def _all_hundred(book: LogBook) -> list[Kept]:
    found = await all_of(book)
    return found if len(found) == 100 else []


# --- what it costs


async def test_a_thousand_workloads_need_no_more_open_files_than_one(book: LogBook) -> None:
    before = len(os.listdir("/proc/self/fd"))
    began = time.perf_counter()
    for start in range(0, 60, 20):
        await asyncio.gather(*(book.append(f"web{number}", entries(20, start)) for number in range(1000)))
    seconds = time.perf_counter() - began
    assert len(os.listdir("/proc/self/fd")) <= before + 10  # what its threads hold for a moment
    print(f"3,000 batches of 20 lines to 1,000 workloads: {seconds:.2f} s")
    assert len(await all_of(book, "web999", 60)) == 60


async def test_a_search_through_everything_keeps_nobody_waiting(tmp_path: Path) -> None:
    book = LogBook(tmp_path, MovableClock())
    for start in range(0, 120_000, 4_000):
        await book.append("web", entries(4_000, start))
    ticks, longest = 0, 0.0
    began = last = time.perf_counter()
    search = asyncio.create_task(book.read("web", contains="line 11999", limit=100))
    while not search.done():
        await asyncio.sleep(0.001)
        now = time.perf_counter()
        ticks, longest, last = ticks + 1, max(longest, now - last), now
    page = await search
    assert len(page.entries) == 11
    found = time.perf_counter() - began
    assert ticks
    assert longest < max(0.1, found / 2)
    began = time.perf_counter()
    assert texts((await book.tail("web", 1)).entries) == ["line 119999"]
    print(f"search {await book.size() / 2**20:.1f} MiB: {found:.3f} s, longest stall {longest * 1000:.0f} ms; ", end="")
    print(f"tail: {(time.perf_counter() - began) * 1000:.1f} ms")
    await book.close()
