"""Options of the command line as settings of a workload. What cannot be meant is a wrong command line (exit code 2)."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import typer

MIB = 2**20
_MEMORY = re.compile(r"(\d+(?:\.\d+)?)\s*(?:([kmgt])i?b?)?", re.IGNORECASE)
_SIZES = {"": 1.0, "k": 1 / 1024, "m": 1.0, "g": 1024.0, "t": 1024.0 * 1024}
_CPU = re.compile(r"(\d+)m|(\d+(?:\.\d*)?|\.\d+)", re.IGNORECASE)
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SINCE = re.compile(r"(\d+)\s*(s|m|min|h|d)")
_SECONDS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400}


@dataclass(frozen=True)
class Options:
    """What was asked for; what is None was not."""

    environment: Mapping[str, str] = field(default_factory=dict)
    port: int | None = None
    memory_mib: int | None = None
    cpu_millis: int | None = None
    volumes: tuple[tuple[str, str], ...] = ()

    @property
    def needs_present(self) -> bool:
        """Whether the body of a change depends on how it is now."""
        return bool(self.volumes) or (self.memory_mib is None) is not (self.cpu_millis is None)

    def body(self, present: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """As the API takes it. A limit or a volume is changed by telling all of them."""
        body: dict[str, Any] = {}
        if self.environment:
            body["environment"] = dict(self.environment)
        if self.port is not None:
            body["port"] = self.port
        if limits := self._limits(present):
            body["limits"] = limits
        if self.volumes:
            kept = [(volume["name"], volume["path"]) for volume in present["volumes"]] if present else []
            volumes = dict([*kept, *self.volumes])
            body["volumes"] = [{"name": name, "path": path} for name, path in volumes.items()]
        return body

    def _limits(self, present: Mapping[str, Any] | None) -> dict[str, int]:
        asked = {"cpu_millis": self.cpu_millis, "memory_mib": self.memory_mib}
        given = {name: value for name, value in asked.items() if value is not None}
        kept = {name: present[name] for name in asked} if given and present else {}
        return {**kept, **given}


def variables(texts: Sequence[str], option: str = "-e") -> dict[str, str]:
    """NAME=VALUE; NAME alone takes the value from here, so that a secret need not be typed."""
    found = {}
    for text in texts:
        name, equals, value = text.partition("=")
        _refuse_bad_name(name, option)
        if not equals:
            if name not in os.environ:
                raise typer.BadParameter(f"{option} {name}: there is no such variable here; write {name}=VALUE.")
            value = os.environ[name]
        found[name] = value
    return found


def variables_of_file(path: Path) -> dict[str, str]:
    """Lines NAME=VALUE; empty ones, and those that begin with #, say nothing. Quotes around a value are taken off."""
    found = {}
    for number, line in enumerate(path.read_text("utf-8").removeprefix("\ufeff").splitlines(), 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        name, equals, value = text.removeprefix("export ").partition("=")
        if not equals:
            raise typer.BadParameter(f"--env-file {path}, line {number}: it has to be NAME=VALUE.")
        _refuse_bad_name(name.strip(), f"--env-file {path}, line {number}:")
        found[name.strip()] = _unquoted(value.strip())
    return found


def mib(text: str) -> int:
    """Memory: 512, 512m, 512MiB and 0.5g are the same."""
    match = _MEMORY.fullmatch(text.strip())
    if match is None:
        raise typer.BadParameter(f'--memory "{text}": it has to look like 512m or 2g.')
    return round(float(match[1]) * _SIZES[(match[2] or "").lower()])


def millis(text: str) -> int:
    """Processors: 0.5 and 500m are the same."""
    match = _CPU.fullmatch(text.strip())
    if match is None:
        raise typer.BadParameter(f'--cpu "{text}": it has to look like 0.5 or 500m.')
    return int(match[1]) if match[1] else round(float(match[2]) * 1000)


def volume(text: str) -> tuple[str, str]:
    name, colon, path = text.partition(":")
    if not (name and colon and path.startswith("/")):
        raise typer.BadParameter(f'--volume "{text}": it has to look like data:/data.')
    return name, path


def seconds_ago(text: str) -> int:
    match = _SINCE.fullmatch(text.strip().lower())
    if match is None:
        raise typer.BadParameter(f'--since "{text}": it has to look like 30s, 10m, 2h or 1d.')
    return int(match[1]) * _SECONDS[match[2]]


def _refuse_bad_name(name: str, option: str) -> None:
    """Without the value, which may be a secret."""
    if not _NAME.fullmatch(name):
        raise typer.BadParameter(f"{option}: a variable is written NAME=VALUE, its name in letters, digits and _.")


def _unquoted(value: str) -> str:
    quoted = len(value) >= 2 and value[0] == value[-1] and value[0] in "\"'"
    return value[1:-1] if quoted else value
