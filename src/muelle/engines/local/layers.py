"""The build cache: what steps have made, by what they were made from.

A step that names what it needs (`requirements.txt`, `package-lock.json`) runs in a folder with nothing but that. What
it leaves there, and the Python environment that it has filled, is a layer, whose key is all that went into it: the same
needs, the same layer. Layers stay where they were made, since the programs of a Python environment know their own path;
one that stands on another is a copy of it that shares the files and is told its new place.

A layer is whole when it says so (`whole`); others are swept.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from weakref import WeakValueDictionary

from muelle.engines.local import files, trees
from muelle.engines.local.images import being_made, is_being_made
from muelle.engines.local.steps import Site
from muelle.engines.local.tools import base_python
from muelle.engines.recipe import Recipe, Step, Tool

CACHE_BYTES = 4 * 2**30
"""What layers that no image uses may take up together; the ones longest unused go first."""
WHOLE = "whole"
TEXT_BYTES = 2**20


class Layers:
    def __init__(self, folder: Path, trash: Path) -> None:
        self._folder = folder
        self._trash = trash
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def folder(self, key: str) -> Path:
        return self._folder / key

    async def make(self, site: Site, recipe: Recipe, app: Path) -> tuple[str, int]:
        """The layer for the first steps of a recipe, and how many those are. No layer: an empty key."""
        key = ""
        if recipe.tool is Tool.PYTHON:
            key = await self._one(_key("", [sys.version, base_python()]), lambda to: self._python(site, to), site)
        done = 0
        for step in recipe.steps:
            if not step.needs:
                break
            key = await self._after(site, key, step, recipe, app)
            done += 1
        return key, done

    async def private_python(self, key: str, target: Path) -> None:
        """A layer's Python environment for an image whose later steps may change it."""
        await asyncio.to_thread(_copy_python, self.folder(key) / "venv", target)

    def tidy(self, used: set[str]) -> None:
        """Removes what was left half-made, and what is unused past the bound."""
        unused: list[tuple[float, int, Path]] = []
        for folder in self._folder.iterdir():
            if is_being_made(folder):
                continue
            if not (folder / WHOLE).exists():
                files.put_away(folder, self._trash)
            elif folder.name not in used:
                unused.append(((folder / WHOLE).stat().st_mtime, files.size_of(folder), folder))
        room = CACHE_BYTES
        for _, size, folder in sorted(unused, reverse=True):
            room -= size
            if room < 0:
                files.put_away(folder, self._trash)

    async def _after(self, site: Site, before: str, step: Step, recipe: Recipe, app: Path) -> str:
        needs = await asyncio.to_thread(trees.hash_paths, app, step.needs)
        environment = sorted({**recipe.environment, **site.order.environment}.items())
        words = [step.command, needs, site.order.owner, recipe.tool, environment, site.order.trusted]
        return await self._one(_key(before, words), lambda to: self._step(site, before, step, app, to), site, step)

    async def _one(
        self, key: str, make: Callable[[Path], Awaitable[None]], site: Site, step: Step | None = None
    ) -> str:
        """The layer of that key: the one that is here, or one that is made now, by one build at a time."""
        folder = self.folder(key)
        async with self._locks.setdefault(key, asyncio.Lock()):
            if (folder / WHOLE).exists():
                os.utime(folder / WHOLE)
                if step:
                    site.say(f"$ {step.command}")
                    site.say("unchanged: taken from the cache")
                return key
            await asyncio.to_thread(files.put_away, folder, self._trash)
            try:
                with being_made(folder):
                    await make(folder)
                    await asyncio.to_thread(files.write_json, folder / WHOLE, {"key": key})
            except BaseException:
                files.put_away(folder, self._trash)
                raise
        return key

    async def _python(self, site: Site, folder: Path) -> None:
        (folder / "app").mkdir()
        venv = folder / "venv"
        argv = (base_python(), "-m", "venv", str(venv))
        await site.execute(argv, "python -m venv", folder / "app", venv)

    async def _step(self, site: Site, before: str, step: Step, app: Path, folder: Path) -> None:
        await asyncio.to_thread(self._begin, before, step, app, folder)
        venv = folder / "venv"
        await site.run(step.command, folder / "app", venv if venv.exists() else None)

    def _begin(self, before: str, step: Step, app: Path, folder: Path) -> None:
        (folder / "app").mkdir()
        for path in step.needs:
            trees.take(app, path, folder / "app")
        if before:
            trees.merge(self.folder(before) / "app", folder / "app", trees.shared)
            if (self.folder(before) / "venv").exists():
                _copy_python(self.folder(before) / "venv", folder / "venv")


def _key(before: str, words: Sequence[object]) -> str:
    return hashlib.sha256(json.dumps([before, *words]).encode()).hexdigest()[:40]


def _copy_python(venv: Path, target: Path) -> None:
    """Shares its files, but for those that tell where it stands."""
    trees.merge(venv, target, trees.shared, skip=("bin", "pyvenv.cfg"))
    (target / "bin").mkdir()
    for path in (*(venv / "bin").iterdir(), venv / "pyvenv.cfg"):
        to = target / path.relative_to(venv)
        if path.is_symlink():
            to.symlink_to(os.readlink(path))
        elif path.is_file():
            trees.copied(str(path), str(to))
            _tell_place(to, venv, target)


def _tell_place(file: Path, before: Path, now: Path) -> None:
    data = file.read_bytes() if file.stat().st_size <= TEXT_BYTES else b"\0"
    if b"\0" not in data and os.fsencode(before) in data:
        file.write_bytes(data.replace(os.fsencode(before), os.fsencode(now)))
