"""What a pretended instance does: a small frozen value, found from the words of an image's reference or from a file."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from muelle.engines.protocol import BuildFailed, ImageMissing

PROGRAM_FILE = "program.json"
"""Put beside a source, it tells the fake what the source's program does."""

USUAL_MEMORY_BYTES = 20 * 2**20
USUAL_CORES = 0.01


@dataclass(frozen=True, slots=True)
class Program:
    listens: bool = True
    port: int = 0
    """Where it listens, whatever it was told; 0: where it was told."""
    status: int = 200
    """What it answers, to everything."""
    starts_after_seconds: float = 0.0
    """It listens only then."""
    answers_after_seconds: float = 0.0
    exits_after_seconds: float | None = None
    """None: it runs until it is ended. 0: it has ended when `start` returns."""
    exit_code: int = 0
    hogs_memory: bool = False
    """It takes all the memory it can get, and is ended for it, after `exits_after_seconds` where that is given."""
    heeds_stop: bool = True
    """Whether it ends when it is asked to (SIGTERM)."""
    stops_after_seconds: float = 0.0
    """How long it takes to end when it is asked to."""
    says_on_stop: str = ""
    stop_code: int = 0
    """With which code it ends when it was asked to."""
    cannot_start: str = ""
    """The reason; it is seen as ended, and never ran."""
    lines: tuple[str, ...] = ()
    """What it prints when it starts; `{PORT}` and other names of the environment are filled in."""
    error_lines: tuple[str, ...] = ()
    """The same, to the other stream, after the lines."""
    counts_to: int = 0
    """How many lines "line 0", "line 1", … it prints after those."""
    ticks_every_seconds: float = 0.0
    """It goes on printing "tick 1", "tick 2", …"""
    memory_bytes: int = USUAL_MEMORY_BYTES
    cores: float = USUAL_CORES
    """How many processors it keeps busy, if it may."""
    forks: int = 0
    """How many processes it tries to start; it prints how many it got."""
    calls: str = ""
    """The name in its environment of a "host:port" to which it tries to connect; it prints whether it could."""
    counts_in: str = ""
    """A path in a volume where it counts how often it was started; it prints the number."""
    port_declared: int = 80
    """Where its image says that it listens; 0: it says nothing."""


WELL_BEHAVED = Program(lines=("listening on {PORT}",))
WORKER = Program(listens=False, lines=("working",), ticks_every_seconds=5.0, port_declared=0)

NAMED: Mapping[str, Program] = {
    "web": WELL_BEHAVED,
    "worker": WORKER,
    "job": Program(listens=False, exits_after_seconds=1.0, lines=("done",), port_declared=0),
    "crash": Program(listens=False, exits_after_seconds=0.0, exit_code=1, error_lines=("crashed",)),
    "deaf": Program(listens=False, lines=("started, and will not listen",)),
    "wrong-port": Program(port=9999, lines=("listening on 9999",)),
    "memory-hog": Program(hogs_memory=True, exits_after_seconds=0.5, lines=("more", "and more")),
    "stubborn": replace(WELL_BEHAVED, heeds_stop=False),
    "chatty": replace(WELL_BEHAVED, counts_to=1000, ticks_every_seconds=0.1),
    "busy": replace(WELL_BEHAVED, cores=4.0),
    "unstartable": Program(cannot_start='exec: "server": executable file not found in $PATH'),
}
"""`fake/<name>`, with any tag."""

PATTERNS: Mapping[str, Callable[[float], Program]] = {
    r"crash-after-([0-9.]+)": lambda n: replace(WELL_BEHAVED, exits_after_seconds=n, exit_code=1),
    r"exit-(\d+)": lambda n: Program(listens=False, exits_after_seconds=0.0, exit_code=int(n)),
    r"answers-(\d{3})": lambda n: replace(WELL_BEHAVED, status=int(n)),
    r"slow-start-([0-9.]+)": lambda n: replace(WELL_BEHAVED, starts_after_seconds=n),
    r"slow-answers-([0-9.]+)": lambda n: replace(WELL_BEHAVED, answers_after_seconds=n),
    r"slow-stop-([0-9.]+)": lambda n: replace(WELL_BEHAVED, stops_after_seconds=n),
    r"port-(\d+)": lambda n: replace(WELL_BEHAVED, port_declared=int(n)),
    r"lines-(\d+)": lambda n: replace(WELL_BEHAVED, counts_to=int(n)),
}
"""`fake/<name>-<number>`."""


REFERENCE = re.compile(
    r"(\w[\w.-]*(:\d+)?/)?[a-z0-9]+([._-]+[a-z0-9]+)*(/[a-z0-9]+([._-]+[a-z0-9]+)*)*(:\w[\w.-]{0,127})?(@sha256:[0-9a-f]{64})?",
    re.ASCII,
)
"""A registry, a path, a tag and a digest, of which the path alone has to be there."""


def with_tag(reference: str) -> str:
    """The reference in full: `:latest` where it has neither tag nor digest."""
    last = reference.rpartition("/")[2]
    return reference if ":" in last or "@" in last else f"{reference}:latest"


def program_of(reference: str) -> Program:
    """What the image of that reference runs. One whose words say nothing is a web server that behaves well."""
    if not REFERENCE.fullmatch(reference):
        raise ImageMissing(reference=reference, reason="that is no image reference")
    if reference.startswith("missing/"):
        raise ImageMissing(reference=reference, reason="the registry does not know it")
    if not reference.startswith("fake/"):
        return WELL_BEHAVED
    words = re.split(r"[:@]", reference.removeprefix("fake/"))[0]
    for pattern, made in PATTERNS.items():
        if found := re.fullmatch(pattern, words):
            return made(float(found[1]))
    return NAMED.get(words, WELL_BEHAVED)


def program_from(text: str) -> Program:
    """The program that a `program.json` describes, field by field."""
    known = {field.name for field in fields(Program)}
    try:
        told = json.loads(text)
        if not isinstance(told, dict):
            raise TypeError(f"it is {type(told).__name__}")
        if unknown := sorted(set(told) - known):
            raise BuildFailed(reason=f"{PROGRAM_FILE} says {', '.join(unknown)}, which no program has")
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in told.items()
        }
        return Program(**values)
    except (ValueError, TypeError) as wrong:
        raise BuildFailed(reason=f"{PROGRAM_FILE} is not an object of a program's fields ({wrong})") from None
