"""Who is told of changes: each watcher has a set of workloads that it was not told of yet, so none grows for ever."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator


class Watch(AsyncIterator[str]):
    def __init__(self, installation: str) -> None:
        self.installation = installation
        self._changed: dict[str, None] = {}
        self.over = False
        self._waiter: asyncio.Future[None] | None = None

    def tell(self, workload: str) -> None:
        if not self.over:
            self._changed[workload] = None
            self._wake()

    def end(self) -> None:
        self.over = True
        self._wake()

    async def aclose(self) -> None:
        self.end()

    async def __anext__(self) -> str:
        while not self._changed:
            if self.over:
                raise StopAsyncIteration
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        workload = next(iter(self._changed))
        del self._changed[workload]
        return workload

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
