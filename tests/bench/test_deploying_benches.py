"""The benches of workloads run, in a size that says nothing about speed; what they count has to be right even so."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bench import deploys, docker, scale, speed
from bench.figure import Figure, Verdict
from bench.ground import TINY, Ground
from bench.services.visitor import Seen
from tests.servers.plugin import RUN

COUNTED = ("failed requests", "for the right reason", "good ones serving", "something else")
ON_DOCKER = (deploys.measure, speed.of_an_image, speed.of_a_redeploy)
WITHOUT = (speed.of_a_process, scale.measure)
Bench = Callable[[Ground], Iterator[Figure]]


@pytest.fixture
def ground(tmp_path: Path, pytestconfig: pytest.Config) -> Ground:
    return Ground(tmp_path, tmp_path / "logs", pytestconfig.stash[RUN], TINY, seed=7)


@pytest.mark.needs("docker")
@pytest.mark.parametrize("measure", ON_DOCKER)
def test_a_bench_on_docker_measures_all_that_it_promises(measure: Bench, ground: Ground) -> None:
    if lack := docker.lack():
        pytest.skip(lack)
    measures_well(measure, ground)


@pytest.mark.parametrize("measure", WITHOUT)
def test_a_bench_without_docker_measures_all_that_it_promises(measure: Bench, ground: Ground) -> None:
    measures_well(measure, ground)


def measures_well(measure: Bench, ground: Ground) -> None:
    figures = list(measure(ground))
    assert figures
    for figure in figures:
        if figure.note.startswith("needs Flask"):
            pytest.skip(figure.note)
        assert figure.verdict not in (Verdict.NOT_MEASURED, Verdict.FAILED), f"{figure.name}: {figure.note}"
        if figure.name.endswith(COUNTED):
            assert figure.verdict is Verdict.PASS, f"{figure.name}: {figure.value}, {figure.note}"


def test_without_docker_the_rest_is_said_to_be_lacking(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(docker, "lack", lambda: "needs docker: there is none")
    (missing,) = deploys.measure(ground)
    assert missing.verdict is Verdict.NOT_MEASURED
    assert not missing.missed


def test_a_bad_release_that_is_called_good_is_short() -> None:
    seen = Seen(made=2, failed=0, took_ms=[1.0, 2.0])
    told = [
        deploys.Deployed("never-listens", 2, "good", "", 4.0),
        deploys.Deployed("wrong-port", 3, "bad", "ended", 4.0),
        deploys.Deployed("answers-500", 4, "bad", "answers_error", 16.0),
    ]
    outcome = deploys.Outcome(1, [*told, deploys.Deployed("good-1", 5, "good", "", 4.0)], [1.0], [], seen)
    figures = {figure.name: figure for figure in deploys.figures_of(outcome)}
    bad = figures["deploys, bad ones called bad for the right reason"]
    assert (bad.value, bad.verdict) == (1, Verdict.SHORT)
    assert "never-listens: good" in bad.note
    assert figures["deploys, good ones serving"].verdict is Verdict.PASS
