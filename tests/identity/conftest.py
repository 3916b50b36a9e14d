"""Installations that only identity's tests need."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.identity.doors import TWINS, knowing_a_provider
from tests.identity.provider import LittleProvider
from tests.world import LeapingClock, World, installation


@pytest.fixture
async def twins(tmp_path: Path, postgres_url: str) -> AsyncIterator[World]:
    """Two replicas of the whole, on one PostgreSQL."""
    async with installation(TWINS, tmp_path / "home", postgres_url=postgres_url, replicas=2) as world:
        yield world


@pytest.fixture
def little() -> LittleProvider:
    """A sign-in provider, with the right time once an installation knows it."""
    return LittleProvider(LeapingClock())


@pytest.fixture
async def vouched_world(tmp_path: Path, little: LittleProvider) -> AsyncIterator[World]:
    """An installation that knows the provider `little`."""
    async with knowing_a_provider(tmp_path / "home", little) as world:
        yield world
