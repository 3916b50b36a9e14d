"""Streams of events, read to their end: where one is cut, it is taken up again after the last event that was seen.

A server that is started anew in the middle loses nobody anything, as long as it is back in time.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from muelle.cli.client import QUIET_SECONDS, Client, NotMuelle, ServerRefused, ServerSilent
from muelle.kit.errors import Failure, Unavailable

FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 2.0
TOLD_AFTER_SECONDS = 1.0
SHORTEST_QUIET_SECONDS = 1.0
_AWAY = frozenset({502, 503, 504})
_PARTINGS = frozenset({"bye", "overrun"})


class WentAway(Unavailable):
    """{server} does not answer any more."""

    hint = "{meanwhile}"


class TookTooLong(Unavailable):
    """That is not done within {seconds} seconds{state}."""

    hint = "{meanwhile}"


class StreamBroke(Failure):
    """{detail}"""


@dataclass(frozen=True)
class Told:
    name: str
    data: Any
    id: str = ""


@dataclass(frozen=True)
class Patience:
    """How long to wait for what, and what to tell a person about the time after."""

    away_seconds: float
    """For a server that does not answer, before it is given up."""
    until: float | None = None
    """When to give up altogether, by the clock of `time.monotonic`."""
    seconds: float = 0.0
    """The same, as the person has said it."""
    meanwhile: str = ""
    """What happens though nobody waits for it any more."""

    @property
    def left(self) -> float:
        return float("inf") if self.until is None else self.until - time.monotonic()

    def check(self, state: str = "") -> None:
        if self.left <= 0:
            raise TookTooLong(
                seconds=f"{self.seconds:g}", state=f": {state}" if state else "", meanwhile=self.meanwhile
            )


class Absence:
    """Counts how long a server has been away, and waits a little longer each time."""

    def __init__(self, patience: Patience, notice: Callable[[str], None]) -> None:
        self._patience = patience
        self._notice = notice
        self._since: float | None = None
        self._told = False
        self._pause = FIRST_PAUSE_SECONDS

    def over(self) -> None:
        self._since = None
        self._pause = FIRST_PAUSE_SECONDS

    def wait(self, server: str) -> None:
        now = time.monotonic()
        if self._since is None:
            self._patience.check()
            self._since = now
        elif now - self._since > self._patience.away_seconds or self._patience.left <= 0:
            raise WentAway(server=server, meanwhile=self._patience.meanwhile)
        elif now - self._since > TOLD_AFTER_SECONDS and not self._told:
            self._told = True
            self._notice(f"{server} does not answer; trying again for {self._patience.away_seconds:g} seconds.")
        time.sleep(min(self._pause, max(self._patience.left, 0.0)))
        self._pause = min(self._pause * 2, LONGEST_PAUSE_SECONDS)


Away = (ServerSilent, ServerRefused, NotMuelle)


def refuse_unless_away(problem: Exception) -> None:
    """Whether it may be back in a moment: nobody there, or only what stands in front of it."""
    if isinstance(problem, ServerRefused) and problem.facts["status"] not in _AWAY:
        raise problem


def insist(client: Client, path: str, patience: Patience, notice: Callable[[str], None]) -> Any:
    """Reads something, from a server that may be away for a moment."""
    absence = Absence(patience, notice)
    while True:
        try:
            return client.ask("GET", path)
        except Away as problem:
            refuse_unless_away(problem)
        absence.wait(client.server)


def events(
    client: Client, path: str, patience: Patience, notice: Callable[[str], None], last_id: str = ""
) -> Generator[Told, None, None]:
    """Each event once, for as long as somebody asks for more."""
    absence = Absence(patience, notice)
    while True:
        try:
            quiet = min(QUIET_SECONDS, max(patience.left, SHORTEST_QUIET_SECONDS))
            with client.listen(path, last_id, quiet) as pieces:
                for told in parsed(pieces):
                    patience.check()
                    absence.over()
                    if told is None:
                        continue
                    if told.name in _PARTINGS:
                        break
                    if told.name == "problem":
                        raise StreamBroke(detail=told.data.get("detail", "The stream broke."))
                    last_id = told.id or last_id
                    yield told
        except Away as problem:
            refuse_unless_away(problem)
        absence.wait(client.server)


def parsed(pieces: Iterable[bytes]) -> Iterator[Told | None]:
    """Events as they are written on the wire; None for what says only that somebody is there.

    Lines end where the sender ended them and nowhere else: a text has letters in it that Python takes for line ends.
    """
    fields: dict[str, str] = {}
    for line in _lines(pieces):
        if line.startswith(":") or line.startswith("retry:"):
            yield None
        elif line:
            name, _, value = line.partition(":")
            fields[name] = value.removeprefix(" ")
        elif fields:
            yield Told(fields.get("event", "message"), json.loads(fields.get("data", "null")), fields.get("id", ""))
            fields = {}


def _lines(pieces: Iterable[bytes]) -> Iterator[str]:
    held = b""
    for piece in pieces:
        *whole, held = (held + piece).split(b"\n")
        for line in whole:
            yield line.decode(errors="replace").removesuffix("\r")
