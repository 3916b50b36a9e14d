"""Every bench runs, in a size that says nothing about speed; what it counts has to be right even so."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bench import report
from bench.__main__ import FIGURES, measured
from bench.figure import Beside, Figure, Verdict, at_most, exactly, percentile, ratio_at_least
from bench.ground import TINY, Ground
from tests.servers import finding
from tests.servers.plugin import RUN

OF_WORKLOADS = ("deploys", "speed", "scale")
"""These need other servers, and have a test of their own beside this one."""
COUNTED = ("lost", "doubled", "never told", "effects", "distinct answers")


@pytest.fixture
def ground(tmp_path: Path, pytestconfig: pytest.Config) -> Ground:
    return Ground(tmp_path, tmp_path / "logs", pytestconfig.stash[RUN], TINY, seed=7)


@pytest.mark.needs("postgres", "rabbitmq")
@pytest.mark.parametrize("name", [name for name in FIGURES if name not in OF_WORKLOADS])
def test_a_bench_measures_all_that_it_promises(name: str, ground: Ground) -> None:
    if lack := ground.lack("postgres", "rabbitmq"):
        pytest.skip(f"{lack}, of its own")
    figures = list(measured(name, ground))
    assert figures
    for figure in figures:
        assert figure.verdict not in (Verdict.NOT_MEASURED, Verdict.FAILED), f"{figure.name}: {figure.note}"
        if figure.name.endswith(COUNTED):
            assert figure.verdict is Verdict.PASS, f"{figure.name}: {figure.value}, {figure.note}"


@pytest.mark.parametrize("name", ["events", "kills", "idempotency"])
def test_without_servers_the_rest_is_measured_all_the_same(
    name: str, ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nowhere(_name: str) -> str:
        return "there is none"

    monkeypatch.setattr(finding, "lack_of_own", nowhere)
    figures = list(measured(name, ground))
    (missing,) = [figure for figure in figures if figure.verdict is Verdict.NOT_MEASURED]
    assert missing.note.startswith("needs PostgreSQL")
    assert not missing.missed
    assert len(figures) > 1


def test_a_bench_that_breaks_is_told_and_counts_as_missed(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_ground: Ground) -> list[Figure]:
        raise OSError("no disk")

    monkeypatch.setattr("bench.me.measure", broken)
    (figure,) = measured("me", ground)
    assert figure.missed
    assert figure.note == "OSError: no disk"


@pytest.mark.parametrize(
    ("figure", "verdict"),
    [
        (Figure("a", "ms", 20.0, at_most(20)), Verdict.PASS),
        (Figure("a", "ms", 20.1, at_most(20)), Verdict.SHORT),
        (Figure("a", "", 0, exactly(0)), Verdict.PASS),
        (Figure("a", "", 1, exactly(0)), Verdict.SHORT),
        (Figure("a", "a second", 50, ratio_at_least(0.5), Beside("b", 100)), Verdict.PASS),
        (Figure("a", "a second", 49, ratio_at_least(0.5), Beside("b", 100)), Verdict.SHORT),
        (Figure("a", "a second", 49, ratio_at_least(0.5), Beside("b", 0)), Verdict.NOT_MEASURED),
        (Figure("a", "ms", 3.0), Verdict.NO_BAR),
        (Figure("a"), Verdict.NOT_MEASURED),
    ],
)
def test_a_verdict_comes_from_the_bar(figure: Figure, verdict: Verdict) -> None:
    assert figure.verdict is verdict


def test_a_percentile_is_a_value_that_was_measured() -> None:
    assert percentile(range(1, 101), 99) == 99
    assert percentile([3, 1, 2], 50) == 2
    assert percentile([5], 99) == 5


def test_a_report_says_the_same_to_people_and_to_programs() -> None:
    fast = Figure("speed", "ms", 2.5, at_most(2), Beside("bare", 1.25), "by night")
    figures = [fast, Figure("luck", note="needs Luck")]
    table = report.table(figures)
    for word in ("speed", "2.5 ms", "≤ 2 ms", "1.25 ms (bare)", "2.00", "short", "by night", "not measured", "Luck"):
        assert word in table
    written = json.loads(report.as_json(figures, "tiny", 7, datetime.now(UTC), report.machine()))
    assert written["figures"][0]["verdict"] == "short"
    assert written["figures"][1]["value"] is None
    assert written["machine"]["cores"] > 0
