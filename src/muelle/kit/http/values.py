"""What requests and answers are made of: bodies that refuse unknown fields, and texts that are safe to keep."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    SecretStr,
    Strict,
    StringConstraints,
)

from muelle.kit.ids import ID_PATTERN

LONGEST_EMAIL = 254
_EMAIL = re.compile(
    r"[a-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)*"
)

_RFC_3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)", re.ASCII)


class Body(BaseModel):
    """A request's body. Unknown fields are refused, so that a misspelt one is not silently passed over."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Shown(BaseModel):
    """An answer's body."""

    model_config = ConfigDict(frozen=True, from_attributes=True)


def _email(text: str) -> str:
    """Looked at before it is in lower case, which makes a plain k of the Kelvin sign, and so of one person another."""
    if text.isascii() and len(text) <= LONGEST_EMAIL and _EMAIL.fullmatch(text.lower()):
        return text.lower()
    raise ValueError("is not an e-mail address")


def _typable(secret: SecretStr) -> SecretStr:
    """Half a surrogate pair is no letter: it cannot be typed, and not be hashed."""
    text = secret.get_secret_value()
    if "\0" in text:
        raise ValueError("must not contain NUL")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("must be text") from None
    return secret


def _rfc3339(given: object) -> object:
    if isinstance(given, datetime) or (isinstance(given, str) and _RFC_3339.fullmatch(given)):
        return given
    raise ValueError("is not a moment such as 2026-01-16T10:30:00Z, with the offset from UTC")


def _in_utc(moment: datetime) -> datetime:
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise ValueError("is too far away") from None


PlainText = Annotated[str, StringConstraints(strip_whitespace=True, pattern=r"^[^\x00-\x1f\x7f]*$")]
"""One line of text, without control characters (no database and no terminal likes them)."""

EmailText = Annotated[
    str,
    StringConstraints(strip_whitespace=True),
    AfterValidator(_email),
    Field(examples=["ana@example.com"], json_schema_extra={"format": "email"}),
]
"""An e-mail address, in lower case."""

Secret = Annotated[SecretStr, Field(min_length=1, max_length=256), AfterValidator(_typable)]
Whole = Annotated[int, Strict()]
"""A whole number, and not `true`, or a text of digits."""

Id = Annotated[str, StringConstraints(pattern=ID_PATTERN), Field(examples=["019a2b3c4d5e6f708192a3b4"])]
Moment = Annotated[
    AwareDatetime,
    BeforeValidator(_rfc3339),
    AfterValidator(_in_utc),
    PlainSerializer(lambda moment: moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")),
    Field(json_schema_extra={"type": "string", "format": "date-time"}, examples=["2026-01-16T10:30:00.000Z"]),
]
"""A moment: told in UTC with `Z`, taken with any offset, as RFC 3339 writes it."""
