"""All SQL about what workloads have used."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import Column, Index, Integer, LargeBinary, String, Table, delete, select
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from muelle.kit.db import Reading, Transaction
from muelle.workloads.tables import metadata, workloads

usage = Table(
    "usage",
    metadata,
    Column("workload_id", String(24), primary_key=True),
    Column("hour", Integer, primary_key=True, autoincrement=False),
    Column("data", LargeBinary, nullable=False),
    Index("usage_by_hour", "hour"),
)
"""`hour` counts from 1970 on. No foreign key: what is measured may just be deleted, and is cleaned up later."""


async def serving(reader: Reading, ids: Collection[str] | None = None) -> dict[str, str]:
    """The workloads by the instances that have their traffic: all, or of those."""
    wanted = select(workloads.c.serving, workloads.c.id).where(workloads.c.serving != "")
    if ids is not None:
        wanted = wanted.where(workloads.c.id.in_(list(ids)))
    return {row.serving: row.id for row in await reader.all(wanted)}


async def of_hour(reader: Reading, hour: int) -> dict[str, bytes]:
    rows = await reader.all(select(usage.c.workload_id, usage.c.data).where(usage.c.hour == hour))
    return {row.workload_id: row.data for row in rows}


async def of_workload(reader: Reading, id: str, first: int, last: int) -> Sequence[tuple[int, bytes]]:
    these = usage.c.workload_id == id, usage.c.hour >= first, usage.c.hour <= last
    rows = await reader.all(select(usage.c.hour, usage.c.data).where(*these).order_by(usage.c.hour))
    return [(row.hour, row.data) for row in rows]


async def keep(tx: Transaction, hour: int, packed: Mapping[str, bytes]) -> None:
    """In place of what was kept of that hour."""
    if not packed:
        return
    insert: Any = postgresql_insert if tx.postgres else sqlite_insert
    statement = insert(usage)
    statement = statement.on_conflict_do_update(
        index_elements=[usage.c.workload_id, usage.c.hour], set_={"data": statement.excluded.data}
    )
    await tx.run(statement, [{"workload_id": id, "hour": hour, "data": data} for id, data in packed.items()])


async def clean(tx: Transaction, before: int) -> None:
    """What is too old, and what was of workloads that are gone."""
    await tx.run(delete(usage).where(usage.c.hour < before))
    await tx.run(delete(usage).where(usage.c.workload_id.not_in(select(workloads.c.id))))
