"""A small world without time: wishes, instances and what they do, looked after by the plan as a steward does it.

It is pure (no engine, no database, no event loop), so that a great many orders of events can be tried. Each action is
checked when it is done: what no plan may ask for, whatever has happened before, fails there and then.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from muelle.engines.protocol import Address, Condition, Limits, Sighting
from muelle.workloads.model import (
    NO_REASON,
    Kind,
    Phase,
    Release,
    Spec,
    Verdict,
    VolumeAt,
    Why,
    Wish,
    Workload,
    WorkloadId,
    release_of,
    turn_for,
)
from muelle.workloads.plan import (
    UNKNOWN,
    Action,
    Create,
    End,
    Forget,
    Health,
    Judge,
    Plan,
    Policy,
    Probe,
    Seen,
    Start,
    Switch,
    plan,
)
from muelle.workloads.steward import MOST_ROUNDS, fallback

ID = WorkloadId("0" * 24)
POLICY = Policy(settle_seconds=4, drain_seconds=3)
PATIENCE_SECONDS = 15
STOPS_IN_SECONDS = 0.5
LONG_SECONDS = 300.0
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def a_workload(**values: object) -> Workload:
    plain = Workload(
        id=ID,
        owner_id="ana",
        owner_slug="ana",
        kind=Kind.CONTAINER,
        name="shop",
        claim=ID,
        description="",
        wish=Wish.RUNNING,
        release=0,
        good=0,
        turn=1,
        serving="",
        switched_at=None,
        keep_volumes=False,
        limits=Limits(),
        held=False,
        made_at=NOON,
        version=1,
        phase=Phase.BUILDING,
        why=NO_REASON,
    )
    return replace(plain, **values)  # type: ignore[arg-type]


def a_release(number: int, *, volume: bool = False, verdict: Verdict = Verdict.UNPROVEN, port: int = 80) -> Release:
    spec = Spec(port=port, patience_seconds=PATIENCE_SECONDS, volumes=(VolumeAt("data", "/data"),) if volume else ())
    return Release(ID, number, f"image-{number}", spec, "an image", "", NOON, verdict)


@dataclass(frozen=True)
class Behaviour:
    """What a program does, once started."""

    answers_after: float = 0.0
    status: int = 200
    ends_after: float | None = None
    listens: bool = True


GOOD = Behaviour()
SLOW = Behaviour(answers_after=6.0)
CRASHES = Behaviour(ends_after=1.0)
DEAF = Behaviour(listens=False)
ERRS = Behaviour(status=500)


@dataclass(frozen=True)
class Instance:
    condition: Condition = Condition.CREATED
    started_at: datetime | None = None
    ended_at: datetime | None = None


class Pretence:
    def __init__(self, *, volume: bool) -> None:
        self.now = NOON
        self.volume = volume
        self.workload = a_workload()
        self.releases: dict[int, Release] = {}
        self.behaviours: dict[int, Behaviour] = {}
        self.instances: dict[str, Instance] = {}
        self.ending: dict[str, datetime] = {}
        self.health: dict[str, Health] = {}
        self.counted: dict[str, datetime] = {}
        self.gone = False

    # --- what may happen

    def deploy(self, behaviour: Behaviour) -> None:
        number = len(self.releases) + 1
        self.releases[number] = a_release(number, volume=self.volume)
        self.behaviours[number] = behaviour
        self._wish(wish=Wish.RUNNING, release=number)

    def start(self) -> None:
        if self.workload.release and self.workload.wish is Wish.STOPPED:
            self._wish(wish=Wish.RUNNING, turn=self.workload.turn + 1)

    def restart(self) -> None:
        if self.workload.release:
            self._wish(wish=Wish.RUNNING, turn=self.workload.turn + 1)

    def rollback(self, number: int) -> None:
        release = self.releases.get(number)
        if release is None or release.verdict is Verdict.BAD:
            return
        runs = self.workload.wish is Wish.RUNNING and self.workload.release == number
        turn = self.workload.turn if runs else turn_for(self.workload, number)
        self._wish(wish=Wish.RUNNING, release=number, turn=turn)

    def stop(self) -> None:
        self._wish(wish=Wish.STOPPED)

    def hold(self, held: bool) -> None:
        self.workload = replace(self.workload, held=held)

    def delete(self) -> None:
        self._wish(wish=Wish.DELETED)

    def end(self, name: str) -> None:
        """Its program ends by itself."""
        instance = self.instances[name]
        if instance.condition is Condition.RUNNING:
            self.instances[name] = replace(instance, condition=Condition.EXITED, ended_at=self.now)

    def vanish(self, name: str) -> None:
        self.instances.pop(name)

    def be_killed(self, *, ended_first: bool) -> None:
        """Everything that is only remembered is lost; what was being ended has ended, or was not asked to yet."""
        for name in self.ending:
            if ended_first and name in self.instances:
                self.end(name)
        self.ending, self.health, self.counted = {}, {}, {}

    def pass_time(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)
        for name, instance in self.instances.items():
            after = self.behaviours[release_of(name)].ends_after
            if instance.condition is Condition.RUNNING and after is not None and self._lived(instance) >= after:
                self.end(name)
        for name in [name for name, due in self.ending.items() if due <= self.now]:
            del self.ending[name]
            self.instances.pop(name, None)
            self.health.pop(name, None)
            self.counted.pop(name, None)

    # --- the steward

    def look(self, most: int = MOST_ROUNDS) -> Plan:
        """One round: at most so many of what is to be done is done, as by one who is killed after that."""
        planned = self.planned()
        self.workload = replace(self.workload, phase=planned.phase, why=planned.why)
        for action in self._open(planned)[:most]:
            self._do(action)
        return planned

    def planned(self) -> Plan:
        sightings = {name: self._sighting(name) for name in self.instances}
        for name, seen in sightings.items():
            if seen.condition is Condition.EXITED and seen.ended_at and self.counted.get(name) != seen.ended_at:
                self.health[name] = Health(ends=self.health.get(name, UNKNOWN).ends + 1)
                self.counted[name] = seen.ended_at
        wished = self.releases.get(self.workload.release)
        seen = Seen(self.now, wished, sightings, self.health, None, frozenset(self.ending), self.releases)
        return plan(self.workload, seen, POLICY)

    def settle(self) -> None:
        """Nothing more happens; the steward looks after it until nothing is to be done, or for a long time."""
        until = self.now + timedelta(seconds=LONG_SECONDS)
        while self.now < until and not self.gone:
            for _ in range(MOST_ROUNDS):
                planned = self.look()
                if self.gone or not self._open(planned):
                    break
            else:
                raise AssertionError(f"a plan goes in circles: {planned}")
            if planned.again_seconds is None and not self.ending:
                return
            self.pass_time(min(max(planned.again_seconds or 0.5, 0.05), 0.5))

    def answers(self, name: str) -> bool:
        instance, behaviour = self.instances.get(name), self.behaviours.get(release_of(name))
        if instance is None or behaviour is None or instance.condition is not Condition.RUNNING:
            return False
        return behaviour.listens and behaviour.status < 500 and self._lived(instance) >= behaviour.answers_after

    def running(self) -> list[str]:
        return [name for name, one in self.instances.items() if one.condition is Condition.RUNNING]

    def _open(self, planned: Plan) -> list[Action]:
        return [a for a in planned.actions if not (isinstance(a, End) and a.name in self.ending)]

    def _do(self, action: Action) -> None:
        match action:
            case Create():
                self.instances.setdefault(self.workload.target, Instance())
            case Start(name):
                self._start(name)
            case Probe(name):
                self._probe(action)
            case Judge(number, verdict, why):
                self._judge(number, verdict, why)
            case Switch(name):
                self._switch(name)
            case End(name):
                self._may_end(name)
                self.ending[name] = self.now + timedelta(seconds=STOPS_IN_SECONDS)
            case Forget():
                assert not self.instances, "it is forgotten, and something of it is left"
                self.gone = True

    def _start(self, name: str) -> None:
        if self.volume:
            assert not [other for other in self.running() if other != name], "two would write to one volume"
        if name in self.instances:
            self.instances[name] = Instance(Condition.RUNNING, self.now)

    def _probe(self, probe: Probe) -> None:
        behaviour = self.behaviours[release_of(probe.name)]
        known = self.health.get(probe.name, UNKNOWN)
        trouble = NO_REASON
        if not self.answers(probe.name):
            trouble = Why("answers_error" if behaviour.status >= 500 else "not_listening")
        since = known.answers_since if known.started_at == probe.started_at else None
        since = None if trouble.code else since or self.now
        self.health[probe.name] = Health(probe.started_at, since, trouble, self.now, known.ends)

    def _judge(self, number: int, verdict: Verdict, why: Why) -> None:
        assert self.releases[number].verdict is Verdict.UNPROVEN, "it is judged twice"
        self.releases[number] = replace(self.releases[number], verdict=verdict, why=why)
        if self.workload.release != number:
            return
        if verdict is Verdict.GOOD:
            self.workload = replace(self.workload, good=number)
        elif back := fallback(self.workload, number):
            self._wish(release=back, turn=turn_for(self.workload, back))

    def _switch(self, name: str) -> None:
        if name:
            assert name in self.instances, "the traffic goes to nobody"
            assert name not in self.ending, "the traffic goes to one that is being ended"
        else:
            self._may_end(self.workload.serving)
        self.workload = replace(self.workload, serving=name, switched_at=self.now)

    def _may_end(self, name: str) -> None:
        """The promise of the whole: what serves well is ended only when its owner says so, or for its volume."""
        if self.workload.wish is not Wish.RUNNING or self.workload.held or self.volume:
            return
        assert not (name == self.workload.serving and self.answers(name)), "what serves well is ended"

    def _wish(self, **values: object) -> None:
        if self.workload.wish is not Wish.DELETED:
            self.workload = replace(self.workload, **values)  # type: ignore[arg-type]

    def _lived(self, instance: Instance) -> float:
        return (self.now - (instance.started_at or self.now)).total_seconds()

    def _sighting(self, name: str) -> Sighting:
        instance = self.instances[name]
        address = Address("127.0.0.1", 1) if instance.condition is Condition.RUNNING else None
        return Sighting(
            name,
            ID,
            instance.condition,
            address,
            instance.started_at,
            instance.ended_at,
            1 if instance.ended_at else None,
        )
