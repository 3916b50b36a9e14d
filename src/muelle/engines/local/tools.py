"""The languages that this machine has: where their programs are, and what a sandbox must show of them."""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from muelle.engines.protocol import CannotDo
from muelle.engines.recipe import Tool

ENGINE = "local"
PROGRAMS = {Tool.NODE: ("node", "npm"), Tool.PHP: ("php",)}


@dataclass(frozen=True)
class Toolset:
    programs: tuple[str, ...] = ()
    """Folders for PATH."""
    readable: tuple[Path, ...] = ()


def base_python() -> str:
    """The interpreter that Muelle's own environment stands on: it stays when that is made anew."""
    beneath = Path(sys.base_prefix, "bin", f"python{sys.version_info.major}.{sys.version_info.minor}")
    return str(beneath) if beneath.exists() else sys.executable


def toolset(tool: Tool) -> Toolset:
    """Raises CannotDo where the machine has not got it."""
    if tool is Tool.PYTHON:
        return Toolset((), (Path(sys.base_prefix),))
    found = [_find(tool, name) for name in PROGRAMS.get(tool, ())]
    prefixes = [program.resolve().parent.parent for program in found]
    return Toolset(
        tuple(dict.fromkeys(str(program.parent) for program in found)),
        tuple(dict.fromkeys((*(program.parent.parent for program in found), *prefixes))) if _apart(found) else (),
    )


def _find(tool: Tool, name: str) -> Path:
    path = shutil.which(name)
    if path is None:
        raise CannotDo(engine=ENGINE, what=f"run {tool} programs: this machine has no `{name}`")
    return Path(path)


def _apart(programs: list[Path]) -> bool:
    """Whether some stand elsewhere than in the system's folders, which every sandbox shows."""
    return any(not path.is_relative_to("/usr") for program in programs for path in (program, program.resolve()))
