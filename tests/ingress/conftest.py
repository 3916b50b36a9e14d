"""The proxy is tried on the event loop that it runs on in earnest."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
import uvloop

from tests.ingress.harbour import Harbour, harbour


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture
async def port() -> AsyncIterator[Harbour]:
    """A proxy with short limits, a table, and programs to send requests to."""
    async with harbour() as place:
        yield place
