"""What one installation has in a pretended world."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from muelle.engines.fake.instance import Instance
from muelle.engines.protocol import Image, KeptImage, Mount, Volume
from muelle.kit.errors import Conflict


@dataclass
class KeptVolume:
    owner: str
    counts: dict[str, int] = field(default_factory=dict)
    """What programs have written there: how often they were started, by path."""


class VolumeInUse(Conflict):
    """The volume "{name}" belongs to the instance "{instance}"."""

    hint = "Remove the instance first."


class Estate:
    def __init__(self) -> None:
        self.instances: dict[str, Instance] = {}
        self.volumes: dict[str, KeptVolume] = {}
        self.built: dict[str, KeptImage] = {}
        self.networks: set[str] = set()
        """By owner."""
        self._of_workload: dict[str, tuple[Instance, ...]] = {}

    def of(self, workload: str) -> tuple[Instance, ...]:
        """All, or those of a workload."""
        return self._of_workload.get(workload, ()) if workload else tuple(self.instances.values())

    def add(self, instance: Instance) -> None:
        order = instance.order
        self.instances[order.name] = instance
        self._of_workload[order.workload] = (*self.of(order.workload), instance) if order.workload else ()
        self.networks.add(order.owner)
        for mount in order.mounts:
            self.volumes.setdefault(mount.volume, KeptVolume(order.owner))

    def drop(self, instance: Instance) -> None:
        del self.instances[instance.order.name]
        workload = instance.order.workload
        others = tuple(other for other in self._of_workload.pop(workload, ()) if other is not instance)
        if others:
            self._of_workload[workload] = others

    def drop_volume(self, name: str) -> None:
        for instance in self.instances.values():
            if any(mount.volume == name for mount in instance.order.mounts):
                raise VolumeInUse(name=name, instance=instance.order.name)
        self.volumes.pop(name, None)

    def told_volumes(self) -> list[Volume]:
        return [Volume(name, volume.owner) for name, volume in sorted(self.volumes.items())]

    def keep_built(self, image: Image, build: str, at: datetime) -> None:
        self.built[image.id] = KeptImage(image.id, build, image.size_bytes, at)

    def uses(self, image: str) -> bool:
        return any(instance.order.image == image for instance in self.instances.values())

    def tidy(self) -> None:
        self.networks &= {instance.order.owner for instance in self.instances.values()}

    def volume_at(self, mounts: tuple[Mount, ...], path: str) -> KeptVolume | None:
        """The volume in which that path lies."""
        found = [mount for mount in mounts if path.startswith(mount.path.rstrip("/") + "/")]
        return self.volumes.get(max(found, key=lambda mount: len(mount.path)).volume) if found else None
