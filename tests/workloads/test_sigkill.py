"""The real program, killed with SIGKILL in the middle of deploys to a Docker engine, carries on where it was."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from muelle.engines.docker import DockerEngine
from muelle.kit.clock import SystemClock
from muelle.kit.vault import Vault, master_key
from tests.cli.machine import Machine, Running
from tests.world import SECRET_KEY

pytestmark = [pytest.mark.needs("docker"), pytest.mark.timeout(180)]

MOMENTS = 3
SEED = 20
CONVERGES_WITHIN_SECONDS = 30.0
FILE = "def microservicio(request):\n    return {'version': %d}\n"


class Visitor:
    """Somebody who asks the API of whichever process is up."""

    def __init__(self, running: Running) -> None:
        self.running = running
        self.token = str(running.log_in(*running.first_log_in)[1]["access_token"])

    def ask(self, method: str, path: str, body: object = None) -> Any:
        status, answer = self.running.ask(method, f"/api/v1{path}", body, self.token)
        assert status < 400, answer
        return answer


@pytest.fixture
def machine(docker_host: str, tmp_path: Path) -> Iterator[Machine]:
    folder = tmp_path / str(random.SystemRandom().randrange(10**9))
    folder.mkdir()
    key = f"{SECRET_KEY} {folder.name}"
    machine = Machine(
        folder, settings={"MUELLE_ENGINE": "docker", "DOCKER_HOST": docker_host, "MUELLE_SECRET_KEY": key}
    )
    try:
        yield machine
    finally:
        asyncio.run(everything_goes(docker_host, installation_of(machine)))


def installation_of(machine: Machine) -> str:
    key = master_key(machine.settings["MUELLE_SECRET_KEY"], machine.home / "secret.key")
    return Vault(key).mac("installation", b"v1")[:12]


async def everything_goes(docker_host: str, installation: str) -> None:
    engine = DockerEngine(docker_host, installation, SystemClock())
    try:
        for sighting in await engine.observe():
            await engine.remove(sighting.name)
        for image in await engine.images():
            await engine.remove_image(image.id)
        await engine.tidy()
    finally:
        await engine.close()


async def instances(docker_host: str, installation: str) -> list[str]:
    engine = DockerEngine(docker_host, installation, SystemClock())
    try:
        return [sighting.name for sighting in await engine.observe()]
    finally:
        await engine.close()


def soon(condition: Callable[[], bool], seconds: float, told: Callable[[], object]) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, told()
        time.sleep(0.1)


def test_it_carries_on_after_each_kill(machine: Machine, docker_host: str) -> None:
    dice, running = random.Random(SEED), machine.start("up")

    def there() -> list[str]:
        return asyncio.run(instances(docker_host, installation_of(machine)))

    try:
        running.wait_ready()
        ana = Visitor(running)
        made = ana.ask("POST", "/workloads", {"name": "shop", "file": {"name": "app.py", "text": FILE % 0}})
        id = made["workload"]["id"]
        soon(lambda: is_settled(ana, id, 1), 60, lambda: ana.ask("GET", f"/workloads/{id}"))
        for number in range(1, MOMENTS + 1):
            ana.ask("POST", f"/workloads/{id}/deploy", {"file": {"name": "app.py", "text": FILE % number}})
            time.sleep(dice.uniform(0, 6))  # any moment will do: that is the test
            running.end(signal.SIGKILL)
            ana.running = running = machine.start("up")
            running.wait_ready()
            soon(
                lambda number=number: is_settled(ana, id, number + 1),  # type: ignore[misc]
                CONVERGES_WITHIN_SECONDS,
                lambda: (ana.ask("GET", f"/workloads/{id}"), ana.ask("GET", f"/workloads/{id}/releases")),
            )
            only = [f"muelle-{id}-{number + 1}-1"]
            soon(lambda only=only: there() == only, CONVERGES_WITHIN_SECONDS, there)  # type: ignore[misc]
        ana.ask("DELETE", f"/workloads/{id}")
        soon(lambda: not there(), CONVERGES_WITHIN_SECONDS, there)
    finally:
        running.discard()


def is_settled(ana: Visitor, id: str, number: int) -> bool:
    """The newest release serves and all are proven; each deployment has made one release."""
    found, releases = ana.ask("GET", f"/workloads/{id}"), ana.ask("GET", f"/workloads/{id}/releases")
    if (found["phase"], found["serving"], len(releases)) != ("running", number, number):
        return False
    return all(release["verdict"] == "good" for release in releases)
