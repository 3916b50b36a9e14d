"""Uploads: archives of source that people send, kept until no deployment can want them any more."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

from muelle.kit.errors import Invalid
from muelle.kit.http import Caller
from muelle.kit.ids import new_id_at
from muelle.kit.loops import Loop
from muelle.workloads import queue
from muelle.workloads.core import Core

LARGEST_BYTES = 256 * 2**20
KEPT_DAYS = 2
"""One that nothing was deployed from. Others stay as long as the deployment does, to be built again."""
CLEANING_SECONDS = 3600.0


class UploadEmpty(Invalid):
    """The upload is empty."""

    hint = "Send the archive as the body: curl --data-binary @app.zip."


class Uploads:
    def __init__(self, core: Core, folder: Path) -> None:
        self._core = core
        self._folder = folder
        self.cleaning = Loop("workloads.uploads", self._clean, CLEANING_SECONDS, core.clock)

    def path(self, id: str) -> Path:
        return self._folder / id

    async def keep(self, caller: Caller, pieces: AsyncIterator[bytes]) -> tuple[str, int]:
        """Keeps what comes; returns its id and size. Known once it is whole."""
        id = new_id_at(self._core.clock.now())
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        part = self._folder / f"{id}.part"
        try:
            size = await self._write(part, pieces)
            if not size:
                raise UploadEmpty
            os.replace(part, self.path(id))
        finally:
            part.unlink(missing_ok=True)
        async with self._core.database.transaction() as tx:
            await queue.add_upload(tx, id, caller.account_id, self._core.clock.now(), size)
        return id, size

    async def _write(self, part: Path, pieces: AsyncIterator[bytes]) -> int:
        size = 0
        with part.open("xb") as file:
            async for piece in pieces:
                size += len(piece)
                await asyncio.to_thread(file.write, piece)
            await asyncio.to_thread(os.fsync, file.fileno())
        return size

    async def _clean(self) -> bool:
        """Drops what nobody can want, and files that no row knows: their row went, or never came."""
        async with self._core.database.transaction() as tx:
            before = self._core.clock.now() - timedelta(days=KEPT_DAYS)
            await queue.remove_uploads(tx, before)
            known = set(await queue.upload_ids(tx))
        if self._folder.is_dir():
            for path in self._folder.iterdir():
                if path.name.partition(".")[0] not in known and _is_older(path, CLEANING_SECONDS):
                    path.unlink(missing_ok=True)
        return False


def _is_older(path: Path, seconds: float) -> bool:
    """By the file's own time: one that is just being written has no row yet."""
    try:
        return time.time() - path.stat().st_mtime > seconds
    except OSError:
        return False
