"""Volumes: folders that outlast instances."""

from __future__ import annotations

import os
from pathlib import Path

from muelle.engines.local import files
from muelle.engines.local.instances import NAME
from muelle.engines.protocol import Volume

OWNER_FILE = "owner.json"


class Volumes:
    def __init__(self, folder: Path, trash: Path) -> None:
        self._folder = folder
        self._trash = trash

    def data(self, name: str) -> Path:
        return self._folder / name / "data"

    def make(self, name: str, owner: str) -> None:
        """One that is there already is left as it is."""
        if (self._folder / name).exists():
            return
        fresh = files.fresh_folder(self._folder, name)
        (fresh / "data").mkdir(mode=files.OWN_FOLDER_MODE)
        files.write_json(fresh / OWNER_FILE, {"owner": owner})
        files.publish(fresh, name, self._trash)

    def all(self) -> list[Volume]:
        names = sorted(name for name in os.listdir(self._folder) if NAME.fullmatch(name))
        found = ((name, files.read_json(self._folder / name / OWNER_FILE)) for name in names)
        return [Volume(name, value["owner"]) for name, value in found if value]

    def half_made(self) -> list[Path]:
        return files.half_made(self._folder)

    def remove(self, name: str) -> None:
        if NAME.fullmatch(name):
            files.put_away(self._folder / name, self._trash)
