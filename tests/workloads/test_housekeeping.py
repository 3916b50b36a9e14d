"""What nobody can want any more is given back, and nothing else."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from muelle.engines.protocol import Sighting
from muelle.workloads.housekeeping import IMAGE_GRACE_SECONDS, KEPT_DEPLOYMENT_LOGS
from muelle.workloads.model import PROTECTED_RELEASES
from tests.waiting import eventually
from tests.workloads.test_deploying import becomes
from tests.world import Person, World

FUNCTION = "def microservicio(request):\n    return {'number': %s}\n"


async def deploy_file(person: Person, id: str, number: int) -> None:
    """Builds, and waits until it is a release: the image of each is another."""
    path = f"/workloads/{id}/deploy" if id else "/workloads"
    more = {} if id else {"name": "shop"}
    answer = await person.post(path, {"file": {"name": "app.py", "text": FUNCTION % number}, **more})
    assert answer.status_code == 202, answer.text
    deployment = answer.json()["deployment"]["id"]

    async def is_released() -> bool:
        return bool((await person.get(f"/deployments/{deployment}")).json()["state"] == "released")

    await eventually(is_released, 20)


async def clean(world: World) -> None:
    loop = next(loop for loop in world.workloads.loops if loop.name == "workloads.housekeeping")
    await loop.run_once()
    assert not loop.outcome.last_error


async def test_images_that_no_protected_release_needs_are_removed(one: World) -> None:
    ana = await one.sign_up("ana@example.com")
    await deploy_file(ana, "", 1)
    id = str((await ana.get("/workloads")).json()["items"][0]["id"])
    for number in range(2, PROTECTED_RELEASES + 4):
        await deploy_file(ana, id, number)
    engine = one.workloads.workloads.core.engine
    assert len(await engine.images()) == PROTECTED_RELEASES + 3
    await clean(one)
    assert len(await engine.images()) == PROTECTED_RELEASES + 3, "they are too young"
    await becomes(ana, id, "running", serving=PROTECTED_RELEASES + 3)
    engine_shows = one.workloads.workloads.core.engine.observe
    await eventually(lambda: only_one(engine_shows))
    one.clock.leap(seconds=IMAGE_GRACE_SECONDS + 60)
    ana = await one.log_in("ana@example.com")
    await clean(one)
    kept = {image.id for image in await engine.images()}
    releases = {r["number"]: r["image"] for r in (await ana.get(f"/workloads/{id}/releases")).json()}
    newest = sorted(releases)[-PROTECTED_RELEASES:]
    assert {releases[number] for number in newest} <= kept
    assert len(kept) <= PROTECTED_RELEASES + 1, "one more where an older one proved good last"
    assert releases[min(releases)] not in kept or len(kept) == PROTECTED_RELEASES + 1


async def only_one(observe: Callable[[], Awaitable[Sequence[Sighting]]]) -> bool:
    return len(await observe()) == 1


async def test_the_logs_of_old_builds_go_with_the_newest_ones_kept(one: World) -> None:
    ana = await one.sign_up("ana@example.com")
    await deploy_file(ana, "", 0)
    id = str((await ana.get("/workloads")).json()["items"][0]["id"])
    for number in range(KEPT_DEPLOYMENT_LOGS + 1):
        await deploy_file(ana, id, number)
    await clean(one)
    found = (await ana.get(f"/workloads/{id}/deployments", params={"limit": 100})).json()["items"]
    newest, oldest = found[0]["id"], found[-1]["id"]
    assert (await ana.get(f"/deployments/{newest}/logs")).json()["items"]
    assert not (await ana.get(f"/deployments/{oldest}/logs")).json()["items"]


async def test_quotas_are_kept_and_changed_by_administrators_alone(one: World) -> None:
    root, ana = await one.administrator(), await one.sign_up("ana@example.com")
    await one.settled()
    few = {"workloads": 1, "cpu_millis": 1500, "memory_mib": 600}
    assert (await ana.ask("PUT", f"/quotas/{ana.id}", few)).status_code == 403
    assert (await root.ask("PUT", f"/quotas/{ana.id}", few)).status_code == 200
    assert (await ana.post("/workloads", {"name": "one", "image": "fake/web"})).status_code == 202
    second = await ana.post("/workloads", {"name": "two", "image": "fake/web"})
    assert (second.status_code, second.json()["code"]) == (409, "quota_reached")
    standing = (await ana.get("/quota")).json()
    assert standing["allowed"] == few
    assert standing["held"] == {"workloads": 1, "cpu_millis": 1000, "memory_mib": 512}
