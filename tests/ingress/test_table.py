"""The table: the same from the same facts, in whatever order they come and however often."""

from __future__ import annotations

import random
import timeit

from hypothesis import given
from hypothesis import strategies as st

from muelle.events import Route, RouteChanged
from muelle.ingress.table import Entry, Table

HOSTS = ["a.x", "b.x", "c.x"]
WORKLOADS = ["w1", "w2", "w3"]


def fact(workload: str, version: int, hosts: dict[str, str], route: Route = Route.OPEN, why: str = "") -> RouteChanged:
    address = f"127.0.0.1:{version}" if route is Route.OPEN else ""
    return RouteChanged(
        workload_id=workload, owner_id="o", version=version, hosts=hosts, route=route, address=address, why=why
    )


@st.composite
def histories(draw: st.DrawFn) -> list[RouteChanged]:
    """Facts as they can come about: a claim belongs to one workload, and a version of one is told once."""
    facts: list[RouteChanged] = []
    versions = dict.fromkeys(WORKLOADS, 0)
    held: dict[str, dict[str, str]] = {workload: {} for workload in WORKLOADS}
    made = 0
    for _ in range(draw(st.integers(1, 12))):
        workload = draw(st.sampled_from(WORKLOADS))
        hosts: dict[str, str] = {}
        for host in draw(st.sets(st.sampled_from(HOSTS))):
            made += 1
            keeps = host in held[workload] and draw(st.booleans())
            hosts[host] = held[workload][host] if keeps else f"{made:04}"
        held[workload] = hosts
        versions[workload] += 1
        facts.append(fact(workload, versions[workload], hosts, draw(st.sampled_from(list(Route)))))
    return facts


def shown(table: Table) -> list[Entry]:
    return list(table)


@given(histories(), st.randoms(use_true_random=False), st.data())
def test_order_and_repetition_make_no_difference(
    facts: list[RouteChanged], dice: random.Random, data: st.DataObject
) -> None:
    mixed = [*facts, *data.draw(st.lists(st.sampled_from(facts)))]
    dice.shuffle(mixed)
    assert shown(Table(mixed)) == shown(Table(facts))


@given(histories(), st.randoms(use_true_random=False))
def test_a_name_never_leads_to_a_workload_with_a_lower_claim(facts: list[RouteChanged], dice: random.Random) -> None:
    dice.shuffle(facts)
    table = Table()
    for number, each in enumerate(facts, 1):
        table.apply(each)
        for host in HOSTS:
            entry = table.lookup(host)
            told = [known.hosts[host] for known in facts[:number] if host in known.hosts]
            assert entry is None or entry.claim == max(told)


@given(histories(), st.randoms(use_true_random=False))
def test_what_is_told_to_have_changed_is_what_has(facts: list[RouteChanged], dice: random.Random) -> None:
    dice.shuffle(facts)
    table = Table()
    followed: dict[str, Entry | None] = {}
    for each in facts:
        before = {host: table.lookup(host) for host in HOSTS}
        changes = table.apply(each)
        assert changes == {host: table.lookup(host) for host in HOSTS if table.lookup(host) != before[host]}
        followed.update(changes)
    assert {host: entry for host, entry in followed.items() if entry} == {entry.host: entry for entry in table}


def test_a_workload_that_is_gone_stays_gone() -> None:
    table = Table([fact("w1", 3, {}, Route.GONE)])
    assert table.apply(fact("w1", 2, {"a.x": "1"})) == {}
    assert table.lookup("a.x") is None
    assert table.versions == {"w1": 3}


def test_a_name_that_moves_is_never_led_back() -> None:
    table = Table([fact("w1", 1, {"a.x": "1"}), fact("w2", 1, {"a.x": "2"})])
    entry = table.lookup("a.x")
    assert entry is not None
    assert entry.workload_id == "w2"
    table.apply(fact("w2", 2, {}))
    assert table.lookup("a.x") is None, "the first one has lost it, and merely has not said so yet"
    table.apply(fact("w1", 2, {"a.x": "3"}))
    entry = table.lookup("a.x")
    assert entry is not None
    assert entry.workload_id == "w1"


def test_claims_alone_take_names_away() -> None:
    table = Table([fact("w1", 1, {"a.x": "1", "b.x": "1"})])
    assert table.outbid({"a.x": "2", "b.x": "1"}) == {"a.x": None}
    assert [entry.host for entry in table] == ["b.x"]


def test_why_it_is_not_open_is_known() -> None:
    table = Table([fact("w1", 1, {"a.x": "1"}, Route.FAILED, "It ended with 1.")])
    entry = table.lookup("a.x")
    assert entry is not None
    assert (entry.route, entry.why, entry.address) == (Route.FAILED, "It ended with 1.", "")


def test_a_thousand_names_are_found_as_fast_as_ten() -> None:
    tables = [Table(fact(f"w{n}", 1, {f"host-{n}.x": f"{n:04}"}) for n in range(names)) for names in (10, 1000)]
    few, many = (min(timeit.repeat(lambda t=t: t.lookup("host-5.x"), number=2000, repeat=20)) for t in tables)  # type: ignore[misc]
    assert many < few * 3
