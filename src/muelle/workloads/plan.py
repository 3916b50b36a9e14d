"""The plan: from what is wished and what is seen, what to do next and how to call the state of things.

Pure. It is asked again after every action, after every event of the engine, and now and then; whatever happened in
between, and whoever was killed in the middle of what, it starts from what is there. The rules, which are those of
decision 11:

- A release is on trial until it has proven good or bad. It is bad when it ends, answers an error, or does not answer in
  time; what served before goes on serving, or is started again.
- What has the traffic keeps it until the new one has answered, and gone on living for the settling time.
- With a volume, only one runs at a time.
- Everything of the workload that is neither wanted nor serving is ended and removed, after the drain if it served.
- An instance of a release that nobody knows is a stranger (the database is older than it: a backup was put back). It
  cannot be made again, so it is not removed while its workload is there; it is stopped where it would share a volume.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from muelle.engines.protocol import Address, Condition, Sighting
from muelle.workloads.model import NO_REASON, Phase, Release, Verdict, Why, Wish, Workload, release_of

LONGEST_REST_SECONDS = 60.0


@dataclass(frozen=True)
class Policy:
    settle_seconds: float = 4.0
    """How long a new release has to go on living before it gets another's traffic."""
    settle_again_seconds: float = 0.5
    """The same for a release that has proven good before: a rollback, a restart."""
    drain_seconds: float = 3.0
    """How long the old one goes on for what is under way."""
    probe_seconds: float = 0.1
    """Between two questions whether it answers yet."""
    watch_seconds: float = 0.5
    """Between two questions while it is still on trial, and did answer."""


@dataclass(frozen=True)
class Health:
    """What probes found of an instance since its last start."""

    started_at: datetime | None = None
    answers_since: datetime | None = None
    trouble: Why = NO_REASON
    """Of the last probe, where it failed."""
    looked_at: datetime | None = None
    ends: int = 0
    """How often it has ended by itself lately."""


UNKNOWN = Health()
NO_ADDRESS = Why("no_address", "It runs, but the engine gives it no address.")
HELD = Why("held", "It is held, because its owner's account is: it runs again when that is lifted.")


@dataclass(frozen=True)
class Create:
    release: Release


@dataclass(frozen=True)
class Start:
    name: str


@dataclass(frozen=True)
class Probe:
    name: str
    address: Address
    port: int
    """How its owner knows the port."""
    started_at: datetime | None


@dataclass(frozen=True)
class Judge:
    """A verdict, told once. A bad one lets the wish fall back on the last good release."""

    release: int
    verdict: Verdict
    why: Why = NO_REASON


@dataclass(frozen=True)
class Switch:
    """Gives the traffic to an instance; to none, where the name is empty."""

    name: str


@dataclass(frozen=True)
class End:
    """Stops an instance that runs, and removes it, unless it is to be kept."""

    name: str
    runs: bool
    keeps: bool = False


@dataclass(frozen=True)
class Forget:
    """Nothing of it is left: its volumes go, if they shall, and then its row."""


Action = Create | Start | Probe | Judge | Switch | End | Forget


@dataclass(frozen=True)
class Plan:
    phase: Phase
    why: Why = NO_REASON
    actions: tuple[Action, ...] = ()
    again_seconds: float | None = None
    """When to ask again though nothing happened."""


@dataclass(frozen=True)
class Seen:
    """All that a plan is made of, beside the workload."""

    now: datetime
    wished: Release | None
    sightings: Mapping[str, Sighting] = field(default_factory=dict)
    health: Mapping[str, Health] = field(default_factory=dict)
    deployment: Why | None = None
    """Why the last deployment failed; empty while it is under way; None where there is none."""
    ending: frozenset[str] = frozenset()
    """What is just being ended: it may still look well, and nothing can be built on it."""
    known: Container[int] | None = None
    """The numbers of its releases; None where that was not asked."""

    def is_stranger(self, name: str) -> bool:
        return self.known is not None and is_stranger(name, self.known)


def plan(workload: Workload, seen: Seen, policy: Policy = Policy()) -> Plan:
    match workload.wish:
        case Wish.DELETED:
            return _end_all(workload, seen, Phase.DELETING, Phase.DELETING, (Forget(),))
        case Wish.STOPPED:
            return _end_all(workload, seen, Phase.STOPPING, Phase.STOPPED)
    if workload.held:
        return replace(_end_all(workload, seen, Phase.STOPPING, Phase.STOPPED), why=HELD)
    if seen.wished is None:
        return _without_release(seen)
    if seen.wished.verdict is Verdict.BAD:
        ended = _end_all(workload, seen, Phase.FAILED, Phase.FAILED)
        return Plan(Phase.FAILED, seen.wished.why, ended.actions)
    return _Running(workload, seen.wished, seen, policy).plan()


