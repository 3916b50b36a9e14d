"""Waiting in tests: for something to become true, never for a time to pass."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import TypeVar

Answer = TypeVar("Answer")


async def eventually(
    condition: Callable[[], Answer | Awaitable[Answer]], seconds: float = 10.0, *, pause: float = 0.005
) -> Answer:
    """Asks again and again until the answer is true, and returns it; fails after so many seconds.

    An exception counts as "not yet": it is what the failure then tells.
    """
    last: object = None
    try:
        async with asyncio.timeout(seconds):
            while True:
                try:
                    answer = condition()
                    if inspect.isawaitable(answer):
                        answer = await answer
                    if answer:
                        return answer
                    last = answer
                except Exception as problem:
                    last = problem
                await asyncio.sleep(pause)
    except TimeoutError:
        raise AssertionError(f"not within {seconds} s; the last answer was {last!r}") from None
