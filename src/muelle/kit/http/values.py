"""What requests and answers are made of: bodies that refuse unknown fields, and texts that are safe to keep."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainSerializer, SecretStr, StringConstraints

from muelle.kit.ids import ID_PATTERN

LONGEST_EMAIL = 254
_EMAIL = re.compile(
    r"[a-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)*"
)


class Body(BaseModel):
    """A request's body. Unknown fields are refused, so that a misspelt one is not silently passed over."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Shown(BaseModel):
    """An answer's body."""

    model_config = ConfigDict(frozen=True, from_attributes=True)


def _no_control_characters(text: str) -> str:
    if any(ord(char) < 32 or ord(char) == 127 for char in text):
        raise ValueError("must not contain control characters")
    return text


def _email(text: str) -> str:
    if len(text) > LONGEST_EMAIL or not _EMAIL.fullmatch(text):
        raise ValueError("is not an e-mail address")
    return text


def _no_nul(secret: SecretStr) -> SecretStr:
    if "\0" in secret.get_secret_value():
        raise ValueError("must not contain NUL")
    return secret


PlainText = Annotated[str, StringConstraints(strip_whitespace=True), AfterValidator(_no_control_characters)]
"""One line of text, without control characters (no database and no terminal likes them)."""

EmailText = Annotated[
    str,
    StringConstraints(strip_whitespace=True, to_lower=True),
    AfterValidator(_email),
    Field(examples=["ana@example.com"], json_schema_extra={"format": "email"}),
]
"""An e-mail address, in lower case."""

Secret = Annotated[SecretStr, Field(min_length=1, max_length=256), AfterValidator(_no_nul)]
Id = Annotated[str, StringConstraints(pattern=ID_PATTERN), Field(examples=["019a2b3c4d5e6f708192a3b4"])]
Moment = Annotated[
    datetime,
    PlainSerializer(lambda moment: moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")),
    Field(json_schema_extra={"type": "string", "format": "date-time"}, examples=["2026-01-16T10:30:00.000Z"]),
]
"""A moment in an answer, ISO-8601 in UTC with `Z`."""
