"""How things look: tables, moments and states, for a person at a terminal and for the next program in a pipe.

Nothing but a terminal gets colours, or has what is too wide cut off; and nothing that a tenant's program wrote may
steer a terminal.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TextIO

GAP = "  "
NARROWEST_LAST_COLUMN = 12

_COLOURS: Mapping[str, str] = {
    **dict.fromkeys(("running", "good", "released"), "32"),
    **dict.fromkeys(("building", "starting", "deploying", "stopping", "deleting", "queued", "unproven"), "33"),
    **dict.fromkeys(("failed", "failing", "bad"), "31"),
    **dict.fromkeys(("stopped", "cancelled"), "2"),
}
DIM = "2"
_STEERS = re.compile(r"\x1b\[[0-9;]*m|[\x00-\x08\x0a-\x1f\x7f-\x9f]")
"""Control characters; those that only choose a colour are told apart from the others."""


def ready() -> None:
    """A text that the terminal's alphabet has no letters for is shown as well as it can be."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="replace")


def print_json(value: object) -> None:
    print(json.dumps(value), flush=True)


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns, the last one cut to the terminal's width where there is a terminal."""
    cells = [list(heads), *([_one_line(cell) for cell in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(heads))]
    before = sum(widths[:-1]) + len(GAP) * (len(heads) - 1)
    room = max(_width() - before, NARROWEST_LAST_COLUMN) if is_terminal(sys.stdout) else None
    lines = []
    for row in cells:
        padded = [paint(cell, cell.ljust(width)) for cell, width in zip(row[:-1], widths[:-1], strict=True)]
        lines.append(GAP.join([*padded, _cut(row[-1], room)]).rstrip())
    return "\n".join(lines)


def paint(state: str, text: str, stream: TextIO | None = None) -> str:
    """The text in the colour of a state, if it is one and there is somebody to see it."""
    return coloured(text, _COLOURS.get(state, ""), stream)


def coloured(text: str, colour: str, stream: TextIO | None = None) -> str:
    stream = stream or sys.stdout
    if not colour or not is_terminal(stream) or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return text
    return f"\x1b[{colour}m{text}\x1b[0m"


def harmless(text: str, stream: TextIO | None = None) -> str:
    """A line of a program: as it is for a file or a pipe; for a terminal without what would steer it."""
    if not is_terminal(stream or sys.stdout):
        return text
    colours = "\x1b[" in text
    clean = _STEERS.sub(lambda found: found[0] if len(found[0]) > 1 else "", text)
    return f"{clean}\x1b[0m" if colours else clean


def is_terminal(stream: TextIO) -> bool:
    return stream.isatty()


def local(text: str) -> str:
    """A moment by this machine's clock, to the second."""
    return datetime.fromisoformat(text).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def ago(text: str) -> str:
    seconds = max(0, int((datetime.now(UTC) - datetime.fromisoformat(text)).total_seconds()))
    for name, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= size:
            return f"{seconds // size} {name} ago"
    return f"{seconds} s ago"


def size(number: float) -> str:
    for unit in ("bytes", "KiB", "MiB"):
        if number < 1024:
            return f"{number:.0f} {unit}" if unit == "bytes" else f"{number:.1f} {unit}"
        number /= 1024
    return f"{number:.1f} GiB"


def words(why: Mapping[str, Any]) -> str:
    return _one_line(str(why["words"]))


def _one_line(text: str) -> str:
    return " ".join(_STEERS.sub(" ", text).split())


def _cut(text: str, room: int | None) -> str:
    return text if room is None or len(text) <= room else text[: room - 1] + "…"


def _width() -> int:
    return shutil.get_terminal_size().columns
