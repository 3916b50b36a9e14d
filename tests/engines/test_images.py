"""What every engine promises of images: known by what is in them, kept while in use, ours alone to remove."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from muelle.engines.protocol import Capability, Condition, ImageMissing, KeptImage
from tests.engines.programs import JOB, TICKER, WEB
from tests.engines.yard import Yard

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def kept(yard: Yard, id: str) -> list[KeptImage]:
    return [image for image in await yard.engine.images() if image.id == id]


async def test_an_image_that_was_built_is_here(yard: Yard) -> None:
    assert await yard.engine.has_image(await yard.harness.image(JOB))


async def test_an_image_that_nobody_made_is_not_here(yard: Yard) -> None:
    assert not await yard.engine.has_image(f"sha256:{'0' * 64}")


async def test_an_image_is_listed_with_the_name_of_its_build(yard: Yard) -> None:
    order = yard.harness.build_order(JOB.recipe())
    image = await yard.engine.build(order, lambda line: None)
    assert order.name in [one.build for one in await kept(yard, image.id)]


async def test_an_image_is_listed_with_its_size_and_its_time(yard: Yard) -> None:
    """Made lately, by the engine's clock or ours; one whose content was built before may keep its first time."""
    image = (await kept(yard, await yard.harness.image(JOB)))[0]
    assert image.size_bytes > 0
    assert datetime(2000, 1, 1, tzinfo=UTC) < image.made_at < datetime.now(UTC) + timedelta(minutes=5)


async def test_images_of_other_content_have_other_ids(yard: Yard) -> None:
    assert await yard.harness.image(JOB) != await yard.harness.image(WEB)


async def test_a_removed_image_is_gone(yard: Yard) -> None:
    image = await yard.harness.build(JOB.recipe(), source={"only-here": yard.harness.installation})
    await yard.engine.remove_image(image.id)
    assert not await yard.engine.has_image(image.id)
    assert await kept(yard, image.id) == []


async def test_removing_an_image_twice_is_no_error(yard: Yard) -> None:
    image = await yard.harness.build(JOB.recipe(), source={"and-here": yard.harness.installation})
    await yard.engine.remove_image(image.id)
    await yard.engine.remove_image(image.id)


async def test_removing_an_unknown_image_is_no_error(yard: Yard) -> None:
    await yard.engine.remove_image(f"sha256:{'0' * 64}")


async def test_an_image_of_a_running_instance_is_left(yard: Yard) -> None:
    image = await yard.harness.image(TICKER)
    name = await yard.run(TICKER)
    await yard.engine.remove_image(image)
    assert await yard.engine.has_image(image)
    await yard.seen(name, Condition.RUNNING)


async def test_an_image_of_an_instance_that_has_ended_is_left(yard: Yard) -> None:
    image = await yard.harness.image(JOB)
    name = await yard.run(JOB)
    await yard.seen(name, Condition.EXITED)
    await yard.engine.remove_image(image)
    assert await yard.engine.has_image(image)
    await yard.engine.start(name)
    assert (await yard.seen(name, Condition.EXITED)).exit_code == 0


async def test_an_image_is_not_listed_for_another_installation(yard: Yard) -> None:
    image = await yard.harness.image(JOB)
    other = yard.harness.connect(f"{yard.harness.installation}-other")
    assert list(await other.images()) == []
    await other.remove_image(image)
    assert await yard.engine.has_image(image)


async def test_tidying_leaves_what_is_in_use(yard: Yard) -> None:
    name = await yard.shared_web()
    before = await yard.sight(name)
    await yard.engine.tidy()
    assert await yard.sight(name) == before
    assert (await yard.get(name)).status_code == 200


async def test_tidying_leaves_images(yard: Yard) -> None:
    image = await yard.harness.image(JOB)
    await yard.engine.tidy()
    assert await yard.engine.has_image(image)


async def test_after_tidying_instances_are_made_as_before(yard: Yard) -> None:
    await yard.engine.tidy()
    assert (await yard.run_to_end(JOB, owner="carla")).exit_code == 0


async def test_the_disk_is_as_large_as_what_is_free_and_what_is_not(yard: Yard) -> None:
    disk = await yard.engine.disk()
    assert 0 < disk.free_bytes <= disk.total_bytes
    assert disk.total_bytes > 2**30


async def test_an_image_is_found_by_its_name(yard: Yard) -> None:
    yard.need(Capability.IMAGES)
    image = await yard.engine.resolve(yard.harness.driver.known_reference, None, lambda line: None)
    assert await yard.engine.has_image(image.id)


async def test_a_name_without_a_tag_is_the_latest(yard: Yard) -> None:
    yard.need(Capability.IMAGES)
    reference = yard.harness.driver.known_reference
    plain = await yard.engine.resolve(reference, None, lambda line: None)
    assert plain == await yard.engine.resolve(f"{reference}:latest", None, lambda line: None)


async def test_the_same_image_is_the_same_each_time(yard: Yard) -> None:
    yard.need(Capability.IMAGES)
    reference = yard.harness.driver.known_reference
    first, second = await asyncio.gather(*(yard.engine.resolve(reference, None, lambda line: None) for _ in range(2)))
    assert first.id == second.id


async def test_an_instance_of_an_image_that_was_found_by_name_runs(yard: Yard) -> None:
    yard.need(Capability.IMAGES)
    image = await yard.engine.resolve(yard.harness.driver.known_reference, None, lambda line: None)
    name = await yard.run(image=image.id, command=("echo", "from outside"))
    assert (await yard.seen(name, Condition.EXITED)).exit_code == 0
    assert await yard.texts(name) == ["from outside"]


async def test_an_image_that_is_not_to_be_had_is_missing(yard: Yard) -> None:
    yard.need(Capability.IMAGES)
    with pytest.raises(ImageMissing):
        await yard.engine.resolve(yard.harness.driver.missing_reference, None, lambda line: None)


@pytest.mark.parametrize("reference", ["UPPER/Case", "a b", "", "-x", "x:y:z", "http://x/y", "x\ny", "../x"])
async def test_what_is_no_name_of_an_image_is_missing(yard: Yard, reference: str) -> None:
    yard.need(Capability.IMAGES)
    with pytest.raises(ImageMissing):
        await yard.engine.resolve(reference, None, lambda line: None)


async def test_an_image_that_we_did_not_build_is_not_listed_and_not_removed(yard: Yard) -> None:
    yard.need(Capability.IMAGES)
    image = await yard.engine.resolve(yard.harness.driver.known_reference, None, lambda line: None)
    assert await kept(yard, image.id) == []
    await yard.engine.remove_image(image.id)
    assert await yard.engine.has_image(image.id)
