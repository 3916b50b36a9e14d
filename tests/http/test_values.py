"""What requests are made of: texts that every part behind the door can keep, compare and hash."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr, TypeAdapter, ValidationError

from muelle.kit.http.values import EmailText, Secret

emails: TypeAdapter[str] = TypeAdapter(EmailText)
secrets: TypeAdapter[SecretStr] = TypeAdapter(Secret)


@pytest.mark.parametrize("text", ["ab\ud800cd", "\udfff", "nul\0", "", "x" * 257])
def test_a_secret_that_nothing_could_hash_or_keep_is_refused(text: str) -> None:
    with pytest.raises(ValidationError) as refused:
        secrets.validate_python(text)
    assert text == "" or text not in str(refused.value.errors(include_input=False))


@given(st.text(min_size=1, max_size=256))
def test_a_secret_that_is_taken_can_be_written_and_is_not_changed(text: str) -> None:
    taken = taken_by(secrets, text)
    assert taken is None or taken.get_secret_value().encode().decode() == text
    assert (taken is None) == ("\0" in text)


def test_an_address_is_in_lower_case() -> None:
    assert emails.validate_python("  Ana.Munoz@Example.COM ") == "ana.munoz@example.com"


@pytest.mark.parametrize("text", ["\u212aim@example.com", "kim@example.\u212aom", "\u0130van@example.com", "añ@b.c"])
def test_letters_that_only_look_like_plain_ones_in_lower_case_are_refused(text: str) -> None:
    assert taken_by(emails, text) is None


def taken_by(kind: TypeAdapter[Any], text: str) -> Any:
    try:
        return kind.validate_python(text)
    except ValidationError:
        return None
