"""A line for a shell, such that being asked to end reaches the program and not a shell in front of it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

_ASSIGNMENTS = re.compile(r"\s*(?:[A-Za-z_][A-Za-z0-9_]*=(?:\"[^\"]*\"|'[^']*'|[^\s\"'])*\s+)*")
_OF_THE_SHELL = frozenset(
    ["cd", "export", "source", ".", "set", "eval", ":", "unset", "ulimit", "trap", "wait", "exit"]
)
_JOINING = frozenset(
    [
        "if",
        "then",
        "elif",
        "else",
        "fi",
        "for",
        "while",
        "until",
        "do",
        "done",
        "case",
        "esac",
        "{",
        "}",
        "!",
        "[[",
        "function",
    ]
)


def started(line: str) -> tuple[str, ...]:
    """The command that runs a line of shell."""
    return ("sh", "-c", executing(line))


def executing(line: str) -> str:
    """The line with its last command in place of the shell, or with a shell that hands on what it is told."""
    line = line.strip().rstrip(";").strip()
    signs = list(_signs(line))
    if not all(sign in ("&&", ";") for _, sign in signs) or not _JOINING.isdisjoint(_first_words(line, signs)):
        return _handing_on(line)
    at = signs[-1][0] + len(signs[-1][1]) if signs else 0
    before, last = line[:at], line[at:].strip()
    begin = match.end() if (match := _ASSIGNMENTS.match(last)) else 0
    words = last[begin:].split()
    if words and words[0] == "exec":
        return line
    if not words or words[0] in _OF_THE_SHELL:
        return _handing_on(line)
    return f"{before} {last[:begin]}exec {last[begin:]}".strip()


def _first_words(line: str, signs: Sequence[tuple[int, str]]) -> Iterator[str]:
    for begin in (0, *(at + len(sign) for at, sign in signs)):
        yield from line[begin:].split(maxsplit=1)[:1]


def _handing_on(line: str) -> str:
    return f"trap 'trap \"\" TERM; kill -s TERM 0; wait' TERM; {{ {line}\n}} & wait $!"


def _signs(line: str) -> Iterator[tuple[int, str]]:
    """What joins commands, outside of quotes and of commands within commands; "?" is what this does not understand."""
    at = depth = 0
    quote = ""
    while at < len(line):
        letter = line[at]
        if letter == "\\" and quote != "'":
            at += 1
        elif quote:
            quote = "" if letter == quote else quote
        elif letter in "\"'`":
            quote = letter
        elif line.startswith(("$(", "${"), at):
            depth += 1
            at += 1
        elif letter in ")}" and depth:
            depth -= 1
        elif not depth and (sign := _sign(line, at)):
            yield at, sign
            at += len(sign) - 1
        at += 1
    if quote or depth:
        yield at, "?"


def _sign(line: str, at: int) -> str:
    if line.startswith("&&", at):
        return "&&"
    if line[at] == "&" and (line[at - 1 : at] in ("<", ">") or line.startswith("&>", at)):
        return ""  # as in 2>&1
    if line[at] == ";" and not line.startswith(";;", at):
        return ";"
    return "?" if line[at] in "|&;()\n" else ""
