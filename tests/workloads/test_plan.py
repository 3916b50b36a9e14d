"""The plan: what it says in each situation that decision 11 speaks of, and that it ends well whatever happens."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from muelle.engines.protocol import Address, Condition, Sighting
from muelle.workloads.model import Phase, Release, Verdict, Why, Wish, Workload, instance_name
from muelle.workloads.plan import (
    Create,
    End,
    Forget,
    Health,
    Judge,
    Plan,
    Probe,
    Seen,
    Start,
    Switch,
    plan,
    rest_seconds,
)
from tests.workloads.pretence import (
    CRASHES,
    DEAF,
    ERRS,
    GOOD,
    ID,
    NOON,
    PATIENCE_SECONDS,
    POLICY,
    SLOW,
    Pretence,
    a_release,
    a_workload,
)

HERE = Address("127.0.0.1", 4711)
OLD, NEW, STRANGE = (instance_name(ID, number, 1) for number in (1, 2, 9))
REFUSES = Why("not_listening", "Nothing listens on port 80.")


def ago(seconds: float) -> datetime:
    return NOON - timedelta(seconds=seconds)


def runs(name: str, since: float = 60) -> Sighting:
    return Sighting(name, ID, Condition.RUNNING, HERE, ago(since))


def created(name: str) -> Sighting:
    return Sighting(name, ID, Condition.CREATED)


def ended(name: str, since: float = 0, **more: object) -> Sighting:
    return Sighting(name, ID, Condition.EXITED, None, ago(60), ago(since), 1, **more)  # type: ignore[arg-type]


def answers(started: float = 60, since: float = 60) -> Health:
    return Health(ago(started), ago(since), looked_at=ago(1))


def refuses(started: float = 60, looked: float = 1) -> Health:
    return Health(ago(started), None, REFUSES, ago(looked))


PROVEN = a_release(1, verdict=Verdict.GOOD)
FRESH = a_release(2)
ON_DISK = a_release(2, volume=True)
SERVES = a_workload(release=1, good=1, serving=OLD, phase=Phase.RUNNING)
DEPLOYS = replace(SERVES, release=2)
SWITCHED = replace(DEPLOYS, serving=NEW, switched_at=ago(1))


def ask(workload: Workload, wished: Release | None, *sightings: Sighting, **more: object) -> Plan:
    seen = Seen(NOON, wished, {sighting.name: sighting for sighting in sightings}, **more)  # type: ignore[arg-type]
    return plan(workload, seen, POLICY)


SITUATIONS = {
    "nothing was deployed": (ask(a_workload(), None), Phase.STOPPED, ()),
    "it is being built": (ask(a_workload(), None, deployment=Why()), Phase.BUILDING, ()),
    "it could not be built": (ask(a_workload(), None, deployment=Why("x", "no")), Phase.FAILED, ()),
    "the first is made": (ask(a_workload(release=2), FRESH), Phase.STARTING, (Create(FRESH),)),
    "the first is started": (ask(a_workload(release=2), FRESH, created(NEW)), Phase.STARTING, (Start(NEW),)),
    "the first is asked": (
        ask(a_workload(release=2), FRESH, runs(NEW, 1)),
        Phase.STARTING,
        (Probe(NEW, HERE, 80, ago(1)),),
    ),
    "the first serves at its first good answer": (
        ask(a_workload(release=2), FRESH, runs(NEW, 1), health={NEW: answers(1, 0)}),
        Phase.STARTING,
        (Switch(NEW),),
    ),
    "the next is made beside the old": (ask(DEPLOYS, FRESH, runs(OLD)), Phase.DEPLOYING, (Create(FRESH),)),
    "the next answers, and has to go on living": (
        ask(DEPLOYS, FRESH, runs(OLD), runs(NEW, 2), health={NEW: answers(2, 2)}),
        Phase.DEPLOYING,
        (Probe(NEW, HERE, 80, ago(2)),),
    ),
    "the next has lived long enough": (
        ask(DEPLOYS, FRESH, runs(OLD), runs(NEW, 5), health={NEW: answers(5, 5)}),
        Phase.DEPLOYING,
        (Switch(NEW),),
    ),
    "it is proven when it serves": (
        ask(SWITCHED, FRESH, runs(OLD), runs(NEW, 5), health={NEW: answers(5, 5)}),
        Phase.RUNNING,
        (Judge(2, Verdict.GOOD),),
    ),
    "the old one goes on for the drain": (
        ask(SWITCHED, replace(FRESH, verdict=Verdict.GOOD), runs(OLD), runs(NEW), health={NEW: answers()}),
        Phase.RUNNING,
        (),
    ),
    "the old one goes after the drain": (
        ask(
            replace(SWITCHED, switched_at=ago(4)),
            replace(FRESH, verdict=Verdict.GOOD),
            runs(OLD),
            runs(NEW),
            health={NEW: answers()},
        ),
        Phase.RUNNING,
        (End(OLD, True),),
    ),
    "one on trial that ends is bad": (
        ask(DEPLOYS, FRESH, runs(OLD), ended(NEW)),
        Phase.DEPLOYING,
        (Judge(2, Verdict.BAD, Why("ended", "It ended by itself with exit code 1.")),),
    ),
    "one on trial that takes too much memory says so": (
        ask(DEPLOYS, FRESH, runs(OLD), ended(NEW, out_of_memory=True)),
        Phase.DEPLOYING,
        (Judge(2, Verdict.BAD, Why("out_of_memory", "It used more memory than its limit and was ended.")),),
    ),
    "one that does not answer in time is bad": (
        ask(DEPLOYS, FRESH, runs(OLD), runs(NEW, 20), health={NEW: refuses(20)}),
        Phase.DEPLOYING,
        (Judge(2, Verdict.BAD, REFUSES),),
    ),
    "one that nobody could ask in time is asked": (
        ask(DEPLOYS, FRESH, runs(OLD), runs(NEW, 20), health={NEW: refuses(20, looked=18)}),
        Phase.DEPLOYING,
        (Probe(NEW, HERE, 80, ago(20)),),
    ),
    "one without an address for too long is bad": (
        ask(DEPLOYS, FRESH, runs(OLD), replace(runs(NEW, PATIENCE_SECONDS + 1), address=None)),
        Phase.DEPLOYING,
        (Judge(2, Verdict.BAD, Why("no_address", "It runs, but the engine gives it no address.")),),
    ),
    "a good one that ends is started again at once": (
        ask(SERVES, PROVEN, ended(OLD), health={OLD: Health(ends=1)}),
        Phase.FAILING,
        (Start(OLD),),
    ),
    "and later the next time": (ask(SERVES, PROVEN, ended(OLD), health={OLD: Health(ends=3)}), Phase.FAILING, ()),
    "a good one that vanishes is made again": (ask(SERVES, PROVEN), Phase.STARTING, (Create(PROVEN),)),
    "what nobody wants goes": (
        ask(SERVES, PROVEN, runs(OLD), runs(NEW), health={OLD: answers()}),
        Phase.RUNNING,
        (End(NEW, True),),
    ),
    "with a volume the old one is ended first": (
        ask(DEPLOYS, ON_DISK, runs(OLD)),
        Phase.STARTING,
        (Switch(""), End(OLD, True)),
    ),
    "with a volume the next comes when the old has ended": (
        ask(replace(DEPLOYS, serving=""), ON_DISK, ended(OLD)),
        Phase.STARTING,
        (Create(ON_DISK), End(OLD, False)),
    ),
    "nothing is built on one that is being ended": (
        ask(SERVES, PROVEN, runs(OLD), health={OLD: answers()}, ending=frozenset({OLD})),
        Phase.STARTING,
        (),
    ),
    "stopped": (
        ask(replace(SERVES, wish=Wish.STOPPED), PROVEN, runs(OLD)),
        Phase.STOPPING,
        (Switch(""), End(OLD, True)),
    ),
    "stopped, and over": (ask(replace(SERVES, wish=Wish.STOPPED, serving=""), PROVEN), Phase.STOPPED, ()),
    "held": (ask(replace(SERVES, held=True), PROVEN, runs(OLD)), Phase.STOPPING, (Switch(""), End(OLD, True))),
    "deleted": (
        ask(replace(SERVES, wish=Wish.DELETED, serving=""), PROVEN, ended(OLD)),
        Phase.DELETING,
        (End(OLD, False),),
    ),
    "deleted, and over": (ask(a_workload(wish=Wish.DELETED), None), Phase.DELETING, (Forget(),)),
    "a bad one without another has failed": (
        ask(a_workload(release=2), replace(FRESH, verdict=Verdict.BAD), ended(NEW)),
        Phase.FAILED,
        (End(NEW, False),),
    ),
    "a stranger is left alone": (
        ask(SERVES, PROVEN, runs(OLD), runs(STRANGE), health={OLD: answers()}, known=(1, 2)),
        Phase.RUNNING,
        (),
    ),
    "a stranger is left alone by a stop": (
        ask(replace(SERVES, wish=Wish.STOPPED, serving=""), PROVEN, runs(STRANGE), known=(1, 2)),
        Phase.STOPPED,
        (),
    ),
    "a stranger goes with its workload": (
        ask(replace(SERVES, wish=Wish.DELETED, serving=""), PROVEN, runs(STRANGE), known=(1, 2)),
        Phase.DELETING,
        (End(STRANGE, True),),
    ),
    "a stranger on the volume is stopped and kept": (
        ask(replace(DEPLOYS, serving=""), ON_DISK, runs(STRANGE), known=(1, 2)),
        Phase.STARTING,
        (End(STRANGE, True, keeps=True),),
    ),
}


@pytest.mark.parametrize("situation", SITUATIONS)
def test_what_is_to_be_done(situation: str) -> None:
    planned, phase, actions = SITUATIONS[situation]
    assert (planned.phase, planned.actions) == (phase, actions)


def test_each_rest_is_twice_as_long_up_to_a_minute() -> None:
    assert [rest_seconds(ends) for ends in (0, 1, 2, 3, 4, 50)] == [0, 0, 1, 2, 4, 60]


class Anything(RuleBasedStateMachine):
    """Whatever happens in whatever order: the pretence checks each action, and the end is checked here."""

    def __init__(self) -> None:
        super().__init__()
        self.pretence = Pretence(volume=False)

    @initialize(volume=st.booleans())
    def is_made(self, volume: bool) -> None:
        self.pretence = Pretence(volume=volume)
        self.pretence.deploy(GOOD)

    @rule(behaviour=st.sampled_from([GOOD, SLOW, CRASHES, DEAF, ERRS]))
    def deploy(self, behaviour: object) -> None:
        self.pretence.deploy(behaviour)  # type: ignore[arg-type]

    @rule(what=st.sampled_from(["start", "stop", "restart"]))
    def wish(self, what: str) -> None:
        getattr(self.pretence, what)()

    @rule(number=st.integers(1, 4))
    def rollback(self, number: int) -> None:
        self.pretence.rollback(number)

    @rule(held=st.booleans())
    def hold(self, held: bool) -> None:
        self.pretence.hold(held)

    @rule()
    @precondition(lambda self: len(self.pretence.releases) > 2)
    def delete(self) -> None:
        self.pretence.delete()

    @rule(which=st.integers(0, 3), what=st.sampled_from(["end", "vanish"]))
    @precondition(lambda self: self.pretence.instances)
    def interfere(self, which: int, what: str) -> None:
        names = sorted(self.pretence.instances)
        getattr(self.pretence, what)(names[which % len(names)])

    @rule(most=st.integers(0, 3))
    def look(self, most: int) -> None:
        self.pretence.look(most)

    @rule(ended_first=st.booleans())
    def be_killed(self, ended_first: bool) -> None:
        self.pretence.be_killed(ended_first=ended_first)

    @rule(seconds=st.sampled_from([0.1, 1.0, 5.0, 20.0]))
    def time_passes(self, seconds: float) -> None:
        self.pretence.pass_time(seconds)

    @rule()
    def settle(self) -> None:
        self.pretence.settle()
        self.has_ended_well()

    def teardown(self) -> None:
        self.settle()

    def has_ended_well(self) -> None:
        pretence, workload = self.pretence, self.pretence.workload
        if workload.wish is Wish.DELETED:
            assert pretence.gone
        elif workload.wish is Wish.STOPPED or workload.held:
            assert (pretence.instances, workload.serving, workload.phase) == ({}, "", Phase.STOPPED)
        elif pretence.releases[workload.release].verdict is Verdict.BAD:
            assert (pretence.instances, workload.phase) == ({}, Phase.FAILED)
        else:
            assert pretence.releases[workload.release].verdict is Verdict.GOOD
            assert list(pretence.instances) == pretence.running() == [workload.target] == [workload.serving]
            assert pretence.answers(workload.target)
            assert workload.phase is Phase.RUNNING
        assert not pretence.gone or not pretence.instances


Anything.TestCase.settings = settings(
    max_examples=150, stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
TestAnything = Anything.TestCase
