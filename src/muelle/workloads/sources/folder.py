"""What a recipe is decided by: the names in a folder, and the texts of the few files that say what it is."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

DEEPEST = 3
MOST_PATHS = 20_000
LARGEST_TEXT_BYTES = 256 * 1024
MOST_TEXTS = 100
TELLING = frozenset(
    {"package.json", "requirements.txt", "pyproject.toml", "Procfile", "composer.json"}
    | {f"vite.config.{ending}" for ending in ("js", "ts", "mjs", "mts", "cjs")}
)
SKIPPED = frozenset({"node_modules", "vendor", "venv", "__pycache__", "tests"})


@dataclass(frozen=True)
class FolderView:
    paths: frozenset[str]
    """Of files, from its top, down to a certain depth."""
    texts: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, texts: Mapping[str, str]) -> FolderView:
        """One with exactly these files."""
        return cls(frozenset(texts), texts)

    def has(self, path: str) -> bool:
        return path in self.paths

    def text(self, path: str) -> str:
        return self.texts.get(path, "")

    def first(self, *paths: str) -> str:
        """The first of them that is there; empty: none is."""
        return next((path for path in paths if path in self.paths), "")


def look(folder: Path) -> FolderView:
    """Links are not followed, so that nothing outside is read."""
    paths = list(_paths(folder))
    telling = [path for path in paths if path in TELLING or _may_be_required(path)]
    python = sorted((path for path in paths if path.endswith(".py")), key=lambda path: (path.count("/"), path))
    texts = {path: _text(folder / path) for path in (telling + python)[:MOST_TEXTS]}
    return FolderView(frozenset(paths), texts)


def _may_be_required(path: str) -> bool:
    """Whether a list of packages may include it."""
    return path.endswith(".txt") and path.rpartition("/")[0] in ("", "requirements")


def _paths(folder: Path) -> Iterator[str]:
    count = 0
    for where, folders, files in os.walk(folder):
        inner = os.path.relpath(where, folder)
        parts = [] if inner == "." else inner.split(os.sep)
        folders[:] = [
            name for name in sorted(folders) if len(parts) < DEEPEST - 1 and name not in SKIPPED and name[0] != "."
        ]
        for name in sorted(files):
            if not os.path.islink(os.path.join(where, name)):
                count += 1
                if count > MOST_PATHS:
                    return
                yield "/".join((*parts, name))


def _text(file: Path) -> str:
    try:
        with file.open("rb") as opened:
            return opened.read(LARGEST_TEXT_BYTES).decode("utf-8-sig", "replace")
    except OSError:
        return ""
