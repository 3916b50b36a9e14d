"""From what Docker tells of a container to what is seen of an instance. Pure."""

from __future__ import annotations

import re
from typing import Any

from muelle.engines.docker import names
from muelle.engines.docker.streams import moment
from muelle.engines.protocol import Address, Condition, Sighting

_RUNNING = {"running", "paused", "restarting"}
COULD_NOT_RUN = {126, 127}
"""By convention: there is such a program, but it cannot be run; there is none."""


def sighting(details: dict[str, Any], network: str) -> Sighting:
    """`details` as the engine inspects them; `network` is where this machine reaches the container."""
    labels, state = details["Config"]["Labels"], details["State"]
    condition = condition_of(state)
    ended = condition is Condition.EXITED
    return Sighting(
        name=labels[names.NAME],
        workload=labels.get(names.WORKLOAD, ""),
        condition=condition,
        address=address(details, network) if condition is Condition.RUNNING else None,
        started_at=moment(state["StartedAt"]),
        ended_at=moment(state["FinishedAt"]) if ended else None,
        exit_code=state["ExitCode"] if ended else None,
        out_of_memory=ended and bool(state["OOMKilled"]),
        reason=brief(state["Error"]) if ended else "",
    )


def condition_of(state: dict[str, Any]) -> Condition:
    if state["Status"] in _RUNNING:
        return Condition.RUNNING
    if state["Status"] == "created" and not state["Error"] and not state["ExitCode"]:
        return Condition.CREATED
    return Condition.EXITED  # one that could not be started stays "created" in Docker's words, with an error


def address(details: dict[str, Any], network: str) -> Address | None:
    port = int(details["Config"]["Labels"].get(names.PORT, "0"))
    there = details["NetworkSettings"]["Networks"].get(network) or {}
    host = there.get("IPAddress", "")
    return Address(host, port) if host and port else None


def brief(error: str) -> str:
    """The cause, without the chain of programs that passed it on.

    >>> brief('OCI runtime create failed: runc create failed: unable to start container process: exec: "x": not found')
    'exec: "x": not found'
    """
    text = error.strip().removesuffix(": unknown")
    return re.sub(r"^.*(?:unable to start container process|starting container process caused)[^:]*: ", "", text)
