"""What a build says, made into lines for people, and into a reason when it fails. Holds no more than the last words."""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Iterator
from typing import Any

from muelle.engines.docker.streams import Words
from muelle.engines.protocol import Say

LAST_WORDS = 3
LONGEST_REASON = 600
KILLED = 137
"""128 + SIGKILL: as a rule, the kernel took the memory limit seriously."""

_STEP = re.compile(r"Step (\d+)/(\d+) : (\w+)\s?(.*)")
_CONTAINER = re.compile(r" ---> Running in ([0-9a-f]{12,64})")
_CODE = re.compile(r"returned a non-zero code: (\d+)")
_ARROW = " ---> "
_CACHED = " ---> Using cache"


class BuildLog:
    def __init__(self, say: Say, prelude: str, memory_bytes: int) -> None:
        self._say = say
        self._prelude = prelude
        self._memory_bytes = memory_bytes
        self._words = Words()
        self._last: deque[str] = deque(maxlen=LAST_WORDS)
        self.begin()

    def begin(self) -> None:
        self._step = ""
        self.image = ""
        """The digest of what was built, at the end."""
        self.failure = ""
        """Docker's words, if it failed."""

    def take(self, message: dict[str, Any]) -> Iterator[str]:
        """Says what is to be said; gives back the containers that have been made for commands."""
        if "error" in message:
            self.failure = str(message["error"])
        if isinstance(message.get("aux"), dict):
            self.image = str(message["aux"].get("ID", self.image))
        for line in self._words.feed(str(message.get("stream", ""))):
            if match := _CONTAINER.match(line):
                yield match[1]
            self._tell(line)

    def end(self) -> None:
        for line in self._words.end():
            self._tell(line)

    def _tell(self, line: str) -> None:
        if match := _STEP.match(line):
            self._step = self._readable(match[3], match[4])
            self._last.clear()
            self._say(f"Step {match[1]}/{match[2]}: {self._step}")
        elif line == _CACHED:
            self._say("  as before")
        elif not line.startswith((_ARROW, "Removing intermediate container", "Successfully ")):
            self._last.append(line)
            self._say(line)

    def _readable(self, instruction: str, rest: str) -> str:
        """A command as it was meant, without what we put around it."""
        if instruction == "RUN" and rest.startswith('["/bin/sh"'):
            rest = _command(rest)
        return f"{instruction} {rest.replace(self._prelude, '', 1) if self._prelude else rest}"

    def reason(self) -> str:
        code = _CODE.search(self.failure)
        if code is None:
            return self.failure.replace(self._prelude, "", 1)[:LONGEST_REASON]
        why = f"ended with {code[1]}"
        if int(code[1]) == KILLED:
            why = f"was killed, probably since it needed more than {self._memory_bytes >> 20} MiB of memory"
        said = " / ".join(self._last)
        return f"{self._step[:200]} {why}" + (f": {said[-LONGEST_REASON:]}" if said else "")


def _command(rest: str) -> str:
    try:
        return str(json.loads(rest)[-1])
    except (ValueError, IndexError, TypeError):
        return rest
