"""Prints figures as a table and writes them as JSON, with what one has to know of the machine to read them."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bench.figure import Figure
from bench.program import ROOT

HEADINGS = ("figure", "value", "bar", "floor or peer", "ratio", "")
NUMBERS = frozenset({1, 2, 4})
LIBRARIES = (
    "muelle",
    "fastapi",
    "starlette",
    "pydantic",
    "uvicorn",
    "uvloop",
    "httptools",
    "sqlalchemy",
    "aiosqlite",
    "asyncpg",
    "aio-pika",
    "argon2-cffi",
)


def table(figures: Sequence[Figure]) -> str:
    rows = [HEADINGS, *(_row(figure) for figure in figures)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADINGS))]
    lines = [_line(row, widths) for row in rows]
    lines.insert(1, "─" * len(lines[0]))
    notes = [f"  {figure.name}: {figure.note}" for figure in figures if figure.note]
    return "\n".join(["", *lines, "", *notes, ""])


def as_json(figures: Sequence[Figure], size: str, seed: int, at: datetime, before: Mapping[str, Any]) -> str:
    return json.dumps(
        {
            "at": at.isoformat(timespec="seconds"),
            "size": size,
            "seed": seed,
            "machine": before,
            "figures": [_shown(figure) for figure in figures],
        },
        indent=2,
        ensure_ascii=False,
    )


def machine() -> dict[str, Any]:
    """As it is before anything is measured: others who use it meanwhile spoil the figures."""
    return {
        "processor": _after("/proc/cpuinfo", "model name"),
        "cores": len(os.sched_getaffinity(0)),
        "memory_mib": int(_after("/proc/meminfo", "MemTotal").split()[0] or 0) // 1024,
        "load_average": [round(load, 2) for load in os.getloadavg()],
        "kernel": platform.release(),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "libraries": {name: version(name) for name in LIBRARIES},
        "revision": _revision(),
    }


def _row(figure: Figure) -> tuple[str, ...]:
    bar, beside = figure.bar, figure.beside
    unit = "" if bar is None or bar.of_ratio else figure.unit
    return (
        figure.name,
        "" if figure.value is None else f"{_number(figure.value)} {figure.unit}".rstrip(),
        "" if bar is None else f"{'ratio ' if bar.of_ratio else ''}{bar.rule} {bar.limit:g} {unit}".rstrip(),
        "" if beside is None else f"{_number(beside.value)} {figure.unit} ({beside.what})",
        "" if figure.ratio is None else f"{figure.ratio:.2f}",
        figure.verdict.value,
    )


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    cells = [
        text.rjust(width) if column in NUMBERS else text.ljust(width)
        for column, (text, width) in enumerate(zip(row, widths, strict=True))
    ]
    return "  ".join(cells)


def _number(value: float) -> str:
    """Three figures that mean something, or a whole number as it is."""
    if value == int(value):
        return f"{value:.0f}"
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _shown(figure: Figure) -> dict[str, Any]:
    bar, beside = figure.bar, figure.beside
    of = "ratio" if bar is not None and bar.of_ratio else "value"
    return {
        "name": figure.name,
        "unit": figure.unit,
        "value": figure.value,
        "bar": None if bar is None else {"rule": bar.rule, "limit": bar.limit, "of": of},
        "beside": None if beside is None else {"what": beside.what, "value": beside.value},
        "ratio": figure.ratio,
        "verdict": figure.verdict.value or "no bar",
        "note": figure.note,
    }


def _after(file: str, name: str) -> str:
    with suppress(OSError):
        for line in Path(file).read_text().splitlines():
            if line.startswith(name):
                return line.partition(":")[2].strip()
    return "0" if file.endswith("meminfo") else "unknown"


def _revision() -> str:
    """Of the source, with a plus where it was changed since."""
    asked = ["git", "describe", "--always", "--dirty=+", "--exclude=*"]
    with suppress(OSError):
        return subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()
    return ""
