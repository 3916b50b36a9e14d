"""Instances on disk: a folder each, that is there as a whole or not at all.

`order.json` says what it is, and never changes but for its port; `state.json`, written by the keeper, says how its
latest run goes. Folders that begin with a dot are being made.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from muelle.engines.local import files, trees
from muelle.engines.local.kept import State
from muelle.engines.local.ports import LOOPBACK
from muelle.engines.local.sandbox import APP, RESERVED
from muelle.engines.protocol import Address, Condition, InstanceRefused, Limits, Mount, NoSuchInstance, Order, Sighting

ORDER_FILE = "order.json"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
INSTALLED = ("node_modules", "vendor")
"""What steps have installed at the top of a source is not copied for each instance: it is led to the image's."""
ENVIRONMENT_BYTES = 2**20
"""Much less than the kernel takes for a new program's words and environment together."""


@dataclass(frozen=True)
class Instance:
    order: Order
    port: int
    """Ours; 0 where it has none."""
    folder: Path
    state: State | None
    """None: it was never started."""

    @property
    def condition(self) -> Condition:
        if self.state is None:
            return Condition.CREATED
        return Condition.EXITED if self.state.ended_at else Condition.RUNNING

    @property
    def in_doubt(self) -> bool:
        """Said to run, and gone: its end is not written down yet, or nobody was there to see it."""
        return self.state is not None and not self.state.ended_at and not self.state.identity.alive

    @property
    def sighting(self) -> Sighting:
        state = self.state or State(self.order.workload)
        listens = self.port and self.condition is Condition.RUNNING
        return Sighting(
            self.order.name,
            self.order.workload,
            self.condition,
            Address(LOOPBACK, self.port) if listens else None,
            moment(state.started_at),
            moment(state.ended_at),
            state.exit_code,
            state.out_of_memory,
            state.reason,
        )


class Instances:
    def __init__(self, folder: Path, trash: Path) -> None:
        self._folder = folder
        self._trash = trash

    def folder(self, name: str) -> Path:
        return self._folder / name

    def find(self, name: str) -> Instance:
        """Raises NoSuchInstance."""
        found = self._read(self._folder / name) if NAME.fullmatch(name) else None
        if found is None:
            raise NoSuchInstance(name=name)
        return found

    def has(self, name: str) -> bool:
        """A folder without an order is what a power cut has left: it is cleared for another."""
        if self._read(self._folder / name) is not None:
            return True
        files.put_away(self._folder / name, self._trash)
        return False

    def all(self) -> list[Instance]:
        found = (self._read(self._folder / name) for name in sorted(os.listdir(self._folder)) if name[0] != ".")
        return [instance for instance in found if instance]

    def make(self, order: Order, port: int, source: Path | None) -> None:
        """With a copy of the image's source, or without, where it only serves it."""
        fresh = files.fresh_folder(self._folder, order.name)
        for name in ("home", "tmp", "app"):
            (fresh / name).mkdir(mode=files.OWN_FOLDER_MODE)
        if source:
            trees.merge(source, fresh / "app", trees.copied, skip=INSTALLED)
            for name in INSTALLED:
                if (source / name).is_dir():
                    (fresh / "app" / name).symlink_to(source / name)
        files.write_json(fresh / ORDER_FILE, {"order": asdict(order), "port": port})
        files.publish(fresh, order.name, self._trash)

    def move_to_port(self, instance: Instance, port: int) -> Instance:
        files.write_json(instance.folder / ORDER_FILE, {"order": asdict(instance.order), "port": port})
        return replace(instance, port=port)

    def remove(self, name: str) -> None:
        files.put_away(self._folder / name, self._trash)

    def half_made(self) -> list[Path]:
        return files.half_made(self._folder)

    def _read(self, folder: Path) -> Instance | None:
        value = files.read_json(folder / ORDER_FILE)
        if value is None:
            return None
        return Instance(_order(value["order"]), value["port"], folder, State.read(folder))


def check(order: Order) -> None:
    """Refuses what no program can be started with. Raises InstanceRefused."""
    if not NAME.fullmatch(order.name):
        raise InstanceRefused(reason=f'"{order.name}" cannot be a name: letters, digits, dots, dashes, at most 128')
    for name, value in order.environment.items():
        if not name or "=" in name or "\0" in name + value or "\n" in name:
            raise InstanceRefused(reason=f"the environment's {name!r} has characters that no variable can have")
    if sum(len(name) + len(value) for name, value in order.environment.items()) > ENVIRONMENT_BYTES:
        raise InstanceRefused(reason=f"the environment has more than {ENVIRONMENT_BYTES} characters")
    if any("\0" in word for word in order.command):
        raise InstanceRefused(reason="the command has a null byte in it")
    for mount in order.mounts:
        _check_mount(mount)


def _check_mount(mount: Mount) -> None:
    if not NAME.fullmatch(mount.volume):
        raise InstanceRefused(reason=f'"{mount.volume}" cannot be a volume\'s name')
    path = os.path.normpath(mount.path)
    reserved = any(path == place or path.startswith(f"{place}/") for place in RESERVED)
    if path != mount.path.rstrip("/") or not path.startswith("/") or (reserved and not path.startswith(f"{APP}/")):
        raise InstanceRefused(reason=f'a volume cannot be at "{mount.path}"')


def moment(micros: int) -> datetime | None:
    return datetime.fromtimestamp(micros / 1_000_000, UTC) if micros else None


def _order(value: Mapping[str, Any]) -> Order:
    return Order(
        **{
            **value,
            "command": tuple(value["command"]),
            "limits": Limits(**value["limits"]),
            "mounts": tuple(Mount(**mount) for mount in value["mounts"]),
            "aliases": tuple(value["aliases"]),
        }
    )
