"""What every engine promises of its capabilities: what it does not declare, it refuses, and never does by halves."""

from __future__ import annotations

import pytest

from muelle.engines.protocol import CannotDo, Capability, Limits
from muelle.engines.recipe import OwnDockerfile
from tests.engines.programs import KEEPER
from tests.engines.yard import Yard

pytestmark = pytest.mark.asyncio(loop_scope="session")


def lacking(yard: Yard, capability: Capability) -> None:
    if capability in yard.engine.capabilities:
        pytest.skip(f"{yard.engine.name} declares {capability.name}: the other cases show that it has it")


async def test_an_engine_declares_what_there_is_to_declare(yard: Yard) -> None:
    assert yard.engine.capabilities <= frozenset(Capability)
    assert yard.engine.name == yard.harness.driver.name


async def test_an_engine_without_images_refuses_their_names(yard: Yard) -> None:
    lacking(yard, Capability.IMAGES)
    with pytest.raises(CannotDo):
        await yard.engine.resolve("busybox", None, lambda line: None)


async def test_an_engine_without_dockerfiles_refuses_them(yard: Yard) -> None:
    lacking(yard, Capability.DOCKERFILES)
    order = yard.harness.build_order(OwnDockerfile(), source={"Dockerfile": "FROM busybox\n"})
    with pytest.raises(CannotDo):
        await yard.engine.build(order, lambda line: None)


async def test_an_engine_without_volumes_refuses_them_and_makes_nothing(yard: Yard) -> None:
    lacking(yard, Capability.VOLUMES)
    order = await yard.order(KEEPER, mounts=(yard.volume(),))
    with pytest.raises(CannotDo):
        await yard.create_as(order)
    assert await yard.sight(order.name) is None


async def test_an_engine_without_exec_refuses_it(yard: Yard) -> None:
    lacking(yard, Capability.EXEC)
    with pytest.raises(CannotDo):
        await yard.engine.execute(await yard.shared_web(), ["echo", "hello"])


async def test_limits_are_taken_whether_they_can_be_held_or_not(yard: Yard) -> None:
    """Every order has some: an engine that cannot hold one says so by what it declares."""
    name = await yard.web(limits=Limits(cpu_millis=500, memory_bytes=256 * 2**20, pids=64))
    assert (await yard.get(name)).status_code == 200
