"""From a name to a program: what is deployed answers at its address, and what is behind it changes without a gap."""

from __future__ import annotations

import httpx

from tests.waiting import eventually
from tests.workloads.test_deploying import becomes, deploy
from tests.world import World


async def visit(world: World, host: str, path: str = "/") -> httpx.Response:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{world.apps_port}") as client:
        return await client.get(path, headers={"Host": host})


async def test_a_workload_answers_at_its_name(world: World) -> None:
    ana = await world.sign_up("ana@example.com")
    id = (await deploy(ana))["id"]
    await becomes(ana, id, "running", serving=1)

    async def answers() -> bool:
        return (await visit(world, "shop.ana.localhost")).status_code == 200

    await eventually(answers)
    await ana.post(f"/workloads/{id}/stop")

    async def says_that_it_is_stopped() -> bool:
        return (await visit(world, "shop.ana.localhost")).status_code == 503

    await eventually(says_that_it_is_stopped)
    assert (await visit(world, "nothing.ana.localhost")).status_code == 404


async def test_names_of_ones_own_lead_to_it_and_to_nobody_elses(one: World) -> None:
    ana, eva = await one.sign_up("ana@example.com"), await one.sign_up("eva@example.com")
    hers, other = (await deploy(ana))["id"], (await deploy(eva))["id"]
    await becomes(ana, hers, "running", serving=1)
    given = await ana.ask("PUT", f"/workloads/{hers}/hosts", {"hosts": ["Shop.Example.com."]})
    assert (given.status_code, given.json()) == (200, {"hosts": ["shop.example.com"]})

    async def answers() -> bool:
        return (await visit(one, "shop.example.com")).status_code == 200

    await eventually(answers)
    for name in ("shop.example.com", "shop.ana.localhost", "localhost", "10.0.0.1", "a b.example.com"):
        refused = await eva.ask("PUT", f"/workloads/{other}/hosts", {"hosts": [name]})
        assert refused.status_code in (409, 422), name
    assert (await ana.ask("PUT", f"/workloads/{hers}/hosts", {"hosts": []})).status_code == 200

    async def leads_nowhere() -> bool:
        return (await visit(one, "shop.example.com")).status_code == 404

    await eventually(leads_nowhere)
    assert (await eva.ask("PUT", f"/workloads/{other}/hosts", {"hosts": ["shop.example.com"]})).status_code == 200
