"""A quota is kept however many ask at the same moment."""

from __future__ import annotations

import asyncio
from collections import Counter

from muelle.workloads.model import Quota
from tests.workloads.test_deploying import deploy
from tests.world import World

ALLOWED = 5


async def test_twenty_at_once_get_no_more_than_is_allowed(world: World) -> None:
    ana = await world.sign_up("ana@example.com")
    await deploy(ana, "shop-0", image="missing/image")
    await world.workloads.workloads.quotas.allow(ana.id, Quota(workloads=ALLOWED))
    wanted = [ana.post("/workloads", {"name": f"shop-{n}", "image": "missing/image"}) for n in range(1, 21)]
    answers = Counter(answer.status_code for answer in await asyncio.gather(*wanted))
    assert answers == {202: ALLOWED - 1, 409: 20 - (ALLOWED - 1)}
    assert len((await ana.get("/workloads")).json()["items"]) == ALLOWED
