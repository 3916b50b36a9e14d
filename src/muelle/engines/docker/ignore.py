"""`.dockerignore`: which paths of a source do not go into a build. Pure.

As Docker reads it: a pattern is relative to the source's folder, `**` is any number of folders, what lies below a
matched folder is matched too, `!` takes back, and the last pattern that matches decides.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

FILE = ".dockerignore"
LONGEST_PATTERN = 4096


@dataclass(frozen=True)
class Pattern:
    expression: re.Pattern[str]
    takes_back: bool


class Ignored:
    def __init__(self, patterns: Sequence[Pattern] = ()) -> None:
        self._patterns = patterns
        self.whole_folders = not any(pattern.takes_back for pattern in patterns)
        """Whether nothing below an ignored folder can be wanted."""

    def __contains__(self, path: str) -> bool:
        ignored = False
        for pattern in self._patterns:
            if pattern.takes_back == ignored and any(pattern.expression.fullmatch(part) for part in _upwards(path)):
                ignored = not pattern.takes_back
        return ignored


def parse(text: str) -> Ignored:
    lines = (line.strip() for line in text.removeprefix("\ufeff").splitlines())
    return Ignored([_pattern(line) for line in lines if line and line[0] != "#" and len(line) <= LONGEST_PATTERN])


def _pattern(line: str) -> Pattern:
    takes_back = line.startswith("!")
    text = line.removeprefix("!").strip()
    clean = posixpath.normpath("/" + text).lstrip("/") if text else ""
    return Pattern(re.compile("".join(_translated(clean)), re.DOTALL), takes_back)


def _translated(pattern: str) -> Iterator[str]:
    """As Go's `filepath.Match`, and `**`."""
    rest = pattern
    while rest:
        if rest.startswith("**/"):
            rest = rest[3:]
            yield "(?:.*/)?"
        elif rest.startswith("**"):
            rest = rest[2:]
            yield ".*"
        elif group := re.match(r"\[(\^?)((?:\\.|[^\]\\])+)\]", rest):
            yield f"[{group[1]}{_characters(group[2])}]"
            rest = rest[group.end() :]
        else:
            taken = rest[:2] if rest[0] == "\\" and len(rest) > 1 else rest[0]
            yield {"*": "[^/]*", "?": "[^/]"}.get(taken) or re.escape(taken[-1])
            rest = rest[len(taken) :]


def _characters(text: str) -> str:
    return re.sub(r"\\?([\[\]^&|~\\])", r"\\\1", text)


def _upwards(path: str) -> Iterator[str]:
    while path:
        yield path
        path = path.rpartition("/")[0]
