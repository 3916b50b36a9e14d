"""What the tests of the fake engine share: a world with a clock that they move, and short ways to say what they do."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from pathlib import Path
from typing import Any, TypeVar

from muelle.engines.protocol import BuildOrder, Engine, Order, Sighting
from muelle.engines.recipe import OwnDockerfile, Recipe

Answer = TypeVar("Answer")

HOME = "home"


async def image(engine: Engine, words: str) -> str:
    return (await engine.resolve(f"fake/{words}", None, lambda line: None)).id


async def run(engine: Engine, words: str, name: str = "shop-1-1", **changes: object) -> Order:
    told: dict[str, Any] = {"name": name, "workload": name.split("-", maxsplit=1)[0], "owner": "ana", "port": 80}
    order = Order(**{**told, "image": await image(engine, words), **changes})
    await engine.create(order)
    await engine.start(order.name)
    return order


async def only(engine: Engine) -> Sighting:
    (sighting,) = await engine.observe()
    return sighting


async def begun(call: Awaitable[Answer]) -> asyncio.Task[Answer]:
    """A call that has got as far as it gets before the clock is moved."""
    task = asyncio.ensure_future(call)
    for _ in range(10):
        await asyncio.sleep(0)
    return task


def build_order(folder: Path, recipe: Recipe | OwnDockerfile) -> BuildOrder:
    return BuildOrder("build-1", "shop", "ana", folder, recipe)
