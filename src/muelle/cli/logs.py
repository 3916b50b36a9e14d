"""`muelle logs`: what a workload's programs, or its last build, have written; and with `-f` what they go on to write.

Following begins where the history ended, line by line, and is taken up again after the last line that was seen: neither
a cut connection nor a server that is started anew loses or doubles one.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import typer

from muelle.cli import showing
from muelle.cli.client import Client
from muelle.cli.listening import Patience, events
from muelle.cli.naming import latest_deployment, named
from muelle.kit.errors import Missing

AWAY_SECONDS = 60.0
"""How long a server may be away from somebody who follows."""
USUAL_LINES = 100
LARGEST_PAGE = 1000

Line = Mapping[str, Any]


class NeverDeployed(Missing):
    """Nothing was deployed to {name} yet."""


@dataclass(frozen=True)
class Wanted:
    """Which lines, and how they are shown."""

    number: int | None = None
    since_seconds: int | None = None
    contains: str = ""
    release: int | None = None
    build: bool = False
    times: bool = False
    as_json: bool = False

    @property
    def since(self) -> datetime | None:
        return None if self.since_seconds is None else datetime.now(UTC) - timedelta(seconds=self.since_seconds)


def show_logs(name: str, wanted: Wanted, *, follow: bool) -> None:
    if wanted.build and (wanted.release is not None or wanted.since_seconds is not None):
        raise typer.BadParameter("--build shows the last build: --release and --since are for what programs write.")
    showing.ready()
    client = Client.here()
    workload = named(client, name)
    path = f"/workloads/{workload['id']}/logs"
    if wanted.build:
        latest = latest_deployment(client, workload)
        if latest is None:
            raise NeverDeployed(name=name)
        path = f"/deployments/{latest['id']}/logs"
    reading = _Reading(client, path, wanted)
    for line in reading.followed() if follow else reading.history():
        _show(line, wanted)


class _Reading:
    def __init__(self, client: Client, path: str, wanted: Wanted) -> None:
        self._client = client
        self._path = path
        self._wanted = wanted
        self._since = wanted.since

    def history(self) -> Iterator[Line]:
        filters = self._filters()
        if self._since is None or self._wanted.number is not None:
            yield from self._ask(filters | {"tail": self._wanted.number or USUAL_LINES})["items"]
            return
        after: dict[str, Any] = {}
        while True:
            page = self._ask(filters | after | {"limit": LARGEST_PAGE})
            yield from page["items"]
            if page["next"] is None:
                return
            after = {"after": page["next"]}

    def followed(self) -> Iterator[Line]:
        """The history up to a certain line, and then all that comes after that one."""
        newest = self._ask({"tail": 1})["items"]
        upto = newest[-1]["cursor"] if newest else 0
        yield from (line for line in self.history() if line["cursor"] <= upto)
        yield from (line for line in self._coming(upto) if self._is_wanted(line))

    def _coming(self, upto: int) -> Iterator[Line]:
        path, last_id = f"{self._path}/stream", str(upto) if upto else ""
        if not upto and not self._wanted.build:
            path += f"?tail={LARGEST_PAGE}"  # there was none a moment ago; without it, those of this moment are lost
        with closing(events(self._client, path, Patience(AWAY_SECONDS), _notice, last_id)) as coming:
            for told in coming:
                if told.name == "line":
                    yield told.data
                elif told.name == "gap":
                    _notice(f"… {told.data['lines']} lines are not kept any more.")
                elif told.name == "end":
                    return

    def _filters(self) -> dict[str, Any]:
        asked = {
            "contains": self._wanted.contains or None,
            "release": self._wanted.release,
            "since": None if self._since is None else self._since.isoformat(),
        }
        return {name: value for name, value in asked.items() if value is not None}

    def _is_wanted(self, line: Line) -> bool:
        """As the server judges the lines of the history."""
        wanted = self._wanted
        right_release = wanted.release is None or line["release"] == wanted.release
        return right_release and (not wanted.contains or wanted.contains.casefold() in line["text"].casefold())

    def _ask(self, query: Mapping[str, Any]) -> Any:
        return self._client.ask("GET", f"{self._path}?{urlencode(query)}")


def _show(line: Line, wanted: Wanted) -> None:
    if wanted.as_json:
        showing.print_json(line)
        return
    text = showing.harmless(line["text"])
    if line["stream"] == "muelle" and not wanted.build:
        text = showing.coloured(f"muelle: {text}", showing.DIM)
    when = ""
    if wanted.times:
        release = f" #{line['release']}" if line["release"] else ""
        when = showing.coloured(f"{showing.local(line['at'])}{release}  ", showing.DIM)
    print(f"{when}{text}", flush=True)


def _notice(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
