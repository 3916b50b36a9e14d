"""From an image to something that runs, and what may be wished of it: over the API, with a pretended engine."""

from __future__ import annotations

from typing import Any

from tests.waiting import eventually
from tests.world import Person, World


async def deploy(person: Person, name: str = "shop", image: str = "fake/web", **more: Any) -> dict[str, Any]:
    answer = await person.post("/workloads", {"name": name, "image": image, **more})
    assert answer.status_code == 202, answer.text
    return dict(answer.json()["workload"])


async def becomes(person: Person, id: str, phase: str, within: float = 20, **also: Any) -> dict[str, Any]:
    async def as_wished() -> dict[str, Any] | None:
        answer = await person.get(f"/workloads/{id}")
        found = answer.json()
        assert found["phase"] == phase, found
        assert {name: found[name] for name in also} == also, found
        return dict(found)

    return await eventually(as_wished, within, pause=0.05)


async def test_an_image_runs_and_is_reached_by_its_name(one: World) -> None:
    ana = await one.sign_up("ana@example.com")
    made = await deploy(ana)
    assert (made["name"], made["url"], made["release"]) == ("shop", "http://shop.ana.localhost", 0)
    running = await becomes(ana, made["id"], "running", serving=1)
    assert (running["wish"], running["why"]) == ("running", {"code": "", "words": ""})

    async def is_good() -> bool:
        (release,) = (await ana.get(f"/workloads/{made['id']}/releases")).json()
        return bool(release["verdict"] == "good")

    await eventually(is_good)


async def test_it_stops_starts_and_goes(one: World) -> None:
    ana = await one.sign_up("ana@example.com")
    id = (await deploy(ana))["id"]
    await becomes(ana, id, "running")
    assert (await ana.post(f"/workloads/{id}/stop")).status_code == 202
    await becomes(ana, id, "stopped", serving=0)
    assert (await ana.post(f"/workloads/{id}/start")).status_code == 202
    await becomes(ana, id, "running", serving=1)
    assert (await ana.delete(f"/workloads/{id}")).status_code == 202
    await eventually(lambda: is_gone(ana, id))


async def is_gone(person: Person, id: str) -> bool:
    return (await person.get(f"/workloads/{id}")).status_code == 404


async def test_a_bad_release_never_gets_the_traffic_and_says_why(one: World) -> None:
    ana = await one.sign_up("ana@example.com")
    id = (await deploy(ana))["id"]
    await becomes(ana, id, "running", serving=1)
    answer = await ana.post(f"/workloads/{id}/deploy", {"image": "fake/crash"})
    assert answer.status_code == 202, answer.text

    async def was_judged() -> dict[str, Any] | None:
        newest = (await ana.get(f"/workloads/{id}/releases")).json()[0]
        return dict(newest) if newest["verdict"] == "bad" else None

    bad = await eventually(was_judged)
    assert (bad["number"], bad["why"]["code"]) == (2, "ended")
    await becomes(ana, id, "running", serving=1, release=1)
