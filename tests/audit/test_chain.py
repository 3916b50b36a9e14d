"""The chain as a pure function: whatever is changed after the fact is found, and named."""

from __future__ import annotations

from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muelle.audit import chain
from muelle.audit.chain import GENESIS, Entry, Head, Verdict, Walk

START = datetime(2026, 1, 1, tzinfo=UTC)
TEXTS = (
    "event_id",
    "room",
    "type",
    "subject",
    "actor",
    "address",
    "request_id",
    "salt",
    "details",
    "details_hash",
    "hash",
)


def chained(*kinds: tuple[str, str], before: str = GENESIS, first: int = 1) -> list[Entry]:
    """A good chain of entries of these types about these subjects."""
    found: list[Entry] = []
    for seq, (type, subject) in enumerate(kinds, first):
        entry = Entry(
            seq=seq,
            event_id=f"{seq:024x}",
            at=START + timedelta(seconds=seq, microseconds=seq),
            room="identity",
            type=type,
            subject=subject,
            actor="anonymous",
            address="203.0.113.7",
            request_id=f"request-{seq}?",
            salt=f"{seq:032x}",
            details=f'{{"number": {seq}}}',
            details_hash="",
            hash="",
        )
        entry = replace(entry, details_hash=chain.hash_details(entry.salt or "", entry.details or ""))
        found.append(replace(entry, hash=chain.hash_entry(before, entry)))
        before = found[-1].hash
    return found


def verdict(entries: list[Entry], *, head: Head | None = None, expected: str = "") -> Verdict:
    head = head or (Head(entries[-1].seq, entries[-1].hash) if entries else Head(0, GENESIS))
    walk = Walk(expected)
    for entry in entries:
        if walk.broken:
            break
        walk.step(entry)
    return walk.end(head)


GOOD = chained(("AccountOpened", "a"), ("LoggedIn", "a"), ("AccountOpened", "b"), ("LoggedIn", "b"), ("LoggedOut", "a"))
HEAD = Head(5, GOOD[-1].hash)
places = st.integers(0, len(GOOD) - 1)


def test_a_good_chain_is_whole() -> None:
    assert verdict(GOOD) == Verdict(5, HEAD)
    assert verdict(GOOD).whole
    assert verdict([]).whole


def something_else(name: str) -> st.SearchStrategy[Any]:
    if name == "seq":
        return st.integers(-3, 9)
    if name == "at":
        return st.integers(1, 10**15).map(lambda micros: START + timedelta(microseconds=micros))
    return st.none() | st.text(max_size=70) if name in ("salt", "details") else st.text(max_size=70)


@pytest.mark.parametrize("name", [field.name for field in fields(Entry)])
@given(st.data())
def test_any_other_value_anywhere_is_found_and_named(name: str, data: st.DataObject) -> None:
    place = data.draw(places)
    value = data.draw(something_else(name))
    changed = [*GOOD]
    changed[place] = replace(GOOD[place], **{name: value})
    if changed == GOOD:
        return
    found = verdict(changed, head=HEAD)
    assert not found.whole
    assert found.broken.startswith(f"entry {value if name == 'seq' else place + 1}: "), found.broken


