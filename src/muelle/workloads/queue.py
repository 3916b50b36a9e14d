"""All SQL about deployments and uploads: who waits to be built, and by whom it is being done."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Row, and_, delete, func, or_, select, update

from muelle.kit.db import Reading, Transaction
from muelle.kit.http import Cursor
from muelle.workloads.model import Deployment, DeploymentId, DeploymentState, Why, WorkloadId
from muelle.workloads.store import Box
from muelle.workloads.tables import deployments, uploads

LEASE_SECONDS = 30
_OPEN = deployments.c.state.in_([DeploymentState.QUEUED, DeploymentState.BUILDING])


async def add(tx: Transaction, box: Box, deployment: Deployment, secret: str) -> None:
    row = {column.name: getattr(deployment, column.name, None) for column in deployments.c}
    row |= {
        "source": json.dumps(deployment.source),
        "secret": box.seal({"secret": secret} if secret else {}),
        "why_code": deployment.why.code,
        "why_words": deployment.why.words,
        "lease_owner": "",
        "lease_until": deployment.asked_at,
    }
    await tx.run(deployments.insert().values(row))


async def by_id(reader: Reading, id: str) -> Deployment | None:
    row = await reader.first(select(deployments).where(deployments.c.id == id))
    return None if row is None else _deployment_of(row)


async def secret_of(reader: Reading, box: Box, id: str) -> str:
    sealed = await reader.scalar(select(deployments.c.secret).where(deployments.c.id == id))
    return box.open(sealed or b"").get("secret", "")


async def latest(reader: Reading, workload_id: str) -> Deployment | None:
    query = select(deployments).where(deployments.c.workload_id == workload_id)
    row = await reader.first(query.order_by(deployments.c.id.desc()).limit(1))
    return None if row is None else _deployment_of(row)


async def ids_of(reader: Reading, workload_id: str) -> Sequence[str]:
    these = select(deployments.c.id).where(deployments.c.workload_id == workload_id)
    return [row.id for row in await reader.all(these)]


async def beyond_newest(reader: Reading, newest: int) -> Sequence[str]:
    """All but the newest of each workload, as far as they are over."""
    place = func.row_number().over(partition_by=deployments.c.workload_id, order_by=deployments.c.id.desc())
    ranked = select(deployments.c.id, deployments.c.state, place.label("place")).subquery()
    over = ranked.c.state.not_in([DeploymentState.QUEUED, DeploymentState.BUILDING])
    return [row.id for row in await reader.all(select(ranked.c.id).where(ranked.c.place > newest, over))]


async def list_of(reader: Reading, cursor: Cursor, workload_id: str) -> list[Deployment]:
    """The newest first."""
    query = select(deployments).where(deployments.c.workload_id == workload_id)
    query = query.order_by(deployments.c.id.desc()).limit(cursor.limit + 1)
    if cursor.after:
        query = query.where(deployments.c.id < cursor.after)
    return [_deployment_of(row) for row in await reader.all(query)]


async def ask_to_end(tx: Transaction, workload_id: str, *, but: str = "", only: str = "") -> Sequence[str]:
    """Marks what is open of a workload, so that whoever builds it stops; returns which."""
    these = [deployments.c.workload_id == workload_id, _OPEN, deployments.c.id != but]
    if only:
        these.append(deployments.c.id == only)
    change = update(deployments).where(*these).values(cancel=True)
    return list((await tx.run(change.returning(deployments.c.id))).scalars())


async def claim(tx: Transaction, owner: str, now: datetime, number: int) -> Sequence[str]:
    """Takes what waits, and what somebody began and did not live to end, the oldest first."""
    waits = and_(deployments.c.state == DeploymentState.QUEUED, deployments.c.cancel.is_(False))
    left = and_(deployments.c.state == DeploymentState.BUILDING, deployments.c.lease_until < now)
    oldest = select(deployments.c.id).where(or_(waits, left)).order_by(deployments.c.id).limit(number)
    change = update(deployments).where(deployments.c.id.in_(oldest.with_for_update(skip_locked=True)))
    values = {
        "state": DeploymentState.BUILDING,
        "lease_owner": owner,
        "lease_until": now + timedelta(seconds=LEASE_SECONDS),
        "attempts": deployments.c.attempts + 1,
        "began_at": now,
    }
    return list((await tx.run(change.values(values).returning(deployments.c.id))).scalars())


async def any_due(reader: Reading, now: datetime) -> bool:
    waits = and_(deployments.c.state == DeploymentState.QUEUED, deployments.c.cancel.is_(False))
    left = and_(deployments.c.state == DeploymentState.BUILDING, deployments.c.lease_until < now)
    return await reader.scalar(select(deployments.c.id).where(or_(waits, left)).limit(1)) is not None


async def any_building(reader: Reading, but: Sequence[str]) -> bool:
    building = deployments.c.state == DeploymentState.BUILDING, deployments.c.id.not_in(but)
    return await reader.scalar(select(deployments.c.id).where(*building).limit(1)) is not None


async def cancelled_in_queue(reader: Reading) -> Sequence[str]:
    waiting = deployments.c.state == DeploymentState.QUEUED, deployments.c.cancel.is_(True)
    return [row.id for row in await reader.all(select(deployments.c.id).where(*waiting))]


async def let_go_of_all(tx: Transaction, but: Sequence[str], now: datetime) -> None:
    """What is being built according to the table, and by nobody in this process, the only one there is."""
    orphaned = deployments.c.state == DeploymentState.BUILDING, deployments.c.id.not_in(but)
    await tx.run(update(deployments).where(*orphaned).values(lease_until=now - timedelta(seconds=1)))


async def renew(tx: Transaction, id: str, owner: str, now: datetime) -> bool:
    """False where it is not ours any more, or shall end."""
    ours = deployments.c.id == id, deployments.c.lease_owner == owner, deployments.c.cancel.is_(False)
    until = now + timedelta(seconds=LEASE_SECONDS)
    return bool((await tx.run(update(deployments).where(*ours, _OPEN).values(lease_until=until))).rowcount)


async def shall_end(reader: Reading, id: str) -> bool:
    return bool(await reader.scalar(select(deployments.c.cancel).where(deployments.c.id == id)))


async def is_open(reader: Reading, id: str) -> bool:
    return await reader.scalar(select(deployments.c.id).where(deployments.c.id == id, _OPEN)) is not None


async def end(tx: Transaction, id: str, state: DeploymentState, now: datetime, *, why: Why, release: int = 0) -> bool:
    """False where it is over already."""
    change = update(deployments).where(deployments.c.id == id, _OPEN)
    values = {"state": state, "ended_at": now, "why_code": why.code, "why_words": why.words, "release": release}
    return bool((await tx.run(change.values(values))).rowcount)


async def add_upload(tx: Transaction, id: str, owner_id: str, now: datetime, size: int) -> None:
    await tx.run(uploads.insert().values(id=id, owner_id=owner_id, made_at=now, bytes=size))


async def upload_exists(reader: Reading, id: str, owner_id: str) -> bool:
    this = uploads.c.id == id, uploads.c.owner_id == owner_id
    return await reader.scalar(select(uploads.c.id).where(*this)) is not None


async def upload_ids(reader: Reading) -> Sequence[str]:
    return [row.id for row in await reader.all(select(uploads.c.id))]


async def remove_uploads(tx: Transaction, before: datetime) -> Sequence[str]:
    """Forgets old ones that no workload that is still there was made of."""
    sources = select(deployments.c.source).where(deployments.c.source.contains(uploads.c.id)).correlate(uploads)
    old = uploads.c.made_at < before, ~sources.exists()
    return list((await tx.run(delete(uploads).where(*old).returning(uploads.c.id))).scalars())


def _deployment_of(row: Row[Any]) -> Deployment:
    return Deployment(
        id=DeploymentId(row.id),
        workload_id=WorkloadId(row.workload_id),
        owner_id=row.owner_id,
        state=DeploymentState(row.state),
        source=json.loads(row.source),
        described=row.described,
        template=row.template,
        asked_at=row.asked_at,
        began_at=row.began_at,
        ended_at=row.ended_at,
        attempts=row.attempts,
        cancel=row.cancel,
        release=row.release,
        why=Why(row.why_code, row.why_words),
    )
