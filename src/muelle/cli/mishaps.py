"""What goes wrong outside of Muelle, as sentences: a full disk, a file of somebody else's, a database that is broken.

What is not known here is a mistake of ours, and shows its stack trace.
"""

from __future__ import annotations

from muelle.kit.errors import MuelleError, Unavailable
from muelle.kit.logs import redact

LONGEST_REASON = 300
_DATABASES = frozenset({"sqlite3", "asyncpg", "sqlalchemy"})


class DatabaseGaveUp(Unavailable):
    """The database cannot do that: {reason}."""

    hint = "`muelle doctor` says how each database is."


class MachineRefused(Unavailable):
    """{what}{reason}."""

    hint = "`muelle doctor` says what can be used here."


def as_ours(problem: Exception) -> MuelleError | None:
    if isinstance(problem, MuelleError):
        return problem
    if is_trouble_of_a_database(problem):
        return DatabaseGaveUp(reason=in_words(problem))
    if isinstance(problem, OSError):
        what = f"{problem.filename}: " if problem.filename else ""
        return MachineRefused(what=what, reason=problem.strerror or in_words(problem))
    return None


def is_trouble_of_a_database(problem: BaseException) -> bool:
    """Told by where the error is from, so that no driver is loaded for it. A broken constraint is a mistake of ours."""
    kind = type(problem)
    return kind.__module__.partition(".")[0] in _DATABASES and kind.__name__ != "IntegrityError"


def in_words(problem: BaseException) -> str:
    """What it complains about, on one line, without the statement that it was about and without secrets."""
    wrapped: BaseException | None = getattr(problem, "orig", None)
    told = problem if wrapped is None else wrapped.__cause__ or wrapped
    if isinstance(told, TimeoutError):
        return "it does not answer in time"
    text = " ".join(str(told).split()) or type(told).__name__
    return redact(text.removesuffix("."))[:LONGEST_REASON]
