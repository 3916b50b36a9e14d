"""Volumes: named, labelled, and never anybody else's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from muelle.engines.docker import names
from muelle.engines.docker.daemon import Daemon, Refused, within
from muelle.engines.docker.names import Names
from muelle.engines.protocol import InstanceRefused, Mount, Volume
from muelle.kit.errors import Conflict


class VolumeInUse(Conflict):
    """The volume "{name}" is in use."""

    hint = "Remove what has it mounted first."


class Volumes:
    def __init__(self, daemon: Daemon, ours: Names) -> None:
        self._daemon = daemon
        self._names = ours

    async def make(self, mounts: Sequence[Mount], owner: str) -> None:
        for mount in mounts:
            asked = {
                "Name": self._names.volume(mount.volume),
                "Driver": "local",
                "Labels": self._names.labels(owner=owner, name=mount.volume),
            }
            made = await self._daemon.ask("make a volume", "POST", "volumes/create", body=asked)
            if not self._names.ours(made.get("Labels")):  # Docker answers with one of that name that is there
                raise InstanceRefused(reason=f"the volume {mount.volume} is not ours")

    async def all(self) -> Sequence[Volume]:
        listed = await self._daemon.ask("list its volumes", "GET", "volumes", params=self._names.filters(names.NAME))
        return [_volume(volume["Labels"]) for volume in listed["Volumes"] or []]

    async def remove(self, name: str) -> None:
        path = f"volumes/{within(self._names.volume(name))}"
        try:
            found = await self._daemon.ask("look at a volume", "GET", path)
            if self._names.ours(found.get("Labels")):
                await self._daemon.ask("remove a volume", "DELETE", path)
        except Refused as refused:
            if refused.status == 409:
                raise VolumeInUse(name=name) from None
            if refused.status != 404:
                raise


def _volume(labels: dict[str, Any]) -> Volume:
    return Volume(labels[names.NAME], labels.get(names.OWNER, ""))
