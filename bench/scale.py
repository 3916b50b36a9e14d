"""What 1,000 running workloads cost while nothing happens to them, and how soon 200 people see a change.

On the fake engine, which is in the program itself: what it pretends is in the figures, with a socket for each workload.
The memory of the same program is taken before the first workload and after the last, with the same people signed up.
A change counts from the moment at which it was asked for to the moment at which a subscriber has been told another
phase. How long it takes until its end is told beside it: that is for the engine and the probe to say.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass, field

from bench.figure import Beside, Figure, at_most, percentile
from bench.ground import Fleet, Ground
from bench.program import Program, ProgramFailed, Weight, cpu_seconds, weight
from bench.services.listeners import Ears
from bench.tenant import Cloud, Tenant, tenant, until

CPU_SECONDS_A_MINUTE = 2.0
MORE_MIB = 60.0
TOLD_MS = 300.0
AT_ONCE = 8
RUNNING_WITHIN_SECONDS = 600.0
LOOKS_EVERY_SECONDS = 1.0
SETTLING_SECONDS = 15.0
"""Until all are proven, the way of their making is written, and garbage is gone."""
STARTS_WITHIN_SECONDS = 60.0
PAUSE_SECONDS = 0.5
IMAGE = "fake/web"
LIMITS = {"cpu_millis": 100, "memory_mib": 32}


def measure(ground: Ground) -> Iterator[Figure]:
    with Cloud(ground, "fake") as cloud:
        outcome = asyncio.run(_trial(ground, cloud))
    fleet = ground.size.fleet
    yield from _figures(outcome, fleet)


@dataclass
class Outcome:
    before: Weight
    after: Weight
    cpu_before: float
    """Seconds a minute, without workloads."""
    cpu: float
    all_run_seconds: float
    told_ms: list[float] = field(default_factory=list)
    """From asking for a change to another phase, for each subscriber."""
    ended_ms: dict[str, list[float]] = field(default_factory=dict)
    """From asking to the end of the change, by how it ends."""


async def _trial(ground: Ground, cloud: Cloud) -> Outcome:
    fleet = ground.size.fleet
    async with _people(cloud, fleet.owners) as people:
        await asyncio.sleep(min(SETTLING_SECONDS, fleet.quiet_seconds))
        cpu_before = await _cpu_a_minute(cloud, fleet.quiet_seconds / 2)
        before = weight(cloud.pid)
        ground.say(f"making {fleet.owners} times {fleet.each} workloads")
        began = time.monotonic()
        await _make(people, fleet.each)
        await until(lambda: _all_run(people, fleet.each), "all to run", RUNNING_WITHIN_SECONDS, LOOKS_EVERY_SECONDS)
        all_run_seconds = time.monotonic() - began
        ground.say(f"all run after {all_run_seconds:.0f} s; a quiet time of {fleet.quiet_seconds:g} s")
        await asyncio.sleep(min(SETTLING_SECONDS, 10 * fleet.quiet_seconds))
        cpu = await _cpu_a_minute(cloud, fleet.quiet_seconds)
        outcome = Outcome(before, weight(cloud.pid), cpu_before, cpu, all_run_seconds)
        await _tell(ground, people[0], outcome)
        return outcome


@asynccontextmanager
async def _people(cloud: Cloud, number: int) -> AsyncIterator[list[Tenant]]:
    async with AsyncExitStack() as stack:
        names = [f"person-{place}" for place in range(number)]
        yield [await stack.enter_async_context(tenant(cloud, name, place)) for place, name in enumerate(names)]


async def _make(people: Sequence[Tenant], each: int) -> None:
    turns = asyncio.Semaphore(AT_ONCE)

    async def make(person: Tenant, number: int) -> None:
        async with turns:
            await person.make(f"app-{number}", image=IMAGE, limits=LIMITS)

    await asyncio.gather(*(make(person, number) for number in range(each) for person in people))


async def _all_run(people: Sequence[Tenant], each: int) -> bool:
    for person in people:
        shown = (await person.get("/workloads?limit=100"))["items"]
        if failed := [one["why"] for one in shown if one["phase"] == "failed"]:
            raise ProgramFailed(f"{len(failed)} workloads failed: {failed[0]}")
        if sum(one["phase"] == "running" for one in shown) < each:
            return False
    return True


async def _cpu_a_minute(cloud: Cloud, seconds: float) -> float:
    used, began = cpu_seconds(cloud.pid), time.monotonic()
    await asyncio.sleep(seconds)
    return 60 * (cpu_seconds(cloud.pid) - used) / (time.monotonic() - began)


@dataclass(frozen=True)
class Change:
    at: float
    before: str
    """The phase that is left."""
    after: str
    """The phase in which it ends; the wish is called the same."""


async def _tell(ground: Ground, person: Tenant, outcome: Outcome) -> None:
    """Stops and starts one workload in turn, while so many listen."""
    fleet, heard = ground.size.fleet, ground.folder / "heard.json"
    token = person.client.headers["Authorization"].removeprefix("Bearer ")
    ears = json.dumps(asdict(Ears(person.cloud.port, token, fleet.listeners, str(heard))))
    id = str((await person.get("/workloads"))["items"][0]["id"])
    ground.say(f"{fleet.changes} changes for {fleet.listeners} to hear of")
    changes = []
    with Program.python(ground.folder / "listeners.log", "-m", "bench.services.listeners", ears) as listeners:
        await asyncio.to_thread(listeners.hear, "ready", STARTS_WITHIN_SECONDS)
        for turn in range(fleet.changes):
            verb, *phases = ("stop", "running", "stopped") if turn % 2 == 0 else ("start", "stopped", "running")
            changes.append(Change(time.monotonic(), *phases))
            await person.post(f"/workloads/{id}/{verb}")
            await person.becomes(id, phases[1])
            await asyncio.sleep(PAUSE_SECONDS)
    _count(json.loads(heard.read_text()), id, changes, fleet, outcome)


def _count(
    heard: Sequence[tuple[int, float, str, str, str]],
    id: str,
    changes: Sequence[Change],
    fleet: Fleet,
    outcome: Outcome,
) -> None:
    """Each subscriber has to have heard of each change."""
    ends = [change.at for change in changes[1:]] + [float("inf")]
    for change, end in zip(changes, ends, strict=True):
        first, last = dict[int, float](), dict[int, float]()
        for who, at, workload, wish, phase in heard:
            if workload == id and change.at <= at < end and wish == change.after and phase != change.before:
                first.setdefault(who, at)
                if phase == change.after:
                    last.setdefault(who, at)
        if len(last) < fleet.listeners:
            raise ProgramFailed(f"{fleet.listeners - len(last)} of {fleet.listeners} never heard of a change")
        outcome.told_ms += [1000 * (at - change.at) for at in first.values()]
        outcome.ended_ms.setdefault(change.after, []).extend(1000 * (at - change.at) for at in last.values())


def _figures(outcome: Outcome, fleet: Fleet) -> Iterator[Figure]:
    number = fleet.owners * fleet.each
    name = f"{number} running workloads"
    before, after = outcome.before, outcome.after
    note = f"over {fleet.quiet_seconds:g} s; all ran {outcome.all_run_seconds:.0f} s after the first was asked for"
    beside = Beside("without workloads", outcome.cpu_before)
    yield Figure(f"{name}, CPU a minute", "s", outcome.cpu, at_most(CPU_SECONDS_A_MINUTE), beside, note)
    more = after.rss_mib - before.rss_mib
    note = f"{before.rss_mib:.1f} MiB without, {after.rss_mib:.1f} MiB with; PSS {after.pss_mib - before.pss_mib:+.1f}"
    yield Figure(f"{name}, more memory", "MiB", more, at_most(MORE_MIB), note=note)
    told, p95 = outcome.told_ms, percentile(outcome.told_ms, 95)
    note = (
        f"{fleet.listeners} subscribers, {fleet.changes} changes; p50 {percentile(told, 50):.0f} ms, "
        f"longest {max(told):.0f} ms"
    )
    yield Figure(f"{name}, a change told, p95", "ms", p95, at_most(TOLD_MS), note=note)
    for phase, took in outcome.ended_ms.items():
        note = f"p50 {percentile(took, 50):.0f} ms, longest {max(took):.0f} ms"
        yield Figure(f"{name}, {phase} told, p95", "ms", percentile(took, 95), note=note)
