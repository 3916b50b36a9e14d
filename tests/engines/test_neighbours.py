"""What an engine that declares isolation promises: an owner's instances reach each other by name, and nobody else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from muelle.engines.protocol import Capability, Condition
from tests.engines.programs import CALLER
from tests.engines.yard import OTHER_OWNER, OWNER, PORT, Yard

pytestmark = pytest.mark.asyncio(loop_scope="session")

TRIES_SECONDS = "1"
LONG_TRIES_SECONDS = "15"


@pytest.fixture(autouse=True)
def with_isolation(yard: Yard) -> None:
    yard.need(Capability.ISOLATION)


@pytest_asyncio.fixture(loop_scope="session")
async def loopback_port() -> AsyncIterator[int]:
    """Somebody who listens on this machine's loopback, where no tenant has any business."""
    server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def found(yard: Yard, target: str, owner: str, tries_seconds: str = TRIES_SECONDS) -> str:
    environment = {"TARGET": target, "TRIES_SECONDS": tries_seconds}
    name = await yard.run(CALLER, owner=owner, environment=environment)
    await yard.seen(name, Condition.EXITED)
    return (await yard.texts(name))[-1]


async def test_an_instance_is_reached_by_its_alias(yard: Yard) -> None:
    await yard.web(aliases=("shop",))
    assert await found(yard, f"shop:{PORT}", OWNER, LONG_TRIES_SECONDS) == "reached"


async def test_an_instance_is_reached_by_each_of_its_aliases(yard: Yard) -> None:
    await yard.web(aliases=("store", "store-2"))
    for alias in ("store", "store-2"):
        assert await found(yard, f"{alias}:{PORT}", OWNER, LONG_TRIES_SECONDS) == "reached"


async def test_an_alias_goes_from_a_removed_instance_to_the_next(yard: Yard) -> None:
    await yard.engine.remove(await yard.web(aliases=("till",)))
    await yard.web(aliases=("till",))
    assert await found(yard, f"till:{PORT}", OWNER, LONG_TRIES_SECONDS) == "reached"


async def test_an_alias_of_another_owner_is_not_known(yard: Yard) -> None:
    await yard.web(aliases=("secret",))
    assert await found(yard, f"secret:{PORT}", OTHER_OWNER) == "not reached"


async def test_two_owners_may_have_the_same_alias(yard: Yard) -> None:
    await yard.web(aliases=("same",))
    await yard.web(aliases=("same",), owner=OTHER_OWNER)
    for owner in (OWNER, OTHER_OWNER):
        assert await found(yard, f"same:{PORT}", owner, LONG_TRIES_SECONDS) == "reached"


async def test_the_address_of_another_owners_instance_leads_nowhere(yard: Yard) -> None:
    address = await yard.address(await yard.web())
    assert await found(yard, f"{address.host}:{address.port}", OTHER_OWNER) == "not reached"


async def test_what_listens_on_the_machines_loopback_is_not_reached(yard: Yard, loopback_port: int) -> None:
    assert await found(yard, f"127.0.0.1:{loopback_port}", OWNER) == "not reached"


async def test_what_listens_on_the_machines_loopback_is_not_reached_by_its_name(yard: Yard, loopback_port: int) -> None:
    assert await found(yard, f"localhost:{loopback_port}", OWNER) == "not reached"
