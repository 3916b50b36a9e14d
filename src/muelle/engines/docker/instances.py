"""Containers: made, started, stopped, removed, looked at."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

from muelle.engines.docker import names
from muelle.engines.docker.daemon import NAME, Daemon, Refused, within
from muelle.engines.docker.names import Names
from muelle.engines.docker.networks import Networks
from muelle.engines.docker.sightings import COULD_NOT_RUN, sighting
from muelle.engines.docker.specification import specification
from muelle.engines.docker.streams import Frames, moment
from muelle.engines.docker.volumes import Volumes
from muelle.engines.protocol import (
    Condition,
    EngineFailed,
    ImageMissing,
    InstanceNotRunning,
    InstanceRefused,
    NoSuchInstance,
    Order,
    Sighting,
    Usage,
)

LOOKS_AT_ONCE = 16
"""Containers inspected at the same time, by one look at all of them."""
START_SECONDS = 60.0
END_SECONDS = 30.0
"""For the daemon to end and clear away a container, on top of the time that its program was given."""
STILLBORN = timedelta(seconds=2)
"""What has lived no longer, and ended as a command does that is not there, never began."""
LOOK_AGAIN_SECONDS = 0.05
LAST_WORDS = 5
_INIT = "[FATAL tini"


class Instances:
    def __init__(self, daemon: Daemon, ours: Names, networks: Networks, volumes: Volumes) -> None:
        self._daemon = daemon
        self._names = ours
        self._networks = networks
        self._volumes = volumes

    async def observe(self, workload: str) -> Sequence[Sighting]:
        chosen = (f"{names.WORKLOAD}={workload}",) if workload else ()
        turns = asyncio.Semaphore(LOOKS_AT_ONCE)

        async def look(id: str) -> Sighting | None:
            async with turns:
                return await self._look(id)

        listed = await self.listed(*chosen)
        seen = await asyncio.gather(*(look(container["Id"]) for container in listed))
        return [one for one in seen if one is not None]

    async def listed(self, *labels: str) -> list[dict[str, Any]]:
        params = {"all": True, **self._names.filters(names.NAME, *labels)}
        containers: list[dict[str, Any]] = await self._daemon.ask(
            "list its containers", "GET", "containers/json", params=params
        )
        return [container for container in containers if self._named(container)]

    def _named(self, container: dict[str, Any]) -> bool:
        """A label alone proves little: a Dockerfile may set what it likes, and a build's containers inherit it."""
        return f"/{self._names.container(container['Labels'][names.NAME])}" in container["Names"]

    async def _look(self, id: str) -> Sighting | None:
        """Nothing, if it went away between the list and the look."""
        try:
            details = await self._daemon.ask("look at a container", "GET", f"containers/{within(id)}/json")
        except Refused as refused:
            if refused.status == 404:
                return None
            raise
        seen = sighting(details, self._network(details))
        if _stillborn(seen):
            return replace(seen, reason=await self._last_words(id))
        return seen

    async def _last_words(self, id: str) -> str:
        """Since a small init starts the program, it is the one who knows that there is none: it says so in the log."""
        params = {"stderr": True, "tail": LAST_WORDS}
        try:
            async with self._daemon.stream(
                "read a log", "GET", f"containers/{within(id)}/logs", params=params
            ) as chunks:
                frames = Frames()
                said = [payload.decode(errors="replace") async for chunk in chunks for _, payload in frames.feed(chunk)]
        except Refused:
            return ""
        lines = [line for line in said if line.startswith(_INIT)]
        return lines[-1].partition("] ")[2].strip() if lines else ""

    async def create(self, order: Order) -> None:
        asked = specification(order, self._names)
        await self._networks.of(order.owner)
        await self._volumes.make(order.mounts, order.owner)
        params = {"name": self._names.container(order.name)}
        try:
            await self._daemon.ask("make a container", "POST", "containers/create", params=params, body=asked)
        except Refused as refused:
            await self._explain(refused, order)

    async def _explain(self, refused: Refused, order: Order) -> None:
        """Why it could not be made; one of that name that is ours is no reason."""
        if refused.status == 409 and await self._find(order.name) is not None:
            return
        if refused.status == 404 and "no such image" in refused.reason.lower():
            raise ImageMissing(reference=order.image, reason="it is not here any more") from None
        if refused.status < 500 or "invalid" in refused.reason:
            raise InstanceRefused(reason=refused.reason) from None
        raise refused

    async def start(self, name: str) -> None:
        found = await self._mine(name)
        try:
            await self._start(found["Id"])
        except Refused as refused:
            if not await self._mended(found, refused):
                await self._admit(name, refused)

    async def _start(self, id: str) -> None:
        path = f"containers/{within(id)}/start"
        await self._daemon.ask("start a container", "POST", path, seconds=START_SECONDS)

    async def _mended(self, found: dict[str, Any], refused: Refused) -> bool:
        """A network that was taken away in the meantime is made anew, and of two of one name the younger is taken
        away: neither is the program's fault."""
        owner = found["Config"]["Labels"].get(names.OWNER, "")
        name = self._names.network(owner)
        if name not in refused.reason or not any(word in refused.reason for word in ("not found", "ambiguous")):
            return False
        await self._networks.of(owner, anew=True)
        try:
            await self._start(found["Id"])
        except Refused:
            return False
        return True

    async def _admit(self, name: str, refused: Refused) -> None:
        """What cannot be started is seen as ended, with the reason; anything else is the engine's own failure."""
        found = await self._mine(name)
        if not found["State"]["Error"] and not found["State"]["Running"]:
            raise refused

    async def stop(self, name: str, seconds: float) -> None:
        patience = max(seconds, 0.0) + END_SECONDS
        await self._end("stop a container", "POST", name, "/stop", {"t": math.ceil(max(seconds, 0.0))}, patience)

    async def remove(self, name: str) -> None:
        await self._end("remove a container", "DELETE", name, "", {"force": True, "v": True}, END_SECONDS)
        await self._gone(name)

    async def _end(
        self, what: str, method: str, name: str, verb: str, params: Mapping[str, Any], seconds: float
    ) -> None:
        """That it is gone, or going, is as well."""
        found = await self._find(name)
        if found is None:
            return
        path = f"containers/{within(found['Id'])}{verb}"
        try:
            await self._daemon.ask(what, method, path, params=params, seconds=seconds)
        except Refused as refused:
            if refused.status != 404 and "already in progress" not in refused.reason:
                raise

    async def _gone(self, name: str) -> None:
        """Of two who remove at once, Docker tells the second that it is under way: it has to wait for the first."""
        try:
            async with asyncio.timeout(END_SECONDS):
                while await self._find(name) is not None:  # noqa: ASYNC110 - nobody here could set an event
                    await asyncio.sleep(LOOK_AGAIN_SECONDS)
        except TimeoutError:
            reason = f"it is still there after {END_SECONDS:.0f} seconds"
            raise EngineFailed(engine=NAME, what="remove a container", reason=reason) from None

    async def usage(self, name: str) -> Usage:
        path = f"containers/{within(self._names.container(name))}/stats"
        try:
            stats = await self._daemon.ask(
                "measure a container", "GET", path, params={"stream": False, "one-shot": True}
            )
        except Refused as refused:
            if refused.status == 404:
                raise NoSuchInstance(name=name) from None
            raise
        at = moment(stats["read"])
        if at is None or not stats["memory_stats"].get("usage"):
            await self.running(name)
            raise InstanceNotRunning(name=name)
        networks = (stats.get("networks") or {}).values()
        return Usage(
            at=at,
            cpu_micros=stats["cpu_stats"]["cpu_usage"]["total_usage"] // 1000,
            memory_bytes=_memory(stats["memory_stats"]),
            received_bytes=sum(network["rx_bytes"] for network in networks),
            sent_bytes=sum(network["tx_bytes"] for network in networks),
        )

    async def running(self, name: str) -> dict[str, Any]:
        """Raises NoSuchInstance, InstanceNotRunning."""
        found = await self._mine(name)
        if sighting(found, self._network(found)).condition is not Condition.RUNNING:
            raise InstanceNotRunning(name=name)
        return found

    async def _mine(self, name: str) -> dict[str, Any]:
        found = await self._find(name)
        if found is None:
            raise NoSuchInstance(name=name)
        return found

    async def _find(self, name: str) -> dict[str, Any] | None:
        """It, if it is there and ours."""
        path = f"containers/{within(self._names.container(name))}/json"
        try:
            found: dict[str, Any] = await self._daemon.ask("look at a container", "GET", path)
        except Refused as refused:
            if refused.status == 404:
                return None
            raise
        return found if self._names.ours(found["Config"]["Labels"]) else None

    def _network(self, details: dict[str, Any]) -> str:
        return self._names.network(details["Config"]["Labels"].get(names.OWNER, ""))


def _stillborn(seen: Sighting) -> bool:
    if seen.exit_code not in COULD_NOT_RUN or seen.reason or seen.started_at is None or seen.ended_at is None:
        return False
    return seen.ended_at - seen.started_at < STILLBORN


def _memory(stats: dict[str, Any]) -> int:
    """What it holds, without the files that the kernel keeps in memory for it and can let go (cgroup v1 and v2)."""
    details = stats.get("stats") or {}
    spare = details.get("total_inactive_file", details.get("inactive_file", 0))
    return max(int(stats["usage"]) - int(spare), 0)
