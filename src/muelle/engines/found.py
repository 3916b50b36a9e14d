"""Which engines this machine offers, as they answer now."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass

import httpx

DEFAULT_SOCKET = "/var/run/docker.sock"
SECONDS = 1.5


@dataclass(frozen=True)
class Found:
    name: str
    works: bool
    detail: str


async def docker() -> Found:
    address = os.environ.get("DOCKER_HOST", f"unix://{DEFAULT_SOCKET}")
    if not address.startswith("unix://"):
        return Found("docker", False, f"at {address}: only a local socket is looked at")
    path = address.removeprefix("unix://")
    if not os.path.exists(path):
        return Found("docker", False, f"no engine at {path}")
    try:
        transport = httpx.AsyncHTTPTransport(uds=path)
        async with httpx.AsyncClient(transport=transport, timeout=SECONDS, base_url="http://docker") as client:
            version = (await client.get("/version")).json()["Version"]
    except (httpx.HTTPError, ValueError, KeyError) as error:
        return Found("docker", False, f"at {path}: {type(error).__name__}")
    return Found("docker", True, f"Docker {version} at {path}")


def local() -> Found:
    bubblewrap = shutil.which("bwrap")
    return Found("local", True, "processes in bubblewrap" if bubblewrap else "plain processes, for one tenant only")


async def best() -> Found:
    """The best that answers: Docker, else processes of this machine."""
    found = await docker()
    return found if found.works else local()
