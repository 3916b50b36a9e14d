"""The conformance suite's fixtures: one harness for each driver that is here, and a yard for each case."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.engines.harness import Driver, Harness, parameters
from tests.engines.yard import Shared, Yard, open_yard
from tests.servers.supply import Servers


@pytest_asyncio.fixture(scope="session", loop_scope="session", params=parameters())
async def conforming(request: pytest.FixtureRequest, servers: Servers) -> AsyncIterator[tuple[Harness, Shared]]:
    driver: Driver = request.param
    harness = Harness(driver, servers.need(driver.needs) if driver.needs else "")
    try:
        yield harness, {}
    finally:
        await harness.close()


@pytest_asyncio.fixture(loop_scope="session")
async def yard(conforming: tuple[Harness, Shared]) -> AsyncIterator[Yard]:
    async with open_yard(*conforming) as yard:
        yield yard
