"""Waiting until a workload is as it was asked to be, and telling on the way how it is doing.

It is asked again and again rather than streamed: what was missed between two questions does not matter here, and a
server that is started anew in the middle is no matter either. What tells of it goes to stderr, so that the result is
alone on stdout.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

from muelle.cli import showing
from muelle.cli.client import Client, ServerRefused
from muelle.cli.listening import Patience, insist
from muelle.kit.errors import Conflict, Failure, Missing

LOOK_SECONDS = 0.2
LAST_LINES = 15
LAST_WORDS_SECONDS = 1.5
"""How long the last lines of a program that has ended may take to be there."""
NOT_FOUND = 404

_PHASES: Mapping[str, str] = {
    "building": "Building.",
    "starting": "Starting.",
    "deploying": "Starting beside the one that serves.",
    "running": "It answers; making sure that it goes on to.",
    "failing": "It has ended by itself.",
    "stopping": "Stopping.",
    "deleting": "Deleting.",
}

Shown = Mapping[str, Any]
"""A thing as the API shows it."""


class ReleaseFailed(Failure):
    """{name}: release {number} failed. {why}"""

    hint = "{serving}"


class KeepsEnding(Failure):
    """{name} does not stay up. {why}"""

    hint = "`muelle logs {name}` shows what it says; `muelle rollback {name}` goes back to the release before."


class Overtaken(Conflict):
    """{name}: {what} meanwhile, so that release {number} was given up."""

    hint = "`muelle history {name}` shows what happened."


class IsGone(Missing):
    """{name} was deleted meanwhile."""


class Watch:
    """One workload, watched until it is as it should be."""

    def __init__(self, client: Client, workload: Shown, patience: Patience, say: Callable[[str], None]) -> None:
        self._client = client
        self._id = workload["id"]
        self._name = workload["name"]
        self._patience = patience
        self._say = say
        self._told = ("", "")

    def until_serves(self, release: int, after_version: int = 0) -> Shown:
        """Until that release has the traffic and has proved good. What was seen up to that version is old."""
        while True:
            now = self._look()
            if now["version"] > after_version:
                if self._is_proven(now, release):
                    return now
                if now["phase"] != "running" or now["serving"] == release:
                    self._tell(now)
            self._pause(now)

    def until_stopped(self) -> Shown:
        while True:
            now = self._look()
            if now["wish"] == "running":
                raise Overtaken(name=now["name"], what="it was started", number=now["release"])
            if now["phase"] == "stopped":
                return now
            self._tell(now)
            self._pause(now)

    def until_gone(self) -> None:
        while True:
            try:
                now = self._look()
            except IsGone:
                return
            self._tell(now)
            self._pause(now)

    def failure(self, number: int, now: Shown, why: Mapping[str, Any]) -> ReleaseFailed:
        """Says the last words of the release, and what serves now."""
        lines = self._last_lines(number)
        if lines:
            self._say(f"The last lines of release {number}:")
            for line in lines:
                self._say(f"  {showing.harmless(line['text'], sys.stderr)}")
        name = now["name"]
        return ReleaseFailed(name=name, number=number, why=showing.words(why), serving=serving(now, number))

    def _is_proven(self, now: Shown, release: int) -> bool:
        """Raises where it will not be."""
        self._refuse_other_wish(now, release)
        if now["release"] != release or now["phase"] == "failed":
            found = self._release(release)
            if found["verdict"] == "bad":
                raise self.failure(release, now, found["why"])
            if now["release"] != release:
                raise Overtaken(name=now["name"], what="another release was asked for", number=release)
        if now["phase"] == "failing" and self._release(release)["verdict"] == "good":
            raise KeepsEnding(name=now["name"], why=showing.words(now["why"]))
        serves = now["phase"] == "running" and now["serving"] == release
        return bool(serves and self._release(release)["verdict"] == "good")

    def _refuse_other_wish(self, now: Shown, release: int) -> None:
        if now["wish"] != "running":
            raise Overtaken(name=now["name"], what=f"it was {now['wish']}", number=release)
        if now["phase"] == "stopped" and now["why"]["code"] == "held":
            raise ReleaseFailed(name=now["name"], number=release, why=showing.words(now["why"]), serving="")

    def _look(self) -> Shown:
        try:
            now: Shown = insist(self._client, f"/workloads/{self._id}", self._patience, self._say)
        except ServerRefused as refused:
            if refused.facts["status"] != NOT_FOUND:
                raise
            raise IsGone(name=self._name) from None
        return now

    def _tell(self, now: Shown) -> None:
        """Each phase and each reason once."""
        phase, reason = now["phase"], showing.words(now["why"])
        before, self._told = self._told, (phase, reason)
        parts = [_PHASES.get(phase, "") if phase != before[0] else "", reason if reason != before[1] else ""]
        if any(parts):
            self._say(" ".join(part for part in parts if part))

    def _pause(self, now: Shown) -> None:
        reason = showing.words(now["why"]).rstrip(".")
        self._patience.check(f"it is {now['phase']}{f' ({reason})' if reason else ''}")
        time.sleep(LOOK_SECONDS)

    def _release(self, number: int) -> Shown:
        releases = insist(self._client, f"/workloads/{self._id}/releases", self._patience, self._say)
        found: Shown = next((release for release in releases if release["number"] == number), {"verdict": "unproven"})
        return found

    def _last_lines(self, number: int) -> list[Shown]:
        """A program that has just ended is still being listened to."""
        until = time.monotonic() + LAST_WORDS_SECONDS
        path = f"/workloads/{self._id}/logs?release={number}&tail={LAST_LINES}"
        while True:
            lines: list[Shown] = insist(self._client, path, self._patience, self._say)["items"]
            if lines or time.monotonic() > until:
                return lines
            time.sleep(LOOK_SECONDS)


def serving(now: Shown, failed: int) -> str:
    """What people get now, where a release failed."""
    if now["serving"] and now["serving"] != failed:
        return f"Release {now['serving']} goes on serving at {now['url']}"
    if now["release"] != failed and now["wish"] == "running":
        return f"Release {now['release']} is started again."
    return f"Nothing serves at {now['url']} now."
