"""Following a deployment: what its build says, and then how it ended."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from muelle.workloads import queue
from muelle.workloads.core import Core
from muelle.workloads.logbook import Kept, LogBook, Skipped
from muelle.workloads.model import Deployment

LOOK_SECONDS = 0.25
"""How soon it is seen that a deployment is over, whoever builds it."""

Lines = tuple[Kept | Skipped, ...]


class Following:
    def __init__(self, core: Core, book: LogBook) -> None:
        self._core = core
        self._book = book

    async def deployment(self, id: str, after: int | None) -> AsyncGenerator[Lines | Deployment, None]:
        """Its lines after a cursor, each once, until it is over; then the deployment itself."""
        batches = self._book.batches(id, after)
        coming = asyncio.ensure_future(anext(batches, None))
        try:
            while True:
                done, _ = await asyncio.wait([coming], timeout=LOOK_SECONDS)
                if not done:
                    over = await self._over(id)
                    if over is not None and (await self._book.last(id) or 0) <= (after or 0):
                        yield over
                        return
                    continue
                batch = coming.result()
                if batch is None:
                    return
                after = next((item.cursor for item in reversed(batch) if isinstance(item, Kept)), after)
                yield batch
                coming = asyncio.ensure_future(anext(batches, None))
        finally:
            coming.cancel()
            await asyncio.gather(coming, return_exceptions=True)
            await batches.aclose()

    async def _over(self, id: str) -> Deployment | None:
        async with self._core.database.reading() as reader:
            found = await queue.by_id(reader, id)
        return found if found is not None and found.state.is_over else None
