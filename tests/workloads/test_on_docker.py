"""The same with a real Docker engine: from source to an answer over HTTP, and a bad release that nobody notices."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from muelle.engines.docker import DockerEngine
from muelle.kit.clock import SystemClock
from tests.waiting import eventually
from tests.workloads.test_deploying import becomes
from tests.world import ONE, Person, World, installation

pytestmark = [pytest.mark.needs("docker"), pytest.mark.timeout(300)]

GREETS = """
print("here is %s", flush=True)

def microservicio(request):
    return {"version": "%s", "name": request["body"].get("name", "")}
"""


@pytest.fixture
async def on_docker(docker_host: str, tmp_path: Path) -> AsyncIterator[World]:
    engine = DockerEngine(docker_host, f"story{secrets.token_hex(4)}", SystemClock())
    async with installation(ONE, tmp_path / "home", engine=lambda: engine) as world:
        try:
            yield world
        finally:
            await everything_goes(engine)


async def everything_goes(engine: DockerEngine) -> None:
    for sighting in await engine.observe():
        await engine.remove(sighting.name)
    for volume in await engine.volumes():
        await engine.remove_volume(volume.name)
    for image in await engine.images():
        await engine.remove_image(image.id)
    await engine.tidy()


async def make(person: Person, **what: Any) -> str:
    answer = await person.post("/workloads", {"name": "shop", **what})
    assert answer.status_code == 202, answer.text
    return str(answer.json()["workload"]["id"])


async def call(world: World, body: Any = None) -> httpx.Response:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{world.apps_port}", timeout=20) as client:
        return await client.post("/shop", json=body or {}, headers={"Host": "shop.ana.localhost"})


async def test_a_single_file_answers_and_a_bad_one_after_it_changes_nothing(on_docker: World) -> None:
    ana = await on_docker.sign_up("ana@example.com")
    file = {"name": "app.py", "text": GREETS % ("one", "one")}
    id = await make(ana, file=file, environment={"MICROSERVICIO_NAME": "shop"})
    await becomes(ana, id, "running", within=120, serving=1)
    await eventually(lambda: answered(on_docker, "one"))

    failures: list[int] = []
    visiting = asyncio.create_task(visit_all_the_time(on_docker, failures))
    broken = {"name": "app.py", "text": "raise SystemExit(3)\n\ndef microservicio(request):\n    return {}\n"}
    assert (await ana.post(f"/workloads/{id}/deploy", {"file": broken})).status_code == 202
    bad = await eventually(lambda: newest(ana, id, "bad"), 60)
    assert bad["why"]["code"] == "ended", bad
    better = {"name": "app.py", "text": GREETS % ("three", "three")}
    assert (await ana.post(f"/workloads/{id}/deploy", {"file": better})).status_code == 202
    await eventually(lambda: newest(ana, id, "good"), 60)
    await eventually(lambda: answered(on_docker, "three"))
    visiting.cancel()
    assert not failures
    said = {(line["release"], line["text"]) for line in (await ana.get(f"/workloads/{id}/logs")).json()["items"]}
    assert {(1, "here is one"), (3, "here is three")} <= said
    assert (await ana.delete(f"/workloads/{id}")).status_code == 202
    await eventually(lambda: is_gone(ana, id), 30)


async def answered(world: World, version: str) -> bool:
    answer = await call(world, {"name": "Ana"})
    assert answer.status_code == 200, answer.text
    return bool(answer.json() == {"version": version, "name": "Ana"})


async def visit_all_the_time(world: World, failures: list[int]) -> None:
    while True:
        answer = await call(world)
        if answer.status_code != 200:
            failures.append(answer.status_code)
        await asyncio.sleep(0.02)


async def newest(person: Person, id: str, verdict: str) -> dict[str, Any] | None:
    release = (await person.get(f"/workloads/{id}/releases")).json()[0]
    return dict(release) if release["verdict"] == verdict else None


async def is_gone(person: Person, id: str) -> bool:
    return (await person.get(f"/workloads/{id}")).status_code == 404
