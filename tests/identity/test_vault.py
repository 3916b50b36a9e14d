"""Secrets at rest: opened by who may, for what they were sealed for, and only whole."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muelle.kit.vault import SealBroken, Vault, master_key

VAULT = Vault(b"0123456789abcdef0123456789abcdef")


@given(st.binary(max_size=300), st.text(max_size=20))
def test_what_is_sealed_can_be_opened(clear: bytes, purpose: str) -> None:
    sealed = VAULT.seal(purpose, clear)
    assert VAULT.open(purpose, sealed) == clear
    assert VAULT.seal(purpose, clear) != sealed  # so that equal secrets do not look alike


@given(st.binary(min_size=1, max_size=100), st.data())
def test_one_changed_bit_breaks_the_seal(clear: bytes, data: st.DataObject) -> None:
    sealed = bytearray(VAULT.seal("letters", clear))
    place = data.draw(st.integers(0, len(sealed) * 8 - 1))
    sealed[place // 8] ^= 1 << place % 8
    with pytest.raises(SealBroken):
        VAULT.open("letters", bytes(sealed))


@given(st.binary(max_size=60))
def test_what_was_never_sealed_is_refused(junk: bytes) -> None:
    with pytest.raises(SealBroken):
        VAULT.open("letters", junk)


def test_a_seal_is_for_one_purpose_and_one_installation() -> None:
    sealed = VAULT.seal("letters", b"a code")
    with pytest.raises(SealBroken):
        VAULT.open("totp", sealed)
    with pytest.raises(SealBroken):
        Vault(b"another master key, just as long").open("letters", sealed)


@given(st.lists(st.binary(max_size=4), max_size=4), st.lists(st.binary(max_size=4), max_size=4))
def test_a_mac_tells_every_list_of_parts_from_every_other(one: list[bytes], other: list[bytes]) -> None:
    assert (VAULT.mac("x", *one) == VAULT.mac("x", *other)) == (one == other)


def test_a_mac_is_for_one_purpose_and_one_installation() -> None:
    macs = {VAULT.mac("x", b"1"), VAULT.mac("y", b"1"), Vault(b"another").mac("x", b"1"), VAULT.mac("x", b"1")}
    assert len(macs) == 3


def test_a_vault_does_not_show_its_key() -> None:
    assert "0123456789abcdef" not in repr(VAULT)


def test_the_master_key_is_made_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    file = tmp_path / "home" / "secret.key"
    first = master_key("", file)
    assert len(first) == 32
    assert master_key("", file) == first
    assert file.stat().st_mode & 0o777 == 0o600
    assert os.listdir(file.parent) == ["secret.key"]


def test_a_setting_goes_before_the_file(tmp_path: Path) -> None:
    file = tmp_path / "secret.key"
    assert (
        master_key("a long secret", file) == master_key("a long secret", tmp_path / "elsewhere") != master_key("", file)
    )
