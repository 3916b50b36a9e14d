"""Which engines this machine offers, as they answer now."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass

import httpx

from muelle.kit.hosts import user_here

DEFAULT_SOCKET = "/var/run/docker.sock"
SECONDS = 1.5


@dataclass(frozen=True)
class Found:
    name: str
    works: bool
    detail: str


def docker_address() -> str:
    return os.environ.get("DOCKER_HOST") or f"unix://{DEFAULT_SOCKET}"


def chosen(setting: str) -> str:
    """The engine that a setting means. `auto` is Docker where its socket may be opened: whether it answers in this very
    moment does not decide what workloads run on."""
    if setting != "auto":
        return setting
    address = docker_address()
    there = address.startswith("unix://") and not _hindrance(address.removeprefix("unix://"))
    return "docker" if there else "local"


async def docker() -> Found:
    address = docker_address()
    if not address.startswith("unix://"):
        return Found("docker", False, f"at {address}: only a local socket is looked at")
    path = address.removeprefix("unix://")
    if hindrance := _hindrance(path):
        return Found("docker", False, hindrance)
    try:
        transport = httpx.AsyncHTTPTransport(uds=path)
        async with httpx.AsyncClient(transport=transport, timeout=SECONDS, base_url="http://docker") as client:
            version = (await client.get("/version")).json()["Version"]
    except httpx.HTTPError as error:
        return Found("docker", False, f"{path} does not answer ({type(error).__name__})")
    except (ValueError, KeyError, TypeError):
        return Found("docker", False, f"what answers at {path} is no Docker engine")
    return Found("docker", True, f"Docker {version} at {path}")


def _hindrance(path: str) -> str:
    """What is in the way of even asking."""
    if not os.path.exists(path):
        return f"no engine at {path}"
    return "" if os.access(path, os.R_OK | os.W_OK) else f"{path} may not be opened by {user_here()}"


def local() -> Found:
    bubblewrap = shutil.which("bwrap")
    return Found("local", True, "processes in bubblewrap" if bubblewrap else "plain processes, for one tenant only")


async def best() -> Found:
    """The best that answers: Docker, else processes of this machine."""
    found = await docker()
    return found if found.works else local()
