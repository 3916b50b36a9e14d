"""What becomes of somebody's workloads when something becomes of their account."""

from __future__ import annotations

from tests.waiting import eventually
from tests.workloads.test_deploying import becomes, deploy, is_gone
from tests.world import World


async def test_a_suspension_holds_what_runs_and_its_end_lets_it_run_again(world: World) -> None:
    root, ana = await world.administrator(), await world.sign_up("ana@example.com")
    id = (await deploy(ana))["id"]
    await becomes(ana, id, "running", serving=1)
    assert (await root.post(f"/accounts/{ana.id}/suspend", {"reason": "unpaid"})).status_code == 200
    held = await becomes(root, id, "stopped")
    assert (held["wish"], held["why"]["code"]) == ("running", "held")

    async def is_refused() -> bool:
        return (await ana.post(f"/workloads/{id}/restart")).status_code == 403

    await eventually(is_refused, pause=0.1)  # who is asking is remembered for two seconds elsewhere
    await becomes(root, id, "stopped")
    assert (await root.post(f"/accounts/{ana.id}/reinstate")).status_code == 200
    await becomes(root, id, "running", serving=1)


async def test_with_an_account_goes_what_it_ran(one: World) -> None:
    root, ana = await one.administrator(), await one.sign_up("ana@example.com")
    id = (await deploy(ana))["id"]
    await becomes(ana, id, "running", serving=1)
    assert (await root.delete(f"/accounts/{ana.id}")).status_code == 204
    await eventually(lambda: is_gone(root, id))
    assert not await one.workloads.workloads.core.engine.observe()


async def test_two_of_the_same_name_have_different_addresses(one: World) -> None:
    ana, other = await one.sign_up("ana@example.com"), await one.sign_up("ana@example.org")
    urls = {(await deploy(person))["url"] for person in (ana, other)}
    assert len(urls) == 2
    assert all(".ana" in url for url in urls)
