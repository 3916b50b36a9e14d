"""The Dockerfile that a source brings: read, and built as it stands but for what changes nothing in the image.

Each stage is labelled as ours, so that what a build leaves behind can be found again. Where there is something that the
image must not keep (`prelude`), each command begins with it. Wishes for a cache, which only Docker's newer builder
knows, are left out: the same comes out, a little later.

What it builds upon is looked at before: a part of an image's id is a name to Docker, and so are the names of the
images that we keep, and neither must lead one owner to what another one built. Pure.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile

from muelle.engines.protocol import BuildFailed

MOST_INSTRUCTIONS = 500
LONGEST_BYTES = 256 * 1024

_DIRECTIVE = re.compile(r"#\s*([a-zA-Z]+)\s*=\s*(\S+)\s*")
_VARIABLE = re.compile(r"\$(?:(?P<plain>\w+)|\{(?P<name>\w+)(?::(?P<sign>[-+])(?P<other>[^}]*))?\})")
_SHELLS = re.compile(r"(?:.*/)?(?:a|ba|da|k|z)?sh")
_LOOKS_LIKE_ID = re.compile(r"(?:sha256:)?[0-9a-f]{1,64}")
_EMPTY = "scratch"
_GAP = r"(?:\s|[\\`][ \t]*\n)"
"""Between two words, also where a line goes on in the next one."""
_FASTER = re.compile(
    rf"\A(\s*(?:RUN|COPY|ADD){_GAP}+(?:--\S+{_GAP}+)*?)(?:--mount=(?=\S*\btype=cache\b)\S+|--link(?:=true)?){_GAP}+",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Instruction:
    name: str
    """In capitals."""
    rest: str
    """What follows, as one line."""
    first: int
    last: int
    """The lines where it stands, counted from 0."""


def instructions(text: str) -> list[Instruction]:
    lines = text.removeprefix("\ufeff").splitlines()
    ends = re.compile(rf"(?:^|[^{re.escape(_escape(lines))}]){re.escape(_escape(lines))}[ \t]*$")
    found: list[Instruction] = []
    held: list[str] = []
    first = 0
    for number, line in enumerate(lines):
        if not line.strip() or line.lstrip().startswith("#"):
            continue  # also in the middle of an instruction
        first = first if held else number
        goes_on = ends.search(line)
        held.append(line.rstrip()[:-1] if goes_on else line)
        if not goes_on or number == len(lines) - 1:
            found.append(_instruction(held, first, number))
            held = []
    if held:
        found.append(_instruction(held, first, len(lines) - 1))
    if len(found) > MOST_INSTRUCTIONS:
        raise BuildFailed(reason=f"the Dockerfile has more than {MOST_INSTRUCTIONS} instructions")
    return found


def _escape(lines: Sequence[str]) -> str:
    """`# escape=` before all else makes another character the one that lets a line go on."""
    for line in lines:
        match = _DIRECTIVE.fullmatch(line.strip())
        if match is None:
            break
        if match[1].lower() == "escape" and match[2] in {"\\", "`"}:
            return match[2]
    return "\\"


def _instruction(lines: Sequence[str], first: int, last: int) -> Instruction:
    name, _, rest = "".join(lines).strip().replace("\t", " ").partition(" ")
    return Instruction(name.upper(), rest.strip(), first, last)


def bases(text: str, arguments: Mapping[str, str]) -> list[str]:
    """The images that it builds upon or copies from, each once. Raises BuildFailed for one that could be an id."""
    stages: set[str] = set()
    known: dict[str, str] = {}
    found: dict[str, None] = {}
    before_all = True
    for one in instructions(text):
        if one.name == "ARG" and before_all:
            known.update(_arguments(one.rest, known, arguments))
        elif one.name == "FROM":
            before_all = False
            words = [word for word in one.rest.split() if not word.startswith("--")]
            _note(_filled(words[0], known) if words else "", stages, found)
            if len(words) > 2 and words[1].upper() == "AS":
                stages.add(words[2].lower())
        for name in copied_from(f"{one.name} {one.rest}"):
            if not name.isdigit():  # a stage by its number
                _note(name, stages, found)
    return list(found)


def copied_from(instruction: str) -> list[str]:
    """Whatever a `COPY --from=` names, also one that waits for the next build."""
    words = instruction.split()
    while words and words[0].upper() == "ONBUILD":
        words = words[1:]
    if not words or words[0].upper() not in {"COPY", "ADD"}:
        return []
    flags = takewhile(lambda word: word.startswith("--"), words[1:])
    return [flag.partition("=")[2] for flag in flags if flag.startswith("--from")]


def _arguments(rest: str, known: Mapping[str, str], given: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for word in re.findall(r"""(?:[^\s"']|"[^"]*"|'[^']*')+""", rest):
        name, has_value, value = word.partition("=")
        if name in given:
            yield name, given[name]
        elif has_value:
            yield name, _filled(re.sub("[\"']", "", value), known)


def _filled(text: str, known: Mapping[str, str]) -> str:
    def value(match: re.Match[str]) -> str:
        there = known.get(match["plain"] or match["name"], "")
        if match["sign"] == "-":
            return there or match["other"]
        return (match["other"] if there else "") if match["sign"] == "+" else there

    return _VARIABLE.sub(value, re.sub("[\"']", "", text))


def _note(name: str, stages: set[str], found: dict[str, None]) -> None:
    if name.lower() in stages or name == _EMPTY:
        return
    if "$" in name or "\\" in name or not name:
        raise BuildFailed(reason=f'it is not clear which image "{name}" in the Dockerfile is')
    if _LOOKS_LIKE_ID.fullmatch(name):
        raise BuildFailed(reason=f'"{name}" could be a part of an image\'s id; write "{name}:latest" for the name')
    found[name] = None


def labelled(text: str, labels: Mapping[str, str], prelude: str = "") -> str:
    """The same, with labels in each stage and the prelude before each command that a shell runs."""
    text = without_caches(text)
    lines = text.splitlines()
    marks = " ".join(f"{name}={json.dumps(value)}" for name, value in labels.items())
    after: dict[int, str] = {}
    in_shell = True
    for one in instructions(text):
        if one.name == "FROM":
            after[one.last] = f"LABEL {marks}"
            in_shell = True
        elif one.name == "SHELL":
            in_shell = _is_shell(one.rest)
        elif one.name == "RUN" and prelude and in_shell and not one.rest.startswith(("[", "--")):
            lines[one.first] = _prefixed(lines[one.first], prelude)
    told = (part for number, line in enumerate(lines) for part in (line, after.get(number)) if part is not None)
    return "\n".join(told) + "\n"


def without_caches(text: str) -> str:
    lines = text.removeprefix("\ufeff").splitlines()
    told: list[str] = []
    at = 0
    for one in instructions(text):
        block, short = "\n".join(lines[one.first : one.last + 1]), ""
        while short != block:
            block, short = _FASTER.sub(r"\1", block), block
        told += [*lines[at : one.first], block]
        at = one.last + 1
    return "\n".join([*told, *lines[at:]])


def _prefixed(line: str, prelude: str) -> str:
    """A line that only begins the command goes on in the next one, and the prelude stands before that."""
    return re.sub(r"^(\s*\w+)(\s+|(?=\\|`))", lambda match: f"{match[1]} {prelude}", line, count=1)


def _is_shell(rest: str) -> bool:
    try:
        words = json.loads(rest)
        return bool(_SHELLS.fullmatch(words[0])) and words[-1].endswith("c")
    except (ValueError, TypeError, IndexError, AttributeError):
        return False
