"""What the tests of the bus stand on: a room on either database, joined by either bus, and a clock that they move."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import pytest

from muelle.kit.bus import Subscription
from muelle.kit.clock import MovableClock
from tests.bus.harbour import Harbour, InProcess, OverRabbit, Wiring, open_harbour

Wire = Callable[[Sequence[Subscription]], Wiring]


@pytest.fixture
def clock() -> MovableClock:
    return MovableClock()


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.needs("postgres"))])
def database_url(request: pytest.FixtureRequest) -> str:
    """Empty for SQLite."""
    return "" if request.param == "sqlite" else str(request.getfixturevalue("postgres_url"))


@pytest.fixture
async def harbour(tmp_path: Path, clock: MovableClock, database_url: str) -> AsyncIterator[Harbour]:
    async with open_harbour(tmp_path, clock, database_url) as harbour:
        yield harbour


@pytest.fixture
async def small_harbour(tmp_path: Path, clock: MovableClock) -> AsyncIterator[Harbour]:
    """On SQLite, where the database is not what a test is about."""
    async with open_harbour(tmp_path, clock) as harbour:
        yield harbour


@pytest.fixture(params=["memory", pytest.param("rabbit", marks=pytest.mark.needs("rabbitmq"))])
def wire(request: pytest.FixtureRequest, clock: MovableClock) -> Wire:
    """Joins processes for these subscriptions, by either bus."""
    if request.param == "memory":
        return InProcess
    url, namespace = request.getfixturevalue("rabbit_url"), request.getfixturevalue("rabbit_namespace")
    return lambda subscriptions: OverRabbit(url, namespace, subscriptions, clock)
