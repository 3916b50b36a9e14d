"""No dark second: a workload is asked 100 times a second while good and bad releases come and go.

On a real Docker engine. Each bad release is ill in one of six ways; it has to be called bad, with the right reason, and
nobody who asks may notice that it was there. Then the way back: among five releases that were good, in random order,
timed to the first answer of the one that was wanted, which has to be the same image with the same environment as then.

Times of a verdict count from the moment at which the deployment was asked for, and are as exact as asking every 50 ms.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bench import docker
from bench.docker import Docker
from bench.figure import Figure, at_most, exactly, not_measured, percentile
from bench.ground import Fleet, Ground
from bench.program import Program, ProgramFailed
from bench.services.visitor import Seen, Visits
from bench.tenant import Cloud, Tenant, cloud_on, tenant, until, visit

PER_SECOND = 100
VERDICT_SECONDS = 20.0
ROLLBACK_SECONDS = 3.0
WAITS_SECONDS = 120.0
ASKS_EVERY_SECONDS = 0.01
STARTS_WITHIN_SECONDS = 10.0
RELEASES = 5
LIMITS = {"cpu_millis": 1000, "memory_mib": 64}
NAME = "shop"
ILL = {
    "crashes-at-once": "ended",
    "crashes-after-a-while": "ended",
    "eats-memory": "out_of_memory",
    "never-listens": "not_listening",
    "wrong-port": "not_listening",
    "answers-500": "answers_error",
}
"""How a release can be ill, and the code of the reason that it has to be called bad for."""
DOCKERFILE = """FROM python:3.12-slim
COPY behaves.py /behaves.py
ENV MADE_AS={tag} PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
EXPOSE 8000
CMD ["python", "/behaves.py", "{how}"]
"""


def measure(ground: Ground) -> Iterator[Figure]:
    if lack := docker.lack():
        yield not_measured("deploys", lack)
        return
    with Docker() as hand:
        images = images_of(ground, hand, _tags(ground.size.fleet))
        with cloud_on(ground, "docker") as cloud:
            outcome = asyncio.run(_trial(ground, cloud, images))
    yield from figures_of(outcome)


@dataclass(frozen=True)
class Deployed:
    how: str
    number: int
    verdict: str
    code: str
    seconds: float


@dataclass
class Outcome:
    asked: int
    deployed: list[Deployed] = field(default_factory=list)
    rollback_seconds: list[float] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    """Releases that came back as something else than they had been."""
    seen: Seen = field(default_factory=Seen)


def _tags(fleet: Fleet) -> Sequence[str]:
    """As many good ones as are gone back to, and those ill ones that are wanted."""
    good = [f"good-{number}" for number in range(min(RELEASES, fleet.good + 1))]
    return [*good, *list(ILL)[: fleet.bad]]


def images_of(ground: Ground, hand: Docker, tags: Sequence[str]) -> dict[str, str]:
    """References of images by tag."""
    ground.say(f"building {', '.join(tags)}")
    return {tag: hand.build(_source(ground.folder / tag, tag), tag) for tag in tags}


def _source(folder: Path, tag: str) -> Path:
    folder.mkdir()
    shutil.copy(Path(__file__).parent / "services" / "behaves.py", folder)
    how = "good" if tag.startswith("good") else tag
    (folder / "Dockerfile").write_text(DOCKERFILE.format(tag=tag, how=how))
    return folder


async def _trial(ground: Ground, cloud: Cloud, images: dict[str, str]) -> Outcome:
    async with tenant(cloud) as ana:
        trial = _Trial(ground, ana, images)
        id = await ana.make(NAME, **trial.wanted("good-0"))
        trial.id = id
        await ana.becomes(id, "running", serving=1)
        trial.known[1] = await until(trial.answers, "the first release's answer")
        try:
            with Program.python(ground.folder / "visitor.log", "-m", "bench.services.visitor", trial.visits) as visitor:
                visitor.hear("ready", STARTS_WITHIN_SECONDS)
                await trial.deploys()
                await trial.rolls_back()
            trial.outcome.seen = Seen(**json.loads(trial.seen.read_text()))
        finally:
            trial.write_down()
        return trial.outcome


class _Trial:
    def __init__(self, ground: Ground, ana: Tenant, images: dict[str, str]) -> None:
        self._ground = ground
        self._ana = ana
        self._images = images
        self._good = itertools.cycle(tag for tag in images if tag.startswith("good"))
        self._turn = 0
        self.known: dict[int, dict[str, str]] = {}
        """What good releases answered when they were new, by number."""
        self.id = ""
        self.seen = ground.folder / "seen.json"
        self.outcome = Outcome(ground.size.fleet.good)
        next(self._good)

    @property
    def visits(self) -> str:
        host, port = self._ana.host(NAME), self._ana.cloud.apps_port
        return json.dumps(asdict(Visits(port, host, PER_SECOND, '"how": "good"', str(self.seen))))

    def wanted(self, tag: str) -> dict[str, Any]:
        self._turn += 1
        image = self._images[tag]
        return {"image": image, "environment": {"TURN": str(self._turn)}, "limits": LIMITS, "port": 8000}

    async def answers(self) -> dict[str, str] | None:
        """What the workload says through the ingress, if it is well."""
        status, body = await visit(self._ana.cloud.apps_port, self._ana.host(NAME))
        return dict(json.loads(body)) if status == 200 else None

    async def deploys(self) -> None:
        """Good and bad ones in turn, each to its end."""
        fleet = self._ground.size.fleet
        ill = itertools.islice(itertools.cycle(ILL), fleet.bad)
        for good, bad in itertools.zip_longest(range(fleet.good), ill):
            if bad is not None:
                await self._deploy(bad, "bad")
            if good is not None:
                await self._deploy(next(self._good), "good")

    async def _deploy(self, tag: str, expected: str) -> None:
        before = await self._newest()
        began = time.monotonic()
        await self._ana.post(f"/workloads/{self.id}/deploy", self.wanted(tag))

        async def judged() -> dict[str, Any] | None:
            found = await self._newest()
            return found if found["number"] > before["number"] and found["verdict"] != "unproven" else None

        release = await until(judged, f"a verdict of {tag}", WAITS_SECONDS)
        seconds = time.monotonic() - began
        number, verdict, code = release["number"], release["verdict"], release["why"]["code"]
        self.outcome.deployed.append(Deployed(tag, number, verdict, code, seconds))
        self._ground.say(f"{tag}: {verdict} {code} after {seconds:.1f} s")
        if expected == "good" and verdict == "good":
            self.known[number] = await until(self._turn_answers, f"an answer of release {number}")

    async def _turn_answers(self) -> dict[str, str] | None:
        said = await self.answers()
        return said if said and said["turn"] == str(self._turn) else None

    async def _newest(self) -> dict[str, Any]:
        releases = await self._ana.get(f"/workloads/{self.id}/releases")
        return dict(max(releases, key=lambda release: release["number"]))

    async def rolls_back(self) -> None:
        among = sorted(self.known)[-RELEASES:]
        dice, present = random.Random(self._ground.seed), among[-1]
        for _ in range(self._ground.size.fleet.rollbacks):
            present = dice.choice([number for number in among if number != present])
            await self._roll_back(present)

    async def _roll_back(self, number: int) -> None:
        turn = self.known[number]["turn"]
        began = time.monotonic()
        await self._ana.post(f"/workloads/{self.id}/rollback", {"release": number})

        async def answers() -> dict[str, str] | None:
            said = await self.answers()
            return said if said and said["turn"] == turn else None

        said = await until(answers, f"an answer of release {number}", pause=ASKS_EVERY_SECONDS)
        seconds = time.monotonic() - began
        self.outcome.rollback_seconds.append(seconds)
        self._ground.say(f"back to release {number}: {seconds:.2f} s")
        if said != self.known[number]:
            self.outcome.others.append(f"release {number} was {self.known[number]}, is {said}")

    def write_down(self) -> None:
        """What happened when, for who wants to know why a figure is what it is."""
        logs = self._ground.logs
        logs.mkdir(parents=True, exist_ok=True)
        seen = vars(self.outcome.seen)
        told = {key: seen[key] for key in ("made", "failed", "kinds", "failures")}
        deployed = [asdict(each) for each in self.outcome.deployed]
        text = {"visits": told, "deployed": deployed, "rollbacks": self.outcome.rollback_seconds}
        (logs / "deploys.json").write_text(json.dumps(text, indent=1))


def figures_of(outcome: Outcome) -> Iterator[Figure]:
    seen = outcome.seen
    good = [each for each in outcome.deployed if each.how.startswith("good")]
    bad = [each for each in outcome.deployed if not each.how.startswith("good")]
    kinds = "".join(f"; {count} of {what}" for what, count in seen.kinds.items())
    yield Figure("deploys, failed requests", "", seen.failed, exactly(0), note=f"of {seen.made}{kinds}")
    yield Figure("deploys, request p99", "ms", percentile(seen.took_ms, 99), note=f"longest {max(seen.took_ms):.0f} ms")
    right = [each for each in bad if (each.verdict, each.code) == ("bad", ILL[each.how])]
    wrong = "; ".join(f"{each.how}: {each.verdict} {each.code}" for each in bad if each not in right)
    yield Figure("deploys, bad ones called bad for the right reason", "", len(right), exactly(len(bad)), note=wrong)
    yield Figure("deploys, POST to the verdict bad, longest", "s", *_longest(bad), note=_by_kind(bad))
    well = sum(each.verdict == "good" for each in good)
    note = "; ".join(f"{each.how}: {each.verdict} {each.code}" for each in good if each.verdict != "good")
    yield Figure("deploys, good ones serving", "", well, exactly(outcome.asked), note=note)
    took = outcome.rollback_seconds
    note = f"p50 {percentile(took, 50):.2f} s, longest {max(took):.2f} s, of {len(took)}"
    yield Figure("rollback, POST to first answer, p95", "s", percentile(took, 95), at_most(ROLLBACK_SECONDS), note=note)
    others = outcome.others
    yield Figure("rollbacks to something else", "", len(others), exactly(0), note="; ".join(others[:3]))


def _longest(bad: Sequence[Deployed]) -> tuple[float, Any]:
    if not bad:
        raise ProgramFailed("no bad release was deployed")
    return max(each.seconds for each in bad), at_most(VERDICT_SECONDS)


def _by_kind(bad: Sequence[Deployed]) -> str:
    longest = {how: [each.seconds for each in bad if each.how == how] for how in ILL}
    return ", ".join(f"{how} {max(took):.1f} s" for how, took in longest.items() if took)
