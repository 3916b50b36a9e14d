"""Ways into an installation that `World.ask` does not know: another replica, another address, a browser with cookies,
and an installation that knows a sign-in provider."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
from argon2 import PasswordHasher

from muelle import config
from muelle.app import PREFIX, SUBSCRIPTIONS, Application, Parts
from muelle.identity.passwords import Passwords
from muelle.kit.bus.memory import Disorder, MemoryBus
from tests.identity.provider import CLIENT_ID, CLIENT_SECRET, LittleProvider
from tests.world import ONE, PASSWORD, PUBLIC_ADDRESS, SECRET_KEY, LeapingClock, Person, Postbox, Shape, World

TWINS = Shape(split=False, postgres=True, rabbit=False)
"""For two replicas on one PostgreSQL."""

ELSEWHERE = "198.51.100.9"


def quick_passwords(**changes: int) -> Passwords:
    """Real argon2, as cheap as it gets."""
    return Passwords(PasswordHasher(**{"time_cost": 1, "memory_cost": 8, "parallelism": 1} | changes))


def door(app: Application, address: str = PUBLIC_ADDRESS) -> httpx.AsyncClient:
    """A client of the native API at one replica, from one address, that keeps cookies."""
    transport = httpx.ASGITransport(app.asgi, raise_app_exceptions=False, client=(address, 4711))
    return httpx.AsyncClient(transport=transport, base_url=f"http://muelle{PREFIX}")


def hold_still(world: World) -> None:
    """From now on time passes in leaps only, however slow the machine is."""
    moment = world.clock.now() - world.clock.offset
    world.clock.now = lambda: moment + world.clock.offset  # type: ignore[method-assign]


async def try_log_in(
    app: Application, email: str, password: str = PASSWORD, *, address: str = PUBLIC_ADDRESS, **more: Any
) -> httpx.Response:
    async with door(app, address) as client:
        return await client.post("/auth/login", json={"email": email, "password": password} | more)


def bearer(person: Person) -> dict[str, str]:
    return {"Authorization": f"Bearer {person.credential}"}


def code_of(answer: httpx.Response) -> tuple[int, str]:
    """The status, and the stable code of a problem."""
    return answer.status_code, answer.json()["code"]


async def key_of(person: Person, *scopes: str, **more: Any) -> Person:
    """The same person as a program with an API key."""
    made = await person.post("/me/keys", {"name": "a program", "scopes": list(scopes or ["*"])} | more)
    assert made.status_code == 201, made.text
    return Person(person.world, person.email, person.tokens, made.json()["key"])


@asynccontextmanager
async def knowing_a_provider(home: Path, provider: LittleProvider, **settings: str) -> AsyncIterator[World]:
    """One process on SQLite that lets people in through the little provider, called `little` (and `other`)."""
    clock, postbox = LeapingClock(), Postbox()
    provider.clock = clock
    known = {"issuer": provider.issuer, "client_id": CLIENT_ID, "client_secret": CLIENT_SECRET}
    environment = {
        "MUELLE_SECRET_KEY": SECRET_KEY,
        "MUELLE_HOME": str(home),
        "MUELLE_ENGINE": "fake",
        "MUELLE_APPS_PORT": "0",
        "MUELLE_OIDC_PROVIDERS": json.dumps({"little": known, "other": known}),
        **{f"MUELLE_{name.upper()}": value for name, value in settings.items()},
    }
    parts = Parts(
        config.load(environment),
        clock=clock,
        bus=MemoryBus(SUBSCRIPTIONS, Disorder(0)),
        passwords=quick_passwords(),
        mailer=postbox,
        transport=httpx.ASGITransport(provider.app),
    )
    async with Application(parts).running() as app:
        yield World(ONE, [app], clock, postbox)


async def with_id_token(world: World, provider: LittleProvider, **claims: Any) -> httpx.Response:
    return await world.ask("POST", "/auth/providers/little/token", json={"id_token": provider.id_token(**claims)})


async def through(world: World, provider: LittleProvider, **claims: Any) -> Person:
    """Somebody whom the provider vouches for."""
    answer = await with_id_token(world, provider, **claims)
    assert answer.status_code == 200, answer.text
    return Person(world, answer.json()["account"]["email"], answer.json())
