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
