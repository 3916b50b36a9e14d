"""Whatever happens in whatever order: each line that is kept is told exactly once, in order, by a cursor of its own."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Coroutine
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from muelle.kit.clock import MovableClock
from muelle.workloads.logbook import Entry, Kept, LogBook, Stream
from muelle.workloads.logbook.lines import write
from tests.workloads.logbook.lines import START, entry

Answer = TypeVar("Answer")

WORKLOADS = st.sampled_from(["web", "api"])
TEXTS = st.text(st.characters(exclude_characters="\n", exclude_categories=["Cs"]), max_size=40)
LINES = st.lists(
    st.builds(
        entry,
        TEXTS,
        st.integers(0, 50),
        st.integers(1, 3),
        st.sampled_from(["one", "two"]),
        st.sampled_from(list(Stream)),
    ),
    min_size=1,
    max_size=12,
)


@dataclass
class Told:
    """What was ever kept of a workload, and from which cursor on it still has to be there."""

    lines: list[tuple[int, Entry]] = field(default_factory=list)
    highest: int = 0
    forgotten: bool = False
    """Without the state it is not known how many lines there once were before the first that is kept."""


class Disorder(RuleBasedStateMachine):
    @initialize(segment=st.integers(1, 600), kept=st.integers(500, 3_000))
    def open(self, segment: int, kept: int) -> None:
        self.loop = asyncio.new_event_loop()
        self.folder = Path(tempfile.mkdtemp())
        self.clock = MovableClock()
        self.bounds = segment, kept
        self.told = {"web": Told(), "api": Told()}
        self.book = LogBook(self.folder, self.clock, *self.bounds)

    def teardown(self) -> None:
        if hasattr(self, "book"):
            self.run(self.book.close())
            self.loop.close()
            shutil.rmtree(self.folder)

    def run(self, work: Coroutine[Any, Any, Answer]) -> Answer:
        return self.loop.run_until_complete(work)

    @rule(workload=WORKLOADS, lines=LINES)
    def append(self, workload: str, lines: list[Entry]) -> None:
        told = self.told[workload]
        last = self.run(self.book.append(workload, lines))
        assert last is not None
        first = last - len(lines) + 1
        assert first > told.highest
        assert not told.lines or first == told.lines[-1][0] + 1
        told.lines += [(first + place, line) for place, line in enumerate(lines)]
        told.highest = last
        self.clock.jump(0.001)

    @rule(workload=WORKLOADS)
    def drop(self, workload: str) -> None:
        self.run(self.book.drop(workload))
        self.told[workload].lines = []

    @rule(kept=st.integers(0, 2_000))
    def bound(self, kept: int) -> None:
        self.run(self.book.bound(["web", "api"], kept))
        assert self.run(self.book.size()) <= kept
        for workload, told in self.told.items():
            told.lines = told.lines[len(told.lines) - len(self.pages(workload, None, 100)[0]) :]

    @rule(torn=st.binary(max_size=60), forget=st.booleans())
    def die(self, torn: bytes, forget: bool) -> None:
        """Ends without a word, perhaps in the middle of writing a line; perhaps the state was not written either."""
        self.run(self.book.close())
        for folder in self.folder.iterdir():
            self.told[folder.name].forgotten |= forget
            if forget:
                (folder / "state.json").unlink(missing_ok=True)
            last = max(folder.glob("*.log"), key=lambda path: int(path.stem))
            with open(last, "ab") as file:
                file.write(torn.replace(b"\n", b""))
        self.book = LogBook(self.folder, self.clock, *self.bounds)

    @rule(workload=WORKLOADS, data=st.data(), limit=st.integers(1, 9))
    def read_from_anywhere(self, workload: str, data: st.DataObject, limit: int) -> None:
        lines = self.told[workload].lines
        if lines:
            place = data.draw(st.integers(0, len(lines) - 1))
            found, skipped = self.pages(workload, lines[place][0], limit)
            missing = len(lines) - place - 1 - len(found)
            assert skipped == missing or (self.told[workload].forgotten and skipped < missing)
            assert found == [Kept(*line) for line in lines[len(lines) - len(found) :]]

    @rule(workload=WORKLOADS, count=st.integers(1, 30), second=st.integers(0, 50), text=st.text("ab é", max_size=1))
    def look_for(self, workload: str, count: int, second: int, text: str) -> None:
        since = START + timedelta(seconds=second)
        every, _ = self.pages(workload, None, 1_000)
        right = [k for k in every if k.entry.at >= since and text in k.entry.text.casefold()]
        page = self.run(self.book.read(workload, limit=count, since=since, contains=text))
        assert list(page.entries) == right[:count]
        assert (page.next is None) == (len(right) <= count)
        assert list(self.run(self.book.tail(workload, count, since=since, contains=text)).entries) == right[-count:]

    @invariant()
    def what_is_kept_is_the_end_of_what_was_told(self) -> None:
        if not hasattr(self, "book"):
            return
        for workload, told in self.told.items():
            found, _ = self.pages(workload, None, 5)
            assert found == [Kept(*line) for line in told.lines[len(told.lines) - len(found) :]]
            if sum(len(write(line)) for _, line in told.lines) <= self.bounds[1]:
                assert len(found) == len(told.lines)
            assert found == list(self.run(self.book.tail(workload, 5_000)).entries)

    def pages(self, workload: str, after: int | None, limit: int) -> tuple[list[Kept], int]:
        found: list[Kept] = []
        skipped = 0
        while True:
            page = self.run(self.book.read(workload, after, limit))
            found += page.entries
            skipped += page.skipped
            if page.next is None:
                return found, skipped
            after = page.next


Disorder.TestCase.settings = settings(
    max_examples=40, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)
TestDisorder = Disorder.TestCase
