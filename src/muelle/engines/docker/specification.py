"""From an order to what Docker is asked for: a container that can do nothing beyond its own program. Pure.

There is no way in here to a privileged container, a host's folder, network or process: none of it is ever asked for,
and nothing of an order goes into a field that could.
"""

from __future__ import annotations

import re
from typing import Any

from muelle.engines.docker.names import Names
from muelle.engines.protocol import InstanceRefused, Limits, Order

CAPABILITIES = (
    # What the usual images' start needs: as root, hand a data folder to the program's own user, then become that user.
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "SETGID",
    "SETUID",
    # A supervisor that is root ends children that are not.
    "KILL",
    # Port 80 for a user that is not root.
    "NET_BIND_SERVICE",
)
PERIOD_MICROS = 100_000
LEAST_QUOTA_MICROS = 1_000
"""The kernel takes no less."""
LOG_BYTES = 10 * 2**20
LOG_FILES = 2
FIRST_TO_GO = 500
"""When the machine itself is out of memory, a tenant's program is ended before anything of ours (-1000 to 1000)."""
LONGEST_HOST_NAME = 63
LONGEST_COMMAND_BYTES = 128 * 1024

_HOST_NAME = re.compile(r"[a-zA-Z0-9]([a-zA-Z0-9.-]*[a-zA-Z0-9])?")


def specification(order: Order, names: Names) -> dict[str, Any]:
    """Raises InstanceRefused."""
    network = names.network(order.owner)
    asked: dict[str, Any] = {
        "Image": order.image,
        "Env": environment(order),
        "Labels": labels(order, names),
        "HostConfig": host_config(order, names, network),
        "NetworkingConfig": {"EndpointsConfig": {network: {"Aliases": list(order.aliases)}}},
    }
    if order.command:
        asked["Cmd"] = _command(order)
    if order.aliases and len(order.aliases[0]) <= LONGEST_HOST_NAME and _HOST_NAME.fullmatch(order.aliases[0]):
        asked["Hostname"] = order.aliases[0]
    return asked


def labels(order: Order, names: Names) -> dict[str, str]:
    return names.labels(workload=order.workload, owner=order.owner, name=order.name, port=str(order.port))


def environment(order: Order) -> list[str]:
    given = dict(order.environment)
    if order.port:
        given["PORT"] = str(order.port)
    for name, value in given.items():
        if not name or "=" in name or not name.isprintable():
            raise InstanceRefused(reason=f"{name!r} is no name of an environment variable")
        if "\0" in value:
            raise InstanceRefused(reason=f"the environment variable {name} has a zero byte in it")
    return [f"{name}={value}" for name, value in given.items()]


def _command(order: Order) -> list[str]:
    if any("\0" in word for word in order.command):
        raise InstanceRefused(reason="the command has a zero byte in it")
    if sum(len(word.encode(errors="surrogateescape")) for word in order.command) > LONGEST_COMMAND_BYTES:
        raise InstanceRefused(reason=f"the command is longer than {LONGEST_COMMAND_BYTES} bytes")
    return list(order.command)


def host_config(order: Order, names: Names, network: str) -> dict[str, Any]:
    return {
        **bounds(order.limits),
        "NetworkMode": network,
        "Mounts": [
            {"Type": "volume", "Source": names.volume(mount.volume), "Target": mount.path} for mount in order.mounts
        ],
        "CapDrop": ["ALL"],
        "CapAdd": list(CAPABILITIES),
        "SecurityOpt": ["no-new-privileges:true"],
        "Privileged": False,
        "IpcMode": "private",
        "Init": True,  # reaps what the program leaves behind, and passes signals on
        "RestartPolicy": {"Name": "no"},  # who restarts is Muelle: it knows why, and says so
        "LogConfig": {
            "Type": "json-file",
            "Config": {"max-size": str(LOG_BYTES), "max-file": str(LOG_FILES)},
        },
        "OomScoreAdj": FIRST_TO_GO,
        # A crash must not fill the disk. Open files are left as the daemon has them: it may not be able to raise them.
        "Ulimits": [{"Name": "core", "Soft": 0, "Hard": 0}],
    }


def bounds(limits: Limits) -> dict[str, int]:
    """Memory without swap beside it. A quota rather than `NanoCpus`, which refuses more than the machine has."""
    return {
        "Memory": limits.memory_bytes,
        "MemorySwap": limits.memory_bytes,
        "CpuPeriod": PERIOD_MICROS,
        "CpuQuota": quota(limits),
        "PidsLimit": limits.pids,
    }


def quota(limits: Limits) -> int:
    return max(limits.cpu_millis * PERIOD_MICROS // 1000, LEAST_QUOTA_MICROS)
