"""Images: folders with a manifest. One without a manifest is half-made, and nobody takes it for an image."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from muelle.engines.local.files import read_json, write_json
from muelle.engines.protocol import BuildOrder, Image, KeptImage
from muelle.engines.recipe import Recipe, Tool

PREFIX = "local:"
MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Manifest:
    """What is to be known of an image to run it."""

    id: str
    build: str
    tool: Tool
    command: tuple[str, ...]
    environment: Mapping[str, str]
    port: int
    site: str
    fallback: bool
    made_at: int
    size_bytes: int = 0
    layer: str = ""
    """The key of the cache's layer whose Python it uses, which stays as long as this does."""
    private: bool = False
    """Whether it has a Python of its own instead."""

    @property
    def image(self) -> Image:
        return Image(self.id, self.size_bytes, (self.port,) if self.port else ())

    @property
    def kept(self) -> KeptImage:
        made_at = datetime.fromtimestamp(self.made_at / 1_000_000, UTC)
        return KeptImage(self.id, self.build, self.size_bytes, made_at)


class Images:
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def folder(self, id: str) -> Path:
        return self._folder / id.removeprefix(PREFIX)

    def find(self, id: str) -> Manifest | None:
        digest = id.removeprefix(PREFIX)
        if digest == id or not digest.isalnum():
            return None
        value = read_json(self._folder / digest / MANIFEST)
        return _manifest(value) if value else None

    def all(self) -> list[Manifest]:
        found = (self.find(PREFIX + name) for name in sorted(os.listdir(self._folder)))
        return [manifest for manifest in found if manifest]

    def keep(self, manifest: Manifest) -> None:
        """From now on it is an image."""
        write_json(self.folder(manifest.id) / MANIFEST, asdict(manifest))

    def half_made(self) -> list[Path]:
        """Folders that a crash has left."""
        return [
            folder
            for folder in self._folder.iterdir()
            if not (folder / MANIFEST).exists() and not is_being_made(folder)
        ]


def id_of(order: BuildOrder, recipe: Recipe, source: str, installation: str) -> str:
    """Of all that makes it what it is; the build's name sees to it that it never means another's."""
    said = {"installation": installation, "build": order.name, "recipe": asdict(recipe), "source": source}
    return PREFIX + hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


@contextmanager
def being_made(folder: Path) -> Iterator[None]:
    """Makes a folder and keeps it from being swept, as long as this process lives."""
    folder.mkdir(parents=True)
    file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
    finally:
        os.close(file)


def is_being_made(folder: Path) -> bool:
    with suppress(OSError):
        file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return False
        except BlockingIOError:
            return True
        finally:
            os.close(file)
    return False


def _manifest(value: dict[str, object]) -> Manifest:
    words = {**value, "tool": Tool(str(value["tool"])), "command": tuple(value["command"])}  # type: ignore[arg-type]
    return Manifest(**words)  # type: ignore[arg-type]
