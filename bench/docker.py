"""Docker, as somebody uses it by hand: the peer of what Muelle does with it. Whatever was made by it goes away."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from bench.program import ProgramFailed
from tests.servers import finding

PATIENCE_SECONDS = 300.0


def lack() -> str:
    """What is missing on this machine, or nothing."""
    if missing := finding.lack("docker"):
        return missing
    return "" if shutil.which("docker") else "needs the docker command line"


def address() -> str:
    found = finding.KINDS["docker"].found()
    assert found is not None, "asked for only where there is one"
    return found


class Docker:
    """From `with` to the end of the block. Its images and containers have names that nobody else uses."""

    def __init__(self) -> None:
        self.name = f"muelle-bench-{secrets.token_hex(4)}"
        self._images: list[str] = []
        self._containers: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        for container in list(self._containers):
            with suppress(ProgramFailed):
                self.remove(container)
        for image in self._images:
            with suppress(ProgramFailed):
                self._say("image", "rm", "--force", image)

    def build(self, folder: Path, tag: str) -> str:
        """The reference of what the folder's Dockerfile makes."""
        reference = f"{self.name}:{tag}"
        if reference not in self._images:
            self._images.append(reference)
        self._say("build", "--quiet", "--tag", reference, str(folder))
        return reference

    def run(self, image: str, port: int, *options: str) -> str:
        """Starts a container that is reached at this port of the machine's; returns its name."""
        container = f"{self.name}-{secrets.token_hex(4)}"
        self._containers.append(container)
        published = f"127.0.0.1:{port}:8000"
        self._say("run", "--detach", "--name", container, "--publish", published, *options, image)
        return container

    def remove(self, container: str) -> None:
        self._say("rm", "--force", "--volumes", container)
        self._containers.remove(container)

    def _say(self, *words: str) -> str:
        environment = {**os.environ, "DOCKER_HOST": address()}
        command = [shutil.which("docker") or "docker", *words]
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False
        )
        if done.returncode:
            raise ProgramFailed(f"docker {words[0]} ended with {done.returncode}: {done.stderr.strip()[-500:]}")
        return done.stdout.strip()
