"""What to build, as a value: the recipe that a source calls for, the same for every engine.

A recipe says what has to happen in a folder of source; an engine makes an image of it in its own way. Docker writes a
Dockerfile (`dockerfile`), the local engine runs the same commands in a folder of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Tool(StrEnum):
    """What a recipe's commands need beside a shell."""

    PYTHON = "python"
    NODE = "node"
    PHP = "php"
    NOTHING = "nothing"


@dataclass(frozen=True)
class Step:
    """A command run while building. `needs` are the files that decide whether it must be run again: its cache key."""

    command: str
    """For `sh -c`, in the source's folder."""
    needs: tuple[str, ...] = ()
    """Paths in the source, each of which is there; empty: the whole source."""


@dataclass(frozen=True)
class Recipe:
    name: str
    tool: Tool
    steps: tuple[Step, ...] = ()
    command: tuple[str, ...] = ()
    """What is started, in the source's folder; `$PORT` in the environment says where to listen. Empty: `site`."""
    site: str = ""
    """A folder below the source's that is served as a static site, after the steps; "." is the whole source."""
    fallback: bool = False
    """Whether a static site answers a path that is not there with its index: single-page applications want that."""
    port: int = 8000
    environment: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    """Texts put beside the source before the steps, by path."""


@dataclass(frozen=True)
class OwnDockerfile:
    """The source brings a Dockerfile: it is built as it stands."""

    path: str = "Dockerfile"
    arguments: Mapping[str, str] = field(default_factory=dict)
