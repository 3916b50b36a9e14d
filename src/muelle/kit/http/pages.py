"""Lists, a page at a time: `?limit=` and an opaque `?cursor=` that says after which item the next page begins."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Generic, TypeVar

from fastapi import Depends, Query
from pydantic import BaseModel, ConfigDict, Field

from muelle.kit.errors import Invalid

LARGEST_PAGE = 200
DEFAULT_PAGE = 50
LONGEST_CURSOR = 200
LONGEST_KEY = 100

Item = TypeVar("Item")
Source = TypeVar("Source")


class BadCursor(Invalid):
    """The cursor is not one that this list gave."""

    hint = "Begin again without a cursor."


class Page(BaseModel, Generic[Item]):
    """A part of a list."""

    model_config = ConfigDict(json_schema_extra={"description": "A part of a list."})  # docstrings get lost on the way

    items: list[Item]
    next: str | None = Field(
        None, description="The cursor of the next page; null on the last one.", examples=["WyIwMTlhMmIzYzRkNWUiXQ=="]
    )


@dataclass(frozen=True)
class Cursor:
    """Where a page begins: after this key (nothing: at the start), and how many items it holds at most."""

    after: str | None
    limit: int


async def _read_cursor(
    limit: Annotated[int, Query(ge=1, le=LARGEST_PAGE, description="How many at most.")] = DEFAULT_PAGE,
    cursor: Annotated[
        str | None,
        Query(
            max_length=LONGEST_CURSOR,
            pattern=r"^[A-Za-z0-9_=-]+$",
            description="Where to go on: `next` of the page before.",
        ),
    ] = None,
) -> Cursor:
    return Cursor(None if cursor is None else _decode(cursor), limit)


PageQuery = Annotated[Cursor, Depends(_read_cursor)]


def page_of(
    rows: Sequence[Source], cursor: Cursor, key: Callable[[Source], str], show: Callable[[Source], Item]
) -> Page[Item]:
    """Makes a page of rows that were asked for with `limit + 1`, so that it is known whether more follow."""
    shown = rows[: cursor.limit]
    more = len(rows) > cursor.limit
    return Page(items=[show(row) for row in shown], next=_encode(key(shown[-1])) if more else None)


def _encode(key: str) -> str:
    return base64.urlsafe_b64encode(json.dumps([key]).encode()).decode()


def _decode(text: str) -> str:
    try:
        (key,) = json.loads(base64.urlsafe_b64decode(text.encode()))
    except (binascii.Error, ValueError, TypeError, RecursionError) as error:
        raise BadCursor from error
    if not isinstance(key, str) or len(key) > LONGEST_KEY or not key.isprintable():
        raise BadCursor
    return key
