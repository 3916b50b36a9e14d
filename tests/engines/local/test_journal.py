"""What instances write, kept in two files that take turns."""

from __future__ import annotations

from pathlib import Path

import pytest

from muelle.engines.local import journal
from muelle.engines.local.journal import Journal, Lines, Position, Record, read
from muelle.engines.protocol import LONGEST_LINE


def everything(folder: Path, position: Position | None = None) -> tuple[list[Record], Position]:
    found: list[Record] = []
    at = position or Position()
    while True:
        records, at = read(folder, at)
        if not records:
            return found, at
        found += records


def test_lines_are_read_as_they_were_written(tmp_path: Path) -> None:
    writer = Journal(tmp_path)
    writer.take("out", b"one\ntw", 1)
    writer.take("err", b"bad\r\n\n", 2)
    writer.take("out", b"o  2 out x\nrest", 3)
    writer.close(4)
    assert everything(tmp_path)[0] == [
        Record(1, "out", "one"),
        Record(2, "err", "bad"),
        Record(2, "err", ""),
        Record(3, "out", "two  2 out x"),
        Record(4, "out", "rest"),
    ]


def test_a_character_that_comes_in_pieces_is_whole_and_a_broken_one_is_marked() -> None:
    lines = Lines()
    ship = "🚢".encode()
    assert lines.feed(ship[:2]) == []
    assert lines.feed(ship[2:] + b"\n\xff!\n") == ["🚢", "\ufffd!"]
    assert lines.feed(ship[:3]) == []
    assert lines.rest() == ["\ufffd"]


def test_a_line_without_end_is_cut_and_nothing_is_lost() -> None:
    lines = Lines()
    found = lines.feed(b"a" * (2 * LONGEST_LINE + 5)) + lines.feed(b"b\n") + lines.rest()
    assert [len(line) for line in found] == [LONGEST_LINE, LONGEST_LINE, 6]
    assert journal.LONGEST_LINE == LONGEST_LINE


def test_it_is_bounded_and_a_follower_misses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "FILE_BYTES", 1000)
    writer = Journal(tmp_path)
    seen: list[Record] = []
    position = Position()
    for number in range(500):
        writer.take("out", f"line {number}\n".encode(), number)
        if number % 17 == 0:
            more, position = everything(tmp_path, position)
            seen += more
    more, position = everything(tmp_path, position)
    assert [record.at_micros for record in seen + more] == list(range(500))
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 2000
    late, _ = everything(tmp_path)
    assert late[-1].text == "line 499"
    writer.close(500)


def test_a_line_that_a_power_cut_has_torn_spoils_no_other(tmp_path: Path) -> None:
    (tmp_path / journal.CURRENT).write_bytes(b"1 out whole\n2 out to")
    writer = Journal(tmp_path)
    writer.take("out", b"next\n", 3)
    writer.close(4)
    assert [record.text for record in everything(tmp_path)[0]] == ["whole", "to", "next"]
