"""Fetching from a git server of a test, and looking that nothing is left of it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from muelle.workloads.sources.git import Fetched, fetch
from muelle.workloads.sources.limits import SourceLimits
from muelle.workloads.sources.model import GitSource
from tests.workloads.sources.git_server import HOST, OTHER, GitServer, resolving

LIMITS = SourceLimits(bytes=20 * 2**20, entries=500, seconds=60)


async def fetched(server: GitServer, into: Path, name: str, *, host: str = HOST, **more: Any) -> Fetched:
    words = {key: more.pop(key) for key in ("ref", "folder", "token") if key in more}
    settings: dict[str, Any] = {
        "limits": LIMITS,
        "private_hosts": [HOST, f"{OTHER}:{server.port}"],
        "trusted": server.pem,
        "resolve": resolving(),
        "say": lambda line: None,
    }
    try:
        return await fetch(GitSource(server.url(name, host), **words), into, **(settings | more))
    finally:
        assert [path.name for path in into.parent.iterdir() if path != into] == []
        assert processes_in(into.parent) == []


def processes_in(folder: Path) -> list[str]:
    """Command lines that speak of it, of whatever is still running."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                words = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                if str(folder) in words:
                    found.append(words)
            except OSError:
                continue
    return found


def contents(folder: Path) -> dict[str, str]:
    return {str(file.relative_to(folder)): file.read_text() for file in folder.rglob("*") if file.is_file()}
