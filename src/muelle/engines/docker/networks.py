"""A bridge network for each owner: who shares an owner reaches the other by name, and nobody else.

Docker does not let one bridge talk to another. A network is made when the first instance or build needs it, and given
back by `tidy` when nothing needs it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import IPv4Network
from typing import Any

from muelle.engines.docker.daemon import NAME, Daemon, Refused, within
from muelle.engines.docker.firewall import Firewall
from muelle.engines.docker.names import Names
from muelle.engines.docker.subnets import free, routed_here
from muelle.engines.protocol import EngineFailed

TURN_SECONDS = 30.0
TRIES = 64
"""At finding a subnet that Docker will have, after leaving out all that are known to be taken."""


class Networks:
    def __init__(self, daemon: Daemon, ours: Names, whole: IPv4Network, firewall: Firewall) -> None:
        self._daemon = daemon
        self._names = ours
        self._range = whole
        self._firewall = firewall
        self._making = asyncio.Lock()
        self._known: set[str] = set()
        self._held: dict[str, int] = {}

    async def of(self, owner: str, *, anew: bool = False) -> str:
        """The name of the owner's network, made if it is not there. `anew`: one that was known has been taken away."""
        name = self._names.network(owner)
        if anew or name not in self._known:
            async with self._turn():
                if not await self._there(name):
                    await self._firewall.stand()
                    await self._make(name, owner)
                await self._settle(name)
                self._known.add(name)
        return name

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        """One of us at a time. Behind a daemon that hangs, nobody waits for all who came before."""
        with self._daemon.reachable():
            async with asyncio.timeout(TURN_SECONDS):
                await self._making.acquire()
        try:
            yield
        finally:
            self._making.release()

    @asynccontextmanager
    async def held(self, owner: str) -> AsyncIterator[str]:
        """Keeps the network, which between two steps of a build has nobody in it, from being tidied away."""
        name = self._names.network(owner)
        self._held[name] = self._held.get(name, 0) + 1
        try:
            yield await self.of(owner)
        finally:
            self._held[name] -= 1
            if not self._held[name]:
                del self._held[name]

    async def _there(self, name: str) -> bool:
        return any(network["Name"] == name for network in await self._ours())

    async def _ours(self) -> list[dict[str, Any]]:
        listed: list[dict[str, Any]] = await self._daemon.ask(
            "list its networks", "GET", "networks", params=self._names.filters()
        )
        return listed

    async def _make(self, name: str, owner: str) -> None:
        listed = await self._daemon.ask("list its networks", "GET", "networks")
        taken = [*_subnets(listed), *await asyncio.to_thread(routed_here)]
        for _, subnet in zip(range(TRIES), free(self._range, taken, name), strict=False):
            if await self._made(name, owner, subnet):
                return
        raise EngineFailed(engine=NAME, what="make a network", reason=f"no free part of {self._range} was found")

    async def _made(self, name: str, owner: str, subnet: IPv4Network) -> bool:
        """Whether it is there now; not if somebody else was given the subnet in between."""
        asked = {
            "Name": name,
            "CheckDuplicate": True,
            "Driver": "bridge",
            "Options": {"com.docker.network.bridge.name": self._names.bridge(owner)},
            "IPAM": {"Config": [{"Subnet": str(subnet), "Gateway": str(subnet[1])}]},
            "Labels": self._names.labels(owner=owner),
        }
        try:
            await self._daemon.ask("make a network", "POST", "networks/create", body=asked)
        except Refused as refused:
            if await self._there(name):
                return True  # another process of ours was quicker
            if "overlap" in refused.reason.lower():
                return False
            raise
        return True

    async def _settle(self, name: str) -> None:
        """Docker lets two processes make a network of one name at once, and then knows neither by its name. All of
        us keep the elder."""
        same = [network for network in await self._ours() if network["Name"] == name]
        for network in sorted(same, key=lambda network: (network["Created"], network["Id"]))[1:]:
            await self._remove(network["Id"])

    async def tidy(self, in_use: set[str]) -> None:
        """Gives back those that no instance, not even a stopped one, is made for.

        Where another process of ours was about to use one, it will find that out, and make it again.
        """
        async with self._turn():
            for network in await self._ours():
                if network["Name"] not in in_use and network["Name"] not in self._held:
                    self._known.discard(network["Name"])
                    await self._remove(network["Id"])
            if not await self._ours():
                await self._firewall.fall()
            if await self._ours():  # another process was about to make one
                await self._firewall.stand()

    async def _remove(self, id: str) -> None:
        try:
            await self._daemon.ask("remove a network", "DELETE", f"networks/{within(id)}")
        except Refused as refused:
            if refused.status not in {403, 404, 409}:  # it is in use, or gone
                raise


def _subnets(listed: list[dict[str, Any]]) -> list[IPv4Network]:
    """What Docker's networks have taken, of any driver and owner."""
    parts = (part for network in listed for part in (network.get("IPAM") or {}).get("Config") or [])
    texts = (part.get("Subnet", "") for part in parts)
    return [IPv4Network(text, strict=False) for text in texts if text and ":" not in text]
