"""Requests that schemathesis makes up from the API's description, right ones and wrong ones, as everybody there is.

Whatever comes, the answer is one that the description tells of: its status, its content type, its shape; never a 500.
The requests are the same in each run; MUELLE_TEST_EXAMPLES=100 makes more and other ones.
"""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event, Thread
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.config import SchemathesisConfig
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from muelle import config
from muelle.app import Application, Parts
from muelle.kit.http import Role
from muelle.kit.ids import is_id
from tests.surface.scenes import caller, log_in, workload_of
from tests.world import ONE, SECRET_KEY, World, installation

EXAMPLES = int(os.environ.get("MUELLE_TEST_EXAMPLES", "0"))
CONFIG = {
    "generation": {
        "deterministic": not EXAMPLES,
        "max-examples": EXAMPLES or 8,
        "with-security-parameters": False,  # who asks is ours to say
        "allow-extra-parameters": False,  # in a query they are passed over: providers, for one, bring their own
    }
}
CHECKS = [
    schemathesis.checks.not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    negative_data_rejection,
    unsupported_method,
]
AS = "X-Test-As"


class Alive:
    """An installation in a thread and an event loop of its own, for schemathesis knows nothing of ours.

    `X-Test-As` makes a request that of a fresh account, so that what one does (leave, log out) is nothing to the next.
    """

    def __init__(self) -> None:
        self.targets: dict[str, str] = {}
        self._addresses = itertools.count()
        self._up = Event()
        self._thread = Thread(target=lambda: asyncio.run(self._live()), daemon=True)

    def start(self) -> None:
        self._thread.start()
        assert self._up.wait(30)

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(30)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        asked = await receive()
        answering = asyncio.run_coroutine_threadsafe(self._answer(scope, asked), self._loop)
        for message in await asyncio.wrap_future(answering):
            await send(message)

    async def _answer(self, scope: Any, asked: Any) -> list[Any]:
        headers = dict(scope["headers"])
        role = headers.pop(AS.lower().encode(), b"").decode()
        if role:
            logged_in = await log_in(self._world.identity, role=Role(role))
            headers[b"authorization"] = f"Bearer {logged_in.access_token}".encode()
        number = next(self._addresses)
        scope |= {"headers": list(headers.items()), "client": (f"198.18.{number // 256 % 256}.{number % 256}", 4711)}
        told: list[Any] = []
        coming = [asked]

        async def receive() -> Any:
            """The request, and then that whoever asked has left: a stream would go on else."""
            return coming.pop() if coming else {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            told.append(message)

        await self._world.identity.asgi(scope, receive, send)
        return told

    async def _live(self) -> None:
        with TemporaryDirectory() as home:
            async with installation(ONE, Path(home), profile="development") as world:
                for loop in world.identity.loops:
                    await loop.stop()
                self._world: World = world
                self._loop, self._end = asyncio.get_running_loop(), asyncio.Event()
                somebody = await log_in(world.identity)
                self.targets = {"account_id": somebody.account.id, **await workload_of(world, caller(somebody))}
                self._up.set()
                await self._end.wait()


def _described(app: Alive) -> Any:
    """The tests are made from the description, so it is needed before there is anything else."""
    with TemporaryDirectory() as home:
        loaded = config.load({"MUELLE_HOME": home, "MUELLE_SECRET_KEY": SECRET_KEY, "MUELLE_PROFILE": "development"})
        described = Application(Parts(loaded)).api.openapi()
    schema = schemathesis.openapi.from_dict(described, config=SchemathesisConfig.from_dict(CONFIG))
    schema.app = app
    return schema


@pytest.fixture(scope="module", autouse=True)
def _alive() -> Iterator[None]:
    ALIVE.start()
    yield
    ALIVE.stop()


ALIVE = Alive()
api = _described(ALIVE)
turns = itertools.count()


@api.parametrize()
@settings(deadline=None, suppress_health_check=list(HealthCheck))
def test_every_answer_is_one_that_the_description_tells_of(case: schemathesis.Case) -> None:
    """Each request as somebody who gets through, and as somebody else: nobody, a client, an administrator in turn."""
    for name, id in ALIVE.targets.items():
        if is_id(str((case.path_parameters or {}).get(name, ""))):
            case.path_parameters[name] = id  # else there would never be such a one
    access = case.operation.definition.raw["x-access"]
    fitting = {"anybody": "", "account": "client", "owner": "client"}.get(access, "admin")
    checks = [check for check in CHECKS if check is not response_schema_conformance] if streams(case) else CHECKS
    for role in dict.fromkeys([fitting, ("", "client", "admin")[next(turns) % 3]]):
        case.validate_response(case.call(headers={AS: role} if role else {}), checks=checks)


def streams(case: schemathesis.Case) -> bool:
    """OpenAPI 3.1 has no words for the shape of a stream: `tests/http/test_streams.py` looks at that."""
    return "text/event-stream" in str(case.operation.definition.raw["responses"])
