"""Keeps transactions short: inside one, a call that may wait for somebody else is a mistake of ours, said at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from muelle.kit.errors import Failure


@dataclass(eq=False)
class Section:
    """The stretch of code between begin and commit. `open` tells a task that merely inherited it that it is over."""

    database: str
    open: bool = True


_section: ContextVar[Section | None] = ContextVar("muelle_transaction", default=None)


class SlowCallInTransaction(Failure):
    """{what} was called inside a transaction on the database "{database}"."""

    hint = "Make the call before the transaction or after its commit."


class NestedTransaction(Failure):
    """A transaction on the database "{database}" was opened inside another one."""

    hint = "Hand the open transaction on instead."


class ReadingBesideTransaction(Failure):
    """The database "{database}" was read from outside, in the middle of a transaction on it."""

    hint = "Read by the open transaction: it sees what it has written, and waits for no second connection."


def refuse_inside_transaction(what: str) -> None:
    section = _section.get()
    if section is not None and section.open:
        raise SlowCallInTransaction(what=what, database=section.database)


def refuse_beside_own_transaction(database: str) -> None:
    """Such a reading would see the state of before, and many at once could wait for each other's connections."""
    section = _section.get()
    if section is not None and section.open and section.database == database:
        raise ReadingBesideTransaction(database=database)


@contextmanager
def transaction_section(database: str) -> Iterator[Section]:
    outer = _section.get()
    if outer is not None and outer.open:
        raise NestedTransaction(database=database)
    section = Section(database)
    token = _section.set(section)
    try:
        yield section
    finally:
        section.open = False
        _section.reset(token)
