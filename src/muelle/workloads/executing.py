"""Running a command in what runs already: which instance it is, how many at once, and that it is written down.

That a command was run is a fact and a line of the workload's history; what was typed into it is nobody's business.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog

from muelle.engines.protocol import Condition, Session
from muelle.kit.errors import Conflict
from muelle.kit.http import Caller
from muelle.workloads.core import Core
from muelle.workloads.model import Workload

MOST_SESSIONS = 8
"""Of an owner's workloads together, in this process."""
IDLE_SECONDS = 15 * 60.0
"""After so long without a byte either way a session is ended."""
CLOSE_SECONDS = 1.5
"""How long the end of the program waits for commands to be ended: less than it has."""
LONG_AGO = datetime.min.replace(tzinfo=UTC)

_log = structlog.get_logger("muelle.workloads")


class NothingRuns(Conflict):
    """The workload has nothing running that a command could be run in."""

    hint = "Start it, or wait until it runs."


class TooManySessions(Conflict):
    """{most} commands are running in your workloads already."""

    hint = "End one of them first."


@dataclass(frozen=True)
class Errand:
    """A command, and the terminal that it gets, if any."""

    command: Sequence[str]
    terminal: bool = False
    rows: int = 24
    columns: int = 80


class Executing:
    def __init__(self, core: Core, most_sessions: int = MOST_SESSIONS, idle_seconds: float = IDLE_SECONDS) -> None:
        self.idle_seconds = idle_seconds
        self._core = core
        self._most = most_sessions
        self._open: Counter[str] = Counter()
        self._closing: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def session(self, caller: Caller, id: str, errand: Errand) -> AsyncIterator[Session]:
        """Ends the command in the end, however that comes about."""
        workload = await self._core.find(caller, id)
        with self._place(workload.owner_id):
            name = await self._instance(workload)
            await self._write_down(caller, id)
            session = await self._core.engine.execute(name, errand.command, terminal=errand.terminal)
            try:
                if errand.terminal:
                    await session.resize(errand.rows, errand.columns)
                yield session
            finally:
                await self._end(session, name)

    async def close(self) -> None:
        """What was told to end shall have ended, if that takes no longer than a moment."""
        if self._closing:
            await asyncio.wait(self._closing, timeout=CLOSE_SECONDS)

    @contextmanager
    def _place(self, owner_id: str) -> Iterator[None]:
        if self._open[owner_id] >= self._most:
            raise TooManySessions(most=self._most)
        self._open[owner_id] += 1
        try:
            yield
        finally:
            self._open[owner_id] -= 1
            if not self._open[owner_id]:
                del self._open[owner_id]

    async def _instance(self, workload: Workload) -> str:
        """The one that serves; where none does, the newest that runs."""
        seen = await self._core.engine.observe(workload.id)
        running = {sighting.name: sighting for sighting in seen if sighting.condition is Condition.RUNNING}
        if workload.serving in running:
            return workload.serving
        if not running:
            raise NothingRuns
        return max(running.values(), key=lambda sighting: (sighting.started_at or LONG_AGO, sighting.name)).name

    async def _write_down(self, caller: Caller, id: str) -> None:
        """Before it is done: a command that nobody knows of must not be."""
        async with self._core.database.transaction() as tx:
            workload = await self._core.lock(tx, caller, id)
            await self._core.asked(tx, workload, "executed")

    async def _end(self, session: Session, name: str) -> None:
        """Beside whoever waits for it: they may be told to hurry, and the command has to be ended all the same."""

        async def close() -> None:
            try:
                await session.close()
            except Exception as problem:
                _log.warning("command not ended", instance=name, error=f"{type(problem).__name__}: {problem}")

        closing = asyncio.create_task(close(), name=f"end a command in {name}")
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)
        await asyncio.shield(closing)
