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


def refuse_inside_transaction(what: str) -> None:
    section = _section.get()
    if section is not None and section.open:
        raise SlowCallInTransaction(what=what, database=section.database)


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
