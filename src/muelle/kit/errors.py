"""Seven kinds of error that a caller can act on.

A room subclasses a kind; the docstring is the message, `hint` says the next step, and `code` (the class name in
snake case) is stable, so that a program may depend on it. Both texts may name facts in braces, handed in as keywords:

    class EmailTaken(Conflict):
        \"\"\"An account with the e-mail address {email} already exists.\"\"\"

        hint = "Log in, or reset the password."

    raise EmailTaken(email="ana@example.com")

What a kind means in HTTP is not known here, but in `kit.http.problems` and in each face.
"""

from __future__ import annotations

import inspect
import re
from enum import StrEnum
from typing import Any, ClassVar


class Kind(StrEnum):
    INVALID = "invalid"
    MISSING = "missing"
    DENIED = "denied"
    CONFLICT = "conflict"
    UNPAID = "unpaid"
    UNAVAILABLE = "unavailable"
    FAILURE = "failure"


class MuelleError(Exception):
    """Something went wrong."""

    kind: ClassVar[Kind] = Kind.FAILURE
    code: ClassVar[str] = "error"
    hint: ClassVar[str] = ""

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        cls.code = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", cls.__name__).lower()

    def __init__(self, **facts: Any) -> None:
        self.facts = facts
        super().__init__(inspect.cleandoc(type(self).__doc__ or "").format(**facts))

    @property
    def message(self) -> str:
        return str(self)

    @property
    def advice(self) -> str:
        return type(self).hint.format(**self.facts)


class Invalid(MuelleError):
    """What was sent does not make sense."""

    kind = Kind.INVALID


class Missing(MuelleError):
    """There is no such thing."""

    kind = Kind.MISSING


class Denied(MuelleError):
    """That is not allowed."""

    kind = Kind.DENIED


class Conflict(MuelleError):
    """That does not fit the present state of things."""

    kind = Kind.CONFLICT


class Unpaid(MuelleError):
    """There is not enough money for that."""

    kind = Kind.UNPAID


class Unavailable(MuelleError):
    """Something that is needed for this does not answer now."""

    kind = Kind.UNAVAILABLE


class Failure(MuelleError):
    """Muelle made a mistake."""

    kind = Kind.FAILURE


class Unrecognised(Denied):
    """It is not known who is asking."""

    hint = "Send a valid access token or API key as `Authorization: Bearer …`."


class TooOften(Denied):
    """That was asked too often."""

    hint = "Wait {retry_seconds} seconds and try again."

    def __init__(self, *, retry_seconds: int, **facts: Any) -> None:
        super().__init__(retry_seconds=retry_seconds, **facts)
