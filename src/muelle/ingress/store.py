"""All SQL of the ingress room: the last fact of each workload, and the highest claim to each name."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Index,
    MetaData,
    Row,
    String,
    Table,
    Text,
    delete,
    select,
    update,
)

from muelle.events import Route, RouteChanged
from muelle.kit.db import Instant, Reading, Transaction

ASKED_AT_ONCE = 500
"""Keys in one statement: databases bound how many there may be."""

metadata = MetaData()

routes = Table(
    "routes",
    metadata,
    Column("workload_id", String(100), primary_key=True),
    Column("owner_id", String(100), nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("route", String(10), nullable=False),
    Column("hosts", Text, nullable=False),
    Column("address", String(300), nullable=False),
    Column("why", Text, nullable=False),
    Column("changed_at", Instant, nullable=False),
    CheckConstraint("route IN ('open', 'starting', 'stopped', 'failed', 'gone')", name="route_is_known"),
    Index("routes_by_age", "route", "changed_at"),
)

claims = Table(
    "claims",
    metadata,
    Column("host", String(300), primary_key=True),
    Column("claim", String(100), nullable=False),
)


async def keep(tx: Transaction, fact: RouteChanged, at: datetime) -> None:
    """Writes a fact down, unless a newer one of its workload is there. Its claims count all the same."""
    row = _row(fact, at)
    newer = update(routes).where(routes.c.workload_id == fact.workload_id, routes.c.version < fact.version).values(row)
    if not (await tx.run(newer)).rowcount and not await tx.insert_new(routes, [row], routes.c.workload_id):
        await tx.run(newer)  # a replica may have been first with an older one
    await _raise_claims(tx, fact.hosts)


async def _raise_claims(tx: Transaction, made: Mapping[str, str]) -> None:
    """In the order of names, so that two replicas do not lock each other out. Most facts repeat what is known."""
    known = {row.host: row.claim for row in await tx.all(select(claims).where(claims.c.host.in_(sorted(made))))}
    for host, claim in sorted(made.items()):
        if claim <= known.get(host, ""):
            continue
        if not await tx.insert_new(claims, [{"host": host, "claim": claim}], claims.c.host):
            await tx.run(update(claims).where(claims.c.host == host, claims.c.claim < claim).values(claim=claim))


async def facts(reader: Reading, workloads: Collection[str] | None = None) -> list[RouteChanged]:
    """The last of each workload, or of these."""
    if workloads is None:
        return [_fact(row) for row in await reader.all(select(routes))]
    found: list[RouteChanged] = []
    for some in _parts(sorted(workloads)):
        rows = await reader.all(select(routes).where(routes.c.workload_id.in_(some)))
        found += [_fact(row) for row in rows]
    return found


async def highest_claims(reader: Reading) -> dict[str, str]:
    return {row.host: row.claim for row in await reader.all(select(claims))}


async def versions(reader: Reading) -> dict[str, int]:
    return {row.workload_id: row.version for row in await reader.all(select(routes.c.workload_id, routes.c.version))}


async def forget_gone(tx: Transaction, before: datetime) -> int:
    """Drops what is remembered of workloads that were gone by then."""
    done = await tx.run(delete(routes).where(routes.c.route == Route.GONE.value, routes.c.changed_at < before))
    return int(done.rowcount)


def _row(fact: RouteChanged, at: datetime) -> dict[str, Any]:
    return {
        "workload_id": fact.workload_id,
        "owner_id": fact.owner_id,
        "version": fact.version,
        "route": fact.route.value,
        "hosts": json.dumps(fact.hosts, sort_keys=True),
        "address": fact.address,
        "why": fact.why.replace("\0", "").encode(errors="replace").decode(),  # in letters that every database can keep
        "changed_at": at,
    }


def _fact(row: Row[Any]) -> RouteChanged:
    return RouteChanged(
        workload_id=row.workload_id,
        owner_id=row.owner_id,
        version=row.version,
        hosts=json.loads(row.hosts),
        route=Route(row.route),
        address=row.address,
        why=row.why,
    )


def _parts(keys: list[str]) -> Iterable[list[str]]:
    return (keys[start : start + ASKED_AT_ONCE] for start in range(0, len(keys), ASKED_AT_ONCE))
