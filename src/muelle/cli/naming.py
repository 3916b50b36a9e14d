"""Workloads by their names. What is no name of one's own may be an id, of whoever's the server lets one see."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote, urlencode

from muelle.cli.client import Client, ServerRefused
from muelle.kit.errors import Missing
from muelle.kit.ids import is_id

LARGEST_PAGE = 200
NOT_FOUND = 404
_NAME = re.compile(r"[a-z0-9-]{1,40}")

Shown = Mapping[str, Any]


class NoSuchWorkloadHere(Missing):
    """You have no workload "{name}"."""

    hint = "`muelle ps` shows them."


def named(client: Client, name: str) -> Shown:
    found = found_by_name(client, name)
    if found is None and is_id(name):
        found = _found_by_id(client, name)
    if found is None:
        raise NoSuchWorkloadHere(name=name)
    return found


def found_by_name(client: Client, name: str) -> Shown | None:
    if not _NAME.fullmatch(name):
        return None
    items: list[Shown] = client.ask("GET", f"/workloads?name={quote(name)}")["items"]
    return next((item for item in items if item["name"] == name), None)


def latest_deployment(client: Client, workload: Shown) -> Shown | None:
    items: list[Shown] = client.ask("GET", f"/workloads/{workload['id']}/deployments?limit=1")["items"]
    return items[0] if items else None


def all_of(client: Client, path: str, most: int | None = None) -> Iterator[Shown]:
    """A list to its end, a page at a time; or so many of it."""
    query: dict[str, Any] = {"limit": min(most or LARGEST_PAGE, LARGEST_PAGE)}
    given = 0
    while True:
        page = client.ask("GET", f"{path}?{urlencode(query)}")
        for item in page["items"]:
            yield item
            given += 1
            if given == most:
                return
        if not page["next"]:
            return
        query["cursor"] = page["next"]


def _found_by_id(client: Client, id: str) -> Shown | None:
    try:
        found: Shown = client.ask("GET", f"/workloads/{id}")
    except ServerRefused as refused:
        if refused.facts["status"] != NOT_FOUND:
            raise
        return None
    return found
