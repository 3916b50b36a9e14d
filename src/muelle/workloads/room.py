"""Puts the workloads room together from what the application hands in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from muelle.engines.protocol import Engine
from muelle.kit.bus import Consumer, Subscription
from muelle.kit.clock import Clock
from muelle.kit.db.migrations import Line
from muelle.kit.loops import Lease
from muelle.kit.room import Furniture, Room
from muelle.kit.vault import Vault
from muelle.workloads import http
from muelle.workloads.builder import Builder, BuildRules
from muelle.workloads.core import Core, Wakers
from muelle.workloads.deploying import Deploying
from muelle.workloads.executing import Executing
from muelle.workloads.following import Following
from muelle.workloads.hosts import Hosts
from muelle.workloads.housekeeping import Housekeeping
from muelle.workloads.http.metrics import ShownMetrics
from muelle.workloads.http.shapes import ShownWorkload
from muelle.workloads.live import Live
from muelle.workloads.logbook import Collector, LogBook
from muelle.workloads.looking import Looking
from muelle.workloads.materials import Materials
from muelle.workloads.metrics import Metrics
from muelle.workloads.owners import Owners
from muelle.workloads.plan import Policy
from muelle.workloads.quotas import Quotas
from muelle.workloads.reconciler import Reconciler
from muelle.workloads.scribe import Scribe
from muelle.workloads.store import Box
from muelle.workloads.uploads import Uploads
from muelle.workloads.verbs import Verbs
from muelle.workloads.wishes import Wishes

NAME = "workloads"
MIGRATIONS = Line(NAME, Path(__file__).parent / "migrations")
OWNERS = Subscription("workloads.owners", frozenset({"AccountChanged"}))
SUBSCRIPTIONS = (OWNERS,)


@dataclass(frozen=True)
class Rules:
    """What the settings say about workloads."""

    home: Path
    apps_domain: str
    apps_port: int
    apps_url: str = ""
    git_private_hosts: tuple[str, ...] = ()
    trusted: str = ""
    """Certificates (PEM) that are trusted beside the usual ones, by fetching and by builds."""
    build_environment: Mapping[str, str] = field(default_factory=dict)
    policy: Policy = field(default_factory=Policy)

    @property
    def address(self) -> tuple[str, str]:
        """Scheme and port of the addresses that people are shown."""
        parts = urlsplit(self.apps_url)
        if self.apps_url:
            return parts.scheme, f":{parts.port}" if parts.port else ""
        return "http", f":{self.apps_port}" if self.apps_port not in (0, 80) else ""


def build(furniture: Furniture, *, clock: Clock, vault: Vault, engine: Engine, rules: Rules) -> Room:
    wakers = Wakers()
    core = Core(furniture.database, furniture.outbox, clock, Box(vault), engine, rules.apps_domain, wakers)
    book = LogBook(rules.home / "logs", clock)
    scribe = Scribe(book, Collector(engine, book, clock), clock)
    lease = Lease("workloads.reconcile", furniture.database, clock, furniture.process)
    reconciler = Reconciler(core, scribe, rules.policy, lease)
    uploads = Uploads(core, rules.home / "uploads")
    materials = Materials(uploads.path, rules.git_private_hosts, rules.trusted, environment=rules.build_environment)
    building = BuildRules(rules.home / "builds", trusted=rules.trusted)
    builder = Builder(core, furniture.process, building, materials, scribe)
    live = Live(furniture.process, lambda workload: ShownWorkload.of(workload, verbs.url_of(workload)))
    measuring = Lease("workloads.usage", furniture.database, clock, furniture.process)
    verbs = Verbs(
        core=core,
        apps_address=rules.address,
        deploying=Deploying(core),
        wishes=Wishes(core),
        looking=Looking(core),
        hosts=Hosts(core),
        quotas=Quotas(core),
        uploads=uploads,
        following=Following(core, book),
        logs=book,
        live=live,
        executing=Executing(core),
        metrics=Metrics(core, furniture.process, measuring, ShownMetrics.now),
    )
    housekeeping = Housekeeping(
        core, scribe, Lease("workloads.housekeeping", furniture.database, clock, furniture.process)
    )
    wakers.steward, wakers.builder, wakers.live = reconciler.wake, builder.wake, live.tell
    furniture.inbox.serve(Consumer(OWNERS, Owners(core).note))

    async def close() -> None:
        await verbs.executing.close()
        await builder.close()
        await reconciler.close()
        await scribe.close()
        await engine.close()

    return Room(
        name=NAME,
        furniture=furniture,
        verbs=verbs,
        routers=http.ROUTERS,
        loops=[reconciler.loop, builder.loop, uploads.cleaning, housekeeping.loop, *verbs.metrics.loops],
        close=close,
    )
