"""A container that somebody removes by hand is there again."""

from __future__ import annotations

import time

import pytest

from muelle.engines.docker import DockerEngine
from tests.waiting import eventually
from tests.workloads.test_deploying import becomes
from tests.workloads.test_on_docker import (
    answered,
    make,
    newest,
    on_docker,  # noqa: F401 - a fixture
)
from tests.world import World

pytestmark = [pytest.mark.needs("docker"), pytest.mark.timeout(300)]

HEALS_WITHIN_SECONDS = 15.0
GREETS = """
def microservicio(request):
    return {"version": "one", "name": request["body"].get("name", "")}
"""


async def test_a_container_that_is_removed_by_hand_is_there_again(on_docker: World) -> None:  # noqa: F811
    ana = await on_docker.sign_up("ana@example.com")
    id = await make(ana, file={"name": "app.py", "text": GREETS}, environment={"MICROSERVICIO_NAME": "shop"})
    await becomes(ana, id, "running", within=120, serving=1)
    await eventually(lambda: newest(ana, id, "good"), 30)  # on trial, an end would prove it bad
    await eventually(lambda: answered(on_docker, "one"), 30)
    engine = on_docker.workloads.workloads.core.engine
    assert isinstance(engine, DockerEngine)
    (before,) = await engine.observe(id)
    began = time.monotonic()
    await engine.remove(before.name)  # which is what `docker rm -f` does: Docker is told, and nobody else

    async def is_another() -> bool:
        return [seen.started_at for seen in await engine.observe(id)] not in ([], [before.started_at])

    await eventually(is_another, HEALS_WITHIN_SECONDS, pause=0.1)
    await eventually(lambda: answered(on_docker, "one"), HEALS_WITHIN_SECONDS)
    assert time.monotonic() - began < HEALS_WITHIN_SECONDS
