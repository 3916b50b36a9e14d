"""How a pretended world misbehaves: slow, failing, hanging, lying, crashing; each until told otherwise."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import StrEnum

from muelle.engines.protocol import EngineUnavailable, Sighting
from muelle.kit.clock import Clock


class Moment(StrEnum):
    BEFORE = "before"
    AFTER = "after"


OnStep = Callable[[str, Moment], Awaitable[None] | None]

MUTATING = frozenset({"create", "start", "stop", "remove", "resolve", "build", "remove_image", "remove_volume", "tidy"})
"""The calls around which `on_step` is told."""


@dataclass
class Failing:
    calls: frozenset[str]
    """Empty: all of them."""
    times: int | None
    """None: until it is healed."""
    reason: str

    def meets(self, call: str) -> bool:
        if self.times == 0 or (self.calls and call not in self.calls):
            return False
        if self.times is not None:
            self.times -= 1
        return True


@dataclass
class Lie:
    looks: int
    leaves_out: frozenset[str]
    stale: dict[str, list[Sighting]] | None
    """By installation, as it was when the lie began."""


class Mischief:
    def __init__(self) -> None:
        self.on_step: OnStep | None = None
        self.delays: dict[str, float] = {}
        """By call; "" is for all of them."""
        self.failing: list[Failing] = []
        self.hanging: frozenset[str] | None = None
        """Empty: all of them."""
        self.healed = asyncio.Event()
        self.lie: Lie | None = None

    def heal(self) -> None:
        self.delays.clear()
        self.failing.clear()
        self.hanging, self.lie = None, None
        self.healed.set()
        self.healed = asyncio.Event()

    @asynccontextmanager
    async def around(self, call: str, clock: Clock) -> AsyncIterator[None]:
        """What stands between a call and what it does."""
        if seconds := self.delays.get(call, self.delays.get("", 0.0)):
            await clock.sleep(seconds)
        while self.hanging is not None and (not self.hanging or call in self.hanging):
            await self.healed.wait()
        self.refuse(call)
        await self._step(call, Moment.BEFORE)
        yield
        await self._step(call, Moment.AFTER)

    def refuse(self, call: str) -> None:
        for failing in self.failing:
            if failing.meets(call):
                raise EngineUnavailable(engine="fake", reason=failing.reason)

    def refuses_always(self, call: str) -> bool:
        return any(failing.times is None and (not failing.calls or call in failing.calls) for failing in self.failing)

    def told(self, installation: str, workload: str, truth: Sequence[Sighting]) -> Sequence[Sighting]:
        """What is shown in place of the truth."""
        lie = self.lie
        if lie is None or lie.looks <= 0:
            return truth
        lie.looks -= 1
        if lie.stale is not None:
            truth = [old for old in lie.stale.get(installation, []) if workload in ("", old.workload)]
        return [sighting for sighting in truth if sighting.name not in lie.leaves_out]

    async def _step(self, call: str, moment: Moment) -> None:
        if self.on_step is not None and call in MUTATING:
            outcome = self.on_step(call, moment)
            if inspect.isawaitable(outcome):
                await outcome