def _end_all(
    workload: Workload, seen: Seen, meanwhile: Phase, afterwards: Phase, then: tuple[Action, ...] = ()
) -> Plan:
    actions: tuple[Action, ...] = (Switch(""),) if workload.serving else ()
    all_go = workload.wish is Wish.DELETED
    ending = [sighting for name, sighting in seen.sightings.items() if all_go or not seen.is_stranger(name)]
    if ending:
        return Plan(meanwhile, actions=actions + tuple(map(_end, ending)))
    return Plan(afterwards, actions=actions + then)


def _without_release(seen: Seen) -> Plan:
    if seen.deployment is not None:
        return Plan(Phase.FAILED, seen.deployment) if seen.deployment.code else Plan(Phase.BUILDING)
    return Plan(Phase.STOPPED, Why("nothing_deployed", "Nothing was deployed to it yet."))


def _end(sighting: Sighting) -> End:
    return End(sighting.name, sighting.condition is Condition.RUNNING)


class _Running:
    """The plan for a workload that shall run a certain release."""

    def __init__(self, workload: Workload, release: Release, seen: Seen, policy: Policy) -> None:
        self._workload = workload
        self._release = release
        self._seen = seen
        self._policy = policy
        self._name = workload.target
        self._mine = seen.sightings.get(self._name)
        others = [sighting for name, sighting in seen.sightings.items() if name != self._name]
        self._others = [other for other in others if not seen.is_stranger(other.name)]
        self._strangers = [other for other in others if seen.is_stranger(other.name)]
        self._health = seen.health.get(self._name, UNKNOWN)
        serving = seen.sightings.get(workload.serving)
        self._old_serves = (
            workload.serving != self._name and serving is not None and serving.condition is Condition.RUNNING
        )

    def plan(self) -> Plan:
        if self._release.spec.volumes and (in_the_way := self._in_the_way()):
            switch = (Switch(""),) if self._workload.serving in {end.name for end in in_the_way} else ()
            return Plan(Phase.STARTING, actions=(*switch, *in_the_way))
        if self._name in self._seen.ending:
            return self._step()
        mine = self._mine
        if mine is None:
            return self._step(Create(self._release))
        match mine.condition:
            case Condition.CREATED:
                return self._step(Start(self._name))
            case Condition.EXITED:
                return self._ended(mine)
        return self._runs(mine)

    def _in_the_way(self) -> list[End]:
        """What runs beside it, and would write to the same volume."""
        known = [_end(other) for other in self._others if other.condition is Condition.RUNNING]
        strange = [
            End(other.name, True, keeps=True) for other in self._strangers if other.condition is Condition.RUNNING
        ]
        return known + strange

    @property
    def _phase(self) -> Phase:
        return Phase.DEPLOYING if self._old_serves else Phase.STARTING

    @property
    def _on_trial(self) -> bool:
        return self._release.verdict is Verdict.UNPROVEN

    @property
    def _settle_seconds(self) -> float:
        return self._policy.settle_seconds if self._on_trial else self._policy.settle_again_seconds

    def _step(self, *actions: Action, again: float | None = None, why: Why = NO_REASON) -> Plan:
        return Plan(self._phase, why, (*actions, *self._leftovers()), again)

    def _ended(self, mine: Sighting) -> Plan:
        why = why_ended(mine)
        if self._on_trial:
            return self._step(Judge(self._release.number, Verdict.BAD, why))
        rest = rest_seconds(self._health.ends)
        due = (mine.ended_at or self._seen.now) + timedelta(seconds=rest)
        left = (due - self._seen.now).total_seconds()
        phase = self._phase if self._old_serves else Phase.FAILING
        if left <= 0:
            return Plan(phase, why, (Start(self._name), *self._leftovers()))
        words = f"{why.words} It is started again after {round(rest)} s." if rest >= 1 else why.words
        return Plan(phase, Why(why.code, words), self._leftovers(), left)

    def _runs(self, mine: Sighting) -> Plan:
        if not self._release.spec.port:
            return self._lives(mine, mine.started_at or self._seen.now, None)
        if mine.address is None:
            return self._has_no_address(mine)
        health = self._health if self._health.started_at == mine.started_at else UNKNOWN
        probe = Probe(mine.name, mine.address, self._release.spec.port, mine.started_at)
        if health.answers_since is None:
            return self._waits(mine, health, probe)
        return self._lives(mine, health.answers_since, probe if self._on_trial else None, health)

    def _has_no_address(self, mine: Sighting) -> Plan:
        lived = (self._seen.now - (mine.started_at or self._seen.now)).total_seconds()
        if self._on_trial and lived > self._release.spec.patience_seconds:
            return self._step(Judge(self._release.number, Verdict.BAD, NO_ADDRESS))
        return self._step(again=self._policy.probe_seconds, why=NO_ADDRESS)

    def _waits(self, mine: Sighting, health: Health, probe: Probe) -> Plan:
        if self._is_late(mine, health.looked_at) and health.trouble.code:
            if self._on_trial:
                return self._step(Judge(self._release.number, Verdict.BAD, health.trouble))
            return Plan(
                self._phase if self._old_serves else Phase.FAILING,
                health.trouble,
                (*self._due(probe, health, self._policy.watch_seconds), *self._leftovers()),
                self._policy.watch_seconds,
            )
        pause = self._policy.probe_seconds
        step = self._step(*self._due(probe, health, pause), again=pause, why=health.trouble)
        if self._workload.phase is Phase.RUNNING and self._workload.serving == self._name and not health.looked_at:
            return replace(step, phase=Phase.RUNNING)  # it is only we who have just come
        return step

    def _is_late(self, mine: Sighting, looked_at: datetime | None) -> bool:
        """Whether it had all the time it may take when it was looked at. While nobody could look, nothing was seen."""
        if looked_at is None or mine.started_at is None:
            return False
        return (looked_at - mine.started_at).total_seconds() > self._release.spec.patience_seconds

    def _due(self, probe: Probe, health: Health, pause: float) -> tuple[Action, ...]:
        """The probe, unless the last one was a moment ago: an action that is always there would be done for ever."""
        looked = health.looked_at
        recent = looked is not None and (self._seen.now - looked).total_seconds() < pause * 0.9
        return () if recent else (probe,)

    def _lives(self, mine: Sighting, since: datetime, probe: Probe | None, health: Health = UNKNOWN) -> Plan:
        """It answers, or is not meant to; now it has to go on living for a while."""
        settled = (self._seen.now - since).total_seconds() >= self._settle_seconds
        if self._workload.serving != self._name and (settled or not self._old_serves):
            return self._step(Switch(self._name))
        if self._on_trial and settled and not health.trouble.code:
            return Plan(Phase.RUNNING, actions=(Judge(self._release.number, Verdict.GOOD),))
        if not settled or self._on_trial:
            return self._settles(mine, since, probe, health)
        return Plan(Phase.RUNNING, actions=self._leftovers(), again_seconds=self._drain_left())

    def _settles(self, mine: Sighting, since: datetime, probe: Probe | None, health: Health) -> Plan:
        """Watched meanwhile: one that answered once and then fails is no better than one that never did."""
        watch = self._policy.watch_seconds
        lived = (self._seen.now - since).total_seconds()
        if self._on_trial and health.trouble.code and lived > self._release.spec.patience_seconds:
            return self._step(Judge(self._release.number, Verdict.BAD, health.trouble))
        left = max(self._settle_seconds - lived, self._policy.probe_seconds)
        actions = self._due(probe, health, watch) if probe else ()
        phase = self._phase if self._old_serves else Phase.RUNNING
        return Plan(phase, health.trouble, (*actions, *self._leftovers()), min(left, watch) if probe else left)

    def _leftovers(self) -> tuple[Action, ...]:
        """What is neither wanted nor serving. The last one that served goes on for the drain."""
        draining = self._drain_left() is not None
        return tuple(
            _end(other)
            for other in self._others
            if other.name != self._workload.serving and not (draining and other.condition is Condition.RUNNING)
        )

    def _drain_left(self) -> float | None:
        """How long what served before the switch still has; None where there is nothing to wait for."""
        if self._workload.serving != self._name or self._workload.switched_at is None or not self._others:
            return None
        over = self._workload.switched_at + timedelta(seconds=self._policy.drain_seconds)
        left = (over - self._seen.now).total_seconds()
        return left if left > 0 else None


def is_stranger(name: str, known: Container[int]) -> bool:
    """Whether no release that is known can have been what it was made for."""
    return release_of(name) not in known


def why_ended(sighting: Sighting) -> Why:
    if sighting.reason:
        return Why("not_started", f"It could not be started: {sighting.reason}")
    if sighting.out_of_memory:
        return Why("out_of_memory", "It used more memory than its limit and was ended.")
    return Why("ended", f"It ended by itself with exit code {sighting.exit_code}.")


def rest_seconds(ends: int) -> float:
    """How long a good release rests before it is started again: not at all the first time, then twice as long each."""
    return 0.0 if ends <= 1 else min(LONGEST_REST_SECONDS, float(2 ** min(ends - 2, 20)))


def names(sightings: Sequence[Sighting]) -> dict[str, Sighting]:
    return {sighting.name: sighting for sighting in sightings}
