"""What every test may use."""

from __future__ import annotations

import asyncio
import os
import threading
import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
import uvloop

from tests.servers.supply import Servers
from tests.world import ONE, SHAPES, Shape, World, installation

pytest_plugins = ["tests.servers.plugin"]


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The event loop that the program runs on, for the tests as well: what breaks on it alone breaks here."""
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture(params=SHAPES, ids=str)
async def world(
    request: pytest.FixtureRequest, tmp_path: Path, servers: Servers, rabbit_namespace: str
) -> AsyncIterator[World]:
    """An installation in each shape, with disorder from a seed that the test's name gives (or MUELLE_TEST_SEED)."""
    shape: Shape = request.param
    with ExitStack() as stack:
        postgres_url = stack.enter_context(servers.postgres_url()) if shape.postgres else ""
        rabbit_url = servers.rabbit_url() if shape.rabbit else ""
        seed = int(os.environ.get("MUELLE_TEST_SEED") or zlib.crc32(request.node.name.encode()))
        async with installation(
            shape,
            tmp_path / "home",
            postgres_url=postgres_url,
            rabbit_url=rabbit_url,
            namespace=rabbit_namespace,
            seed=seed,
        ) as world:
            yield world


@pytest.fixture
async def one(tmp_path: Path) -> AsyncIterator[World]:
    """One process on SQLite: for what does not depend on the shape."""
    async with installation(ONE, tmp_path / "home") as world:
        yield world


ENDS_WITHIN_SECONDS = 60


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """A thread that a test left behind must not keep a run that is over from ending."""
    last = threading.Timer(ENDS_WITHIN_SECONDS, os._exit, [int(exitstatus)])
    last.daemon = True
    last.start()
