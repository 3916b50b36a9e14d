"""Which paths of a folder stay at home when it is sent to be built.

Some always do: what a build makes anew, and what is nobody else's business. Others as `.muelleignore` says, in the
manner of `.gitignore`; where there is none, as `.dockerignore` says, whose patterns all begin at the top.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ALWAYS = frozenset(
    {".git", ".hg", ".svn", "node_modules", ".venv", "__pycache__"}
    | {".mypy_cache", ".pytest_cache", ".ruff_cache", ".tox", ".DS_Store"}
)
VIRTUAL_ENVIRONMENT = "pyvenv.cfg"
"""What a Python environment has at its top, however it is called: it is of no use anywhere else."""
OURS = ".muelleignore"
DOCKERS = ".dockerignore"
NEEDED = frozenset({"Dockerfile", DOCKERS})
"""A build needs them even where they are to be left out of what it builds."""
LONGEST_PATTERN = 4096


@dataclass(frozen=True)
class Pattern:
    expression: re.Pattern[str]
    folders_only: bool
    takes_back: bool


class Ignored:
    def __init__(self, patterns: Sequence[Pattern] = ()) -> None:
        self._patterns = patterns
        self._may_go_back = any(pattern.takes_back for pattern in patterns)

    def __call__(self, path: str, is_folder: bool) -> bool:
        if _name(path) in ALWAYS:
            return True
        if path in NEEDED:
            return False
        told = [pattern for pattern in self._patterns if _matches(pattern, path, is_folder)]
        return bool(told) and not told[-1].takes_back

    def may_hold_more(self, folder: str) -> bool:
        """Whether something in an ignored folder may be wanted all the same."""
        return self._may_go_back and _name(folder) not in ALWAYS


def ignored_in(folder: Path) -> Ignored:
    for name, from_the_top in ((OURS, False), (DOCKERS, True)):
        file = folder / name
        if file.is_file():
            return ignored_by(file.read_text("utf-8", errors="replace"), from_the_top=from_the_top)
    return Ignored()


def ignored_by(text: str, *, from_the_top: bool) -> Ignored:
    lines = (line.strip() for line in text.removeprefix("\ufeff").splitlines())
    wanted = [line for line in lines if line and line[0] != "#" and len(line) <= LONGEST_PATTERN]
    return Ignored([_pattern(line, from_the_top) for line in wanted])


def _name(path: str) -> str:
    return path.rpartition("/")[2]


def _matches(pattern: Pattern, path: str, is_folder: bool) -> bool:
    """A pattern that fits a folder fits all that is in it."""
    above = path.split("/")
    for depth in range(1, len(above) + 1):
        whole = depth == len(above)
        if pattern.folders_only and whole and not is_folder:
            continue
        if pattern.expression.fullmatch("/".join(above[:depth])):
            return True
    return False


def _pattern(line: str, from_the_top: bool) -> Pattern:
    takes_back = line.startswith("!")
    text = line.removeprefix("!").strip().removeprefix("./")
    folders_only = text.endswith("/")
    text = text.rstrip("/")
    anywhere = not from_the_top and "/" not in text
    expression = "".join(_translated(text.lstrip("/")))
    return Pattern(re.compile(f"(?:.*/)?{expression}" if anywhere else expression, re.DOTALL), folders_only, takes_back)


def _translated(rest: str) -> Iterator[str]:
    while rest:
        if rest.startswith("**/"):
            taken, made = 3, "(?:.*/)?"
        elif rest.startswith("**"):
            taken, made = 2, ".*"
        elif group := re.match(r"\[([!^]?)((?:\\.|[^\]\\])+)\]", rest):
            inner = re.sub(r"\\?([\[\]^&|~\\])", r"\\\1", group[2])
            taken, made = group.end(), f"[{'^' if group[1] else ''}{inner}]"
        elif rest[0] == "\\" and len(rest) > 1:
            taken, made = 2, re.escape(rest[1])
        else:
            taken, made = 1, {"*": "[^/]*", "?": "[^/]"}.get(rest[0]) or re.escape(rest[0])
        yield made
        rest = rest[taken:]
