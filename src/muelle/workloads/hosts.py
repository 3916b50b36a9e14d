"""Host names of one's own: names beside the one that every workload has, which lead to it.

A name belongs to whoever claims it first; that it leads to this machine is for the name's owner to see to, in the DNS.
Names below the domain of workloads are nobody's to claim: they say whose a workload is.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence

from muelle.kit.db import Transaction
from muelle.kit.errors import Conflict, Invalid
from muelle.kit.http import Caller
from muelle.kit.ids import new_id_at
from muelle.workloads import store
from muelle.workloads.core import Core
from muelle.workloads.model import Workload

MOST_HOSTS = 20
LONGEST_HOST = 253
_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_HOST = re.compile(rf"{_LABEL}(?:\.{_LABEL})*\.[a-z](?:[a-z0-9-]{{0,61}}[a-z0-9])?")


class BadHost(Invalid):
    """ "{host}" cannot be a host name of your own: {reason}."""


class HostTaken(Conflict):
    """The host name "{host}" leads to another workload."""

    hint = "Take it away from that one first; if it is somebody else's, ask an administrator."


class Hosts:
    def __init__(self, core: Core) -> None:
        self._core = core

    async def get(self, caller: Caller, id: str) -> Sequence[str]:
        await self._core.find(caller, id)
        async with self._core.database.reading() as reader:
            return list(await store.hosts_of(reader, id))

    async def set(self, caller: Caller, id: str, wanted: Collection[str]) -> Workload:
        """Exactly these, from now on."""
        names = {self._checked(name) for name in wanted}
        async with self._core.database.transaction() as tx:
            workload = await self._core.lock(tx, caller, id)
            known = await store.hosts_of(tx, id)
            await self._replace(tx, id, known, names)
            await self._core.asked(tx, workload, "given names")
            return await self._core.change(tx, workload)

    async def _replace(self, tx: Transaction, id: str, known: Mapping[str, str], names: Collection[str]) -> None:
        await store.remove_hosts(tx, id, [name for name in known if name not in names])
        fresh = sorted(name for name in names if name not in known)
        taken = await store.add_hosts(tx, id, fresh, new_id_at(self._core.clock.now()))
        if taken:
            raise HostTaken(host=min(taken))

    def _checked(self, name: str) -> str:
        host = name.strip().lower().rstrip(".")
        domain = self._core.apps_domain
        if len(host) > LONGEST_HOST or not _HOST.fullmatch(host):
            raise BadHost(host=name[:80], reason="it has to look like shop.example.com")
        if host == domain or host.endswith(f".{domain}") or host.endswith(".localhost"):
            raise BadHost(host=host, reason="names there are given by Muelle")
        return host
