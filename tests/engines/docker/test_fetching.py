"""Images from a registry: fetched once, with a password that is told to nobody else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from muelle.engines.protocol import Credentials, ImageMissing
from tests.engines.docker.quay import Quay
from tests.engines.docker.registry import PASSWORD, USER, Registry, open_registry


@asynccontextmanager
async def registry_for(quay: Quay, private: bool = False) -> AsyncIterator[tuple[Registry, str]]:
    async with open_registry(private) as registry:
        reference = f"{registry.place}/team/hello:1"
        try:
            yield registry, reference
        finally:
            for image in await quay.ask("GET", "/images/json", filters={"reference": [reference]}):
                await quay.ask("DELETE", f"/images/{image['Id']}", force="1")


async def test_an_image_is_fetched_once(quay: Quay) -> None:
    async with registry_for(quay) as (_, reference):
        said: list[str] = []
        image = await quay.engine.resolve(reference, None, said.append)
        assert image.ports == (80, 9000)
        assert any("Pulling from team/hello" in line for line in said)
        assert await quay.engine.has_image(image.id)
    async with registry_for(quay) as (_, reference):
        await quay.engine.resolve(reference, None, said.append)
        said.clear()
        await quay.engine.resolve(reference, None, said.append)
        assert said == []


async def test_a_private_image_needs_the_right_password(quay: Quay) -> None:
    async with registry_for(quay, private=True) as (registry, reference):
        for credentials in (None, Credentials(registry.place, USER, "wrong")):
            with pytest.raises(ImageMissing, match="log-in"):
                await quay.engine.resolve(reference, credentials, lambda line: None)
        credentials = Credentials(registry.place, USER, PASSWORD)
        assert (await quay.engine.resolve(reference, credentials, lambda line: None)).id


async def test_a_password_is_told_to_the_registry_that_it_is_for_alone(quay: Quay) -> None:
    async with registry_for(quay, private=True) as (registry, reference):
        with pytest.raises(ImageMissing):
            await quay.engine.resolve(reference, Credentials("ghcr.io", USER, PASSWORD), lambda line: None)
        assert registry.passwords == []


async def test_what_a_registry_has_not_is_missing(quay: Quay) -> None:
    async with registry_for(quay) as (registry, _):
        with pytest.raises(ImageMissing, match="none of that name"):
            await quay.engine.resolve(f"{registry.place}/team/hello:none", None, lambda line: None)


async def test_fetching_ends_with_the_task_that_waits_for_it(quay: Quay) -> None:
    async with registry_for(quay) as (registry, reference):
        registry.sends.clear()
        fetching = asyncio.create_task(quay.engine.resolve(reference, None, lambda line: None))
        async with asyncio.timeout(20):
            await registry.waiting.wait()
            fetching.cancel()
            with pytest.raises(asyncio.CancelledError):
                await fetching
        registry.sends.set()
