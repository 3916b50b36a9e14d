"""What every engine with volumes promises of them: they outlive instances, and go only when nobody has them."""

from __future__ import annotations

import pytest

from muelle.engines.protocol import Capability, Condition, Mount, Volume
from muelle.kit.errors import Conflict
from tests.engines.programs import KEEPER, TICKER
from tests.engines.yard import OTHER_OWNER, OWNER, Yard

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest.fixture(autouse=True)
def with_volumes(yard: Yard) -> None:
    yard.need(Capability.VOLUMES)


async def counted(yard: Yard, mount: Mount, owner: str = OWNER) -> str:
    """What a new instance that has this volume finds there; it is removed afterwards."""
    name = await yard.run(KEEPER, mounts=(mount,), owner=owner)
    await yard.seen(name, Condition.EXITED)
    texts = await yard.texts(name)
    await yard.engine.remove(name)
    assert len(texts) == 1, texts
    return texts[0]


async def test_what_is_in_a_volume_outlives_an_instance(yard: Yard) -> None:
    mount = yard.volume()
    assert [await counted(yard, mount) for _ in range(2)] == ["count 1", "count 2"]


async def test_what_is_in_a_volume_outlives_a_restart(yard: Yard) -> None:
    name = await yard.run(KEEPER, mounts=(yard.volume(),))
    await yard.seen(name, Condition.EXITED)
    await yard.engine.start(name)
    await yard.seen(name, Condition.EXITED)
    assert (await yard.texts(name))[-1] == "count 2"


async def test_a_volume_is_listed_with_its_owner(yard: Yard) -> None:
    mount = yard.volume()
    await yard.create(KEEPER, mounts=(mount,))
    assert Volume(mount.volume, OWNER) in await yard.engine.volumes()


async def test_a_volume_stays_when_its_instance_is_removed(yard: Yard) -> None:
    mount = yard.volume()
    await yard.engine.remove(await yard.create(KEEPER, mounts=(mount,)))
    assert Volume(mount.volume, OWNER) in await yard.engine.volumes()


async def test_a_removed_volume_is_gone(yard: Yard) -> None:
    mount = yard.volume()
    await yard.engine.remove(await yard.create(KEEPER, mounts=(mount,)))
    await yard.engine.remove_volume(mount.volume)
    assert mount.volume not in [volume.name for volume in await yard.engine.volumes()]


async def test_a_volume_made_again_is_empty(yard: Yard) -> None:
    mount = yard.volume()
    await counted(yard, mount)
    await yard.engine.remove_volume(mount.volume)
    assert await counted(yard, mount) == "count 1"


async def test_a_volume_is_not_removed_while_it_is_in_use(yard: Yard) -> None:
    mount = yard.volume()
    await yard.run(TICKER, mounts=(mount,))
    with pytest.raises(Conflict):
        await yard.engine.remove_volume(mount.volume)


async def test_a_volume_is_not_removed_while_one_that_has_ended_has_it(yard: Yard) -> None:
    mount = yard.volume()
    name = await yard.run(KEEPER, mounts=(mount,))
    await yard.seen(name, Condition.EXITED)
    with pytest.raises(Conflict):
        await yard.engine.remove_volume(mount.volume)
    await yard.engine.start(name)
    await yard.seen(name, Condition.EXITED)
    assert (await yard.texts(name))[-1] == "count 2"


async def test_removing_an_unknown_volume_is_no_error(yard: Yard) -> None:
    await yard.engine.remove_volume("muelle-nothing")


async def test_the_volumes_of_two_owners_are_apart(yard: Yard) -> None:
    ours, theirs = yard.volume(), yard.volume(OTHER_OWNER)
    await counted(yard, ours)
    assert await counted(yard, theirs, OTHER_OWNER) == "count 1"
    assert {Volume(ours.volume, OWNER), Volume(theirs.volume, OTHER_OWNER)} <= set(await yard.engine.volumes())


async def test_two_instances_may_share_a_volume(yard: Yard) -> None:
    mount = yard.volume()
    await yard.run(TICKER, mounts=(mount,))
    await yard.run_to_end(KEEPER, mounts=(mount,))
    assert await counted(yard, mount) == "count 2"


async def test_another_installation_neither_sees_nor_removes_our_volumes(yard: Yard) -> None:
    mount = yard.volume()
    await yard.engine.remove(await yard.create(KEEPER, mounts=(mount,)))
    other = yard.harness.connect(f"{yard.harness.installation}-other")
    assert list(await other.volumes()) == []
    await other.remove_volume(mount.volume)
    assert Volume(mount.volume, OWNER) in await yard.engine.volumes()


async def test_tidying_leaves_volumes(yard: Yard) -> None:
    mount = yard.volume()
    await yard.engine.remove(await yard.create(KEEPER, mounts=(mount,)))
    await yard.engine.tidy()
    assert Volume(mount.volume, OWNER) in await yard.engine.volumes()
