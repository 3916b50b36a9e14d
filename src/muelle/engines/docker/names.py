"""What this installation calls its things in Docker, and how it knows them again.

Everything bears labels, and is only ever touched when they are ours. Names begin with the installation's, so that two
installations on one machine may use the same names of their own; a caller's name that Docker would not take is
shortened and told apart by a hash.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from typing import Any

INSTALLATION = "muelle.installation"
WORKLOAD = "muelle.workload"
OWNER = "muelle.owner"
NAME = "muelle.name"
BUILD = "muelle.build"
PORT = "muelle.port"

LONGEST_PART = 48
_PLAIN = re.compile(rf"[a-z0-9]([a-z0-9-]{{0,{LONGEST_PART - 2}}}[a-z0-9])?")


class Names:
    def __init__(self, installation: str) -> None:
        self.installation = installation
        self._prefix = plain(installation)

    def container(self, name: str) -> str:
        return f"{self._prefix}_{plain(name)}"

    def network(self, owner: str) -> str:
        return f"muelle_{self._prefix}_{plain(owner)}"

    def volume(self, name: str) -> str:
        return f"muelle_{self._prefix}_{plain(name)}"

    def image(self, build: str) -> tuple[str, str]:
        """Repository and tag. A tagged image outlives the `docker image prune` of somebody who tidies up by hand."""
        return f"muelle/{self._prefix}", plain(build)

    def bridges(self) -> str:
        """What the names of our bridges begin with, and nobody else's: the firewall goes by it."""
        return f"mu{short(self.installation, 5)}"

    def bridge(self, owner: str) -> str:
        """Of 15 characters, which is as long as the kernel has it."""
        return f"{self.bridges()}{short(owner, 8)}"

    def firewall(self) -> str:
        """At most 28 characters, for iptables."""
        return f"MUELLE-{short(self.installation, 12)}"

    def labels(self, **more: str) -> dict[str, str]:
        """The installation's label, and others by the last part of their names."""
        return {INSTALLATION: self.installation, **{f"muelle.{key}": value for key, value in more.items()}}

    def ours(self, labels: Mapping[str, str] | None) -> bool:
        return (labels or {}).get(INSTALLATION) == self.installation

    def filters(self, *labels: str, **more: list[str]) -> dict[str, Any]:
        """For a list of what is ours, and bears those labels (`name` or `name=value`) too."""
        return {"filters": {"label": [f"{INSTALLATION}={self.installation}", *labels], **more}}


def short(text: str, length: int) -> str:
    return base64.b32encode(hashlib.sha256(text.encode()).digest()).decode().lower()[:length]


def plain(text: str) -> str:
    """The same for the same text, another for another, and fit for every name in Docker."""
    if _PLAIN.fullmatch(text):
        return text
    digest = hashlib.sha256(text.encode()).hexdigest()[:12]
    return f"{re.sub(r'[^a-z0-9]+', '-', text.lower())[: LONGEST_PART - 14].strip('-')}.{digest}".lstrip(".")