@pytest.mark.parametrize("name", TEXTS)
def test_each_changed_bit_in_any_text_is_found_and_named(name: str) -> None:
    whole = getattr(GOOD[2], name).encode()
    for bit in range(len(whole) * 8):
        raw = bytearray(whole)
        raw[bit // 8] ^= 1 << bit % 8
        text = raw.decode(errors="surrogateescape")  # as the store reads what is no UTF-8 any more
        changed = [*GOOD[:2], replace(GOOD[2], **{name: text}), *GOOD[3:]]
        assert verdict(changed, head=HEAD).broken.startswith("entry 3: ")


@given(places, places)
def test_swapped_entries_are_found(one: int, other: int) -> None:
    changed = [*GOOD]
    changed[one], changed[other] = GOOD[other], GOOD[one]
    assert verdict(changed, head=HEAD).whole == (one == other)
    renumbered = [replace(entry, seq=number) for number, entry in enumerate(changed, 1)]
    found = verdict(renumbered, head=HEAD)
    if one != other:
        assert found.broken == f"entry {min(one, other) + 1}: it was changed"


@given(places, st.booleans())
def test_a_removed_entry_is_found(place: int, renumber: bool) -> None:
    changed = [*GOOD[:place], *GOOD[place + 1 :]]
    if renumber:
        changed = [replace(entry, seq=number) for number, entry in enumerate(changed, 1)]
    found = verdict(changed, head=HEAD)
    assert not found.whole
    if place == len(GOOD) - 1:
        assert "the head says 5 entries, there are 4" in found.broken
    elif not renumber:
        assert found.broken == f"entry {place + 2}: entry {place + 1} is missing before it"


@given(places, st.booleans())
def test_an_inserted_entry_is_found(place: int, renumber: bool) -> None:
    (extra,) = chained(("RoleChanged", "a"), before=GOOD[place].hash, first=place + 2)
    changed = [*GOOD[: place + 1], extra, *GOOD[place + 1 :]]
    if renumber:
        changed = [replace(entry, seq=number) for number, entry in enumerate(changed, 1)]
    found = verdict(changed, head=HEAD)
    assert not found.whole
    if place < len(GOOD) - 1:
        assert found.broken.startswith(f"entry {place + 2 if not renumber else place + 3}: ")


@given(st.integers(0, len(GOOD) - 1))
def test_a_cut_tail_is_found_by_a_hash_noted_before(left: int) -> None:
    """Whoever cuts the end off and sets the head back leaves a chain that holds; the noted head tells."""
    cut = GOOD[:left]
    assert verdict(cut).whole
    found = verdict(cut, expected=HEAD.hash)
    assert "no entry has the hash that was expected" in found.broken
    assert verdict(GOOD, expected=HEAD.hash).whole
    for entry in GOOD:
        assert verdict(GOOD, expected=entry.hash).whole


def test_a_chain_made_anew_is_found_by_a_hash_noted_before() -> None:
    anew = chained(
        ("AccountOpened", "x"), ("LoggedIn", "a"), ("AccountOpened", "b"), ("LoggedIn", "b"), ("LoggedOut", "a")
    )
    assert verdict(anew).whole
    assert not verdict(anew, expected=HEAD.hash).whole


def test_the_head_of_an_empty_log_is_in_every_chain() -> None:
    assert verdict([], expected=GENESIS).whole
    assert verdict(GOOD, expected=GENESIS).whole


@pytest.mark.parametrize("head", [Head(4, HEAD.hash), Head(6, HEAD.hash), Head(5, GENESIS), Head(0, GENESIS), None])
def test_a_head_that_does_not_fit_is_found(head: Head | None) -> None:
    walk = Walk()
    for entry in GOOD:
        walk.step(entry)
    assert "head" in walk.end(head).broken


def erased(entry: Entry) -> Entry:
    return replace(entry, details=None, salt=None)


def test_details_may_be_erased_with_their_account_and_only_then() -> None:
    entries = chained(("AccountOpened", "a"), ("AccountOpened", "b"), ("AccountDeleted", "a"), ("LoggedIn", "a"))
    gone = [erased(entry) if entry.subject == "a" else entry for entry in entries]
    assert verdict(gone).whole
    living = [erased(entry) if entry.subject == "b" else entry for entry in entries]
    assert verdict(living).broken == "entry 2: its details are gone, though the account was not deleted"
    assert not verdict(gone[:2]).whole  # before it was deleted


def test_what_is_left_of_erased_details_is_found() -> None:
    entries = chained(("AccountOpened", "a"), ("AccountDeleted", "a"))
    for leftover in (replace(erased(entries[0]), salt="0" * 32), replace(erased(entries[0]), details="{}")):
        assert verdict([leftover, erased(entries[1])]).broken.startswith("entry 1: ")


@given(st.lists(st.text(max_size=3), max_size=4), st.lists(st.text(max_size=3), max_size=4))
def test_texts_cannot_flow_into_each_other(one: list[str], other: list[str]) -> None:
    assert (chain._digest(*one) == chain._digest(*other)) == (one == other)
