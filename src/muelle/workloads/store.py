"""All SQL about owners, workloads and releases. Each function takes the transaction or reading that it is part of."""

from __future__ import annotations

import json
import re
from collections.abc import Container, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Row, Select, delete, func, select, update

from muelle.engines.protocol import Limits
from muelle.kit.db import Reading, Transaction
from muelle.kit.http import Cursor
from muelle.kit.vault import Vault
from muelle.workloads.model import (
    Happening,
    Kind,
    Owner,
    Phase,
    Quota,
    Release,
    Spec,
    Verdict,
    VolumeAt,
    Why,
    Wish,
    Workload,
    WorkloadId,
    release_of,
)
from muelle.workloads.tables import history, hosts, owners, releases, workloads

AnyRow = Row[Any]
LONGEST_SLUG = 32
MOST_SLUGS = 1000
_ALIVE = workloads.c.wish != Wish.DELETED


class Box:
    """Seals what is secret of a row, which is kept in no other form."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault

    def seal(self, value: Mapping[str, str]) -> bytes:
        return self._vault.seal("workloads", json.dumps(dict(value)).encode()) if value else b""

    def open(self, sealed: bytes) -> dict[str, str]:
        return dict(json.loads(self._vault.open("workloads", sealed))) if sealed else {}


# --- owners


async def owner_by_id(reader: Reading, id: str) -> Owner | None:
    return _owner(await reader.first(select(owners).where(owners.c.id == id)))


async def lock_owner(tx: Transaction, id: str) -> Owner | None:
    """With nobody else counting what they hold until the transaction ends."""
    return _owner(await tx.first(select(owners).where(owners.c.id == id).with_for_update()))


async def ensure_owner(tx: Transaction, id: str, email: str) -> Owner:
    """The owner, known from now on under a part of their address that nobody else has."""
    wanted = re.sub(r"[^a-z0-9]+", "-", email.partition("@")[0].lower()).strip("-")[:LONGEST_SLUG].strip("-") or "user"
    for number in range(1, MOST_SLUGS):
        if found := await lock_owner(tx, id):
            return found
        slug = wanted if number == 1 else f"{wanted}-{number}"
        row = {"id": id, "slug": slug, "quota": json.dumps(asdict(Quota())), "state": "active", "version": 0}
        await tx.insert_new(owners, [row], owners.c.id)
    raise RuntimeError(f"a thousand people are called {wanted}")


async def note_owner_state(tx: Transaction, id: str, state: str, version: int) -> bool:
    """Keeps the highest version; False where it was known already, or the owner is not."""
    newer = owners.c.id == id, owners.c.version < version
    return bool((await tx.run(update(owners).where(*newer).values(state=state, version=version))).rowcount)


async def set_quota(tx: Transaction, id: str, quota: Quota) -> bool:
    change = update(owners).where(owners.c.id == id).values(quota=json.dumps(asdict(quota)))
    return bool((await tx.run(change)).rowcount)


async def held_by(reader: Reading, owner_id: str, but: str = "") -> Quota:
    """How much the owner's workloads hold: all in number, and what those have that shall run."""
    mine = workloads.c.owner_id == owner_id, _ALIVE, workloads.c.id != but
    number = await reader.scalar(select(func.count()).select_from(workloads).where(*mine))
    running = (*mine, workloads.c.wish == Wish.RUNNING)
    sums = select(func.sum(workloads.c.cpu_millis), func.sum(workloads.c.memory_bytes)).where(*running)
    row = await reader.first(sums)
    cpu, memory = tuple(row) if row is not None else (0, 0)
    return Quota(int(number), int(cpu or 0), int(memory or 0))


# --- workloads


def _with_owner() -> Select[Any]:
    return select(workloads, owners.c.slug, owners.c.state).join(owners, owners.c.id == workloads.c.owner_id)


async def workload_by_id(reader: Reading, id: str) -> Workload | None:
    return _workload(await reader.first(_with_owner().where(workloads.c.id == id)))


async def lock_workload(tx: Transaction, id: str) -> Workload | None:
    return _workload(await tx.first(_with_owner().where(workloads.c.id == id).with_for_update(of=workloads)))


async def workload_by_name(reader: Reading, owner_id: str, name: str) -> Workload | None:
    this = workloads.c.owner_id == owner_id, workloads.c.name == name, _ALIVE
    return _workload(await reader.first(_with_owner().where(*this)))


async def list_workloads(
    reader: Reading, cursor: Cursor, *, owner_id: str = "", kind: str = "", name: str = ""
) -> list[Workload]:
    """The newest first."""
    query = _with_owner().where(_ALIVE).order_by(workloads.c.id.desc()).limit(cursor.limit + 1)
    if cursor.after:
        query = query.where(workloads.c.id < cursor.after)
    for column, value in ((workloads.c.owner_id, owner_id), (workloads.c.kind, kind), (workloads.c.name, name)):
        if value:
            query = query.where(column == value)
    return [_workload_of(row) for row in await reader.all(query)]


async def all_workloads(reader: Reading, *conditions: ColumnElement[bool]) -> list[Workload]:
    return [_workload_of(row) for row in await reader.all(_with_owner().where(*conditions))]


async def workloads_of(reader: Reading, owner_id: str) -> list[Workload]:
    return await all_workloads(reader, workloads.c.owner_id == owner_id, _ALIVE)


async def lock_workloads_of(tx: Transaction, owner_id: str) -> None:
    """Before their owner is locked, as everybody does it: else two who want both could wait for each other."""
    theirs = select(workloads.c.id).where(workloads.c.owner_id == owner_id).order_by(workloads.c.id)
    await tx.all(theirs.with_for_update())


async def add_workload(tx: Transaction, box: Box, workload: Workload, spec: Spec) -> bool:
    """False where the name is taken."""
    row = {column.name: getattr(workload, column.name, None) for column in workloads.c}
    row |= {"why_code": workload.why.code, "why_words": workload.why.words}
    row |= wished(box, spec)
    return bool(await tx.insert_new(workloads, [row], workloads.c.id))


async def change_workload(tx: Transaction, id: str, **values: Any) -> None:
    change = update(workloads).where(workloads.c.id == id).values(version=workloads.c.version + 1, **values)
    await tx.run(change)


def wished(box: Box, spec: Spec) -> dict[str, Any]:
    """The columns that say what the next release is made with."""
    return {
        "spec": spec_to_json(spec),
        "environment": box.seal(spec.environment),
        "cpu_millis": spec.limits.cpu_millis,
        "memory_bytes": spec.limits.memory_bytes,
    }


async def spec_of(reader: Reading, box: Box, id: str) -> Spec:
    this = select(workloads.c.spec, workloads.c.environment).where(workloads.c.id == id)
    rows = await reader.all(this)
    return spec_from_json(rows[0].spec, box.open(rows[0].environment)) if rows else Spec()


async def remove_workload(tx: Transaction, id: str) -> None:
    await tx.run(delete(workloads).where(workloads.c.id == id))


# --- names of one's own


async def hosts_of(reader: Reading, workload_id: str) -> dict[str, str]:
    """Each with the id of its claim."""
    rows = await reader.all(select(hosts).where(hosts.c.workload_id == workload_id).order_by(hosts.c.host))
    return {row.host: row.claim for row in rows}


async def remove_hosts(tx: Transaction, workload_id: str, names: Sequence[str]) -> None:
    await tx.run(delete(hosts).where(hosts.c.workload_id == workload_id, hosts.c.host.in_(names)))


async def add_hosts(tx: Transaction, workload_id: str, names: Sequence[str], claim: str) -> set[str]:
    """Returns those that lead elsewhere already."""
    rows = [{"host": name, "workload_id": workload_id, "claim": claim} for name in names]
    return set(names) - set(await tx.insert_new(hosts, rows, hosts.c.host))


# --- releases


async def release_by_number(reader: Reading, box: Box, workload_id: str, number: int) -> Release | None:
    this = releases.c.workload_id == workload_id, releases.c.number == number
    row = await reader.first(select(releases).where(*this))
    return None if row is None else _release_of(row, box)


async def list_releases(reader: Reading, box: Box, workload_id: str, limit: int = 200) -> list[Release]:
    """The newest first."""
    query = select(releases).where(releases.c.workload_id == workload_id).order_by(releases.c.number.desc())
    return [_release_of(row, box) for row in await reader.all(query.limit(limit))]


async def wished_releases(reader: Reading) -> dict[str, Release]:
    """Of all workloads at once, without their environments: enough to see whether anything is to be done."""
    wished = (releases.c.workload_id == workloads.c.id) & (releases.c.number == workloads.c.release)
    rows = await reader.all(select(releases).join(workloads, wished))
    return {row.workload_id: _release_of(row, None) for row in rows}


async def add_release(tx: Transaction, box: Box, release: Release) -> None:
    await tx.run(
        releases.insert().values(
            workload_id=release.workload_id,
            number=release.number,
            image=release.image,
            spec=spec_to_json(release.spec),
            environment=box.seal(release.spec.environment),
            source=release.source,
            revision=release.revision,
            made_at=release.made_at,
            verdict=release.verdict,
            why_code=release.why.code,
            why_words=release.why.words,
        )
    )


async def next_number(tx: Transaction, workload_id: str) -> int:
    last = await tx.scalar(select(func.max(releases.c.number)).where(releases.c.workload_id == workload_id))
    return int(last or 0) + 1


async def known_releases(reader: Reading, workload_id: str = "") -> dict[str, Container[int]]:
    """The numbers that each workload, or that one, has releases of. Where none is missing, nothing is listed."""
    of = releases.c.workload_id
    query = select(of, func.max(releases.c.number).label("last"), func.count().label("number")).group_by(of)
    if workload_id:
        query = query.where(of == workload_id)
    found: dict[str, Container[int]] = {}
    for row in await reader.all(query):
        found[row.workload_id] = range(1, row.last + 1)
        if row.number != row.last:
            numbers = select(releases.c.number).where(of == row.workload_id)
            found[row.workload_id] = {each.number for each in await reader.all(numbers)}
    return found


async def judge(tx: Transaction, workload_id: str, number: int, verdict: Verdict, why: Why) -> bool:
    """False where it has a verdict already: the first one stands."""
    this = releases.c.workload_id == workload_id, releases.c.number == number
    open_still = releases.c.verdict == Verdict.UNPROVEN
    change = update(releases).where(*this, open_still)
    return bool((await tx.run(change.values(verdict=verdict, why_code=why.code, why_words=why.words))).rowcount)


async def protected_images(reader: Reading, newest: int) -> set[str]:
    """Of the newest releases of each workload, and of those that are wished, proven or serving."""
    place = func.row_number().over(partition_by=releases.c.workload_id, order_by=releases.c.number.desc())
    ranked = select(releases.c.workload_id, releases.c.number, releases.c.image, place.label("place")).subquery()
    of = ranked.c.workload_id == workloads.c.id
    rows = await reader.all(select(ranked, workloads.c.release, workloads.c.good, workloads.c.serving).where(of))
    return {
        row.image
        for row in rows
        if row.place <= newest or row.number in (row.release, row.good, release_of(row.serving))
    }


# --- history


async def add_happening(tx: Transaction, owner_id: str, happening: Happening) -> None:
    row = {column.name: getattr(happening, column.name, None) for column in history.c}
    row |= {"owner_id": owner_id, "why_code": happening.why.code, "why_words": happening.why.words}
    await tx.run(history.insert().values(row))


async def list_history(reader: Reading, cursor: Cursor, workload_id: str) -> list[Happening]:
    """The newest first."""
    query = select(history).where(history.c.workload_id == workload_id)
    query = query.order_by(history.c.id.desc()).limit(cursor.limit + 1)
    if cursor.after:
        query = query.where(history.c.id < cursor.after)
    return [
        Happening(
            row.id,
            WorkloadId(row.workload_id),
            row.at,
            row.what,
            row.release,
            Why(row.why_code, row.why_words),
            row.actor,
        )
        for row in await reader.all(query)
    ]


async def forget_history(tx: Transaction, before: datetime) -> None:
    await tx.run(delete(history).where(history.c.at < before))


async def happenings_since(reader: Reading, owner_id: str, since: datetime, what: Sequence[str]) -> list[AnyRow]:
    """When what happened, for statistics."""
    mine = history.c.owner_id == owner_id, history.c.at >= since, history.c.what.in_(what)
    return list(await reader.all(select(history.c.at, history.c.what).where(*mine)))


# --- from rows to values


def spec_to_json(spec: Spec) -> str:
    """All of it but the environment, which is sealed."""
    return json.dumps({name: value for name, value in asdict(spec).items() if name != "environment"})


def spec_from_json(text: str, environment: Mapping[str, str]) -> Spec:
    raw = json.loads(text)
    return Spec(
        environment=dict(environment),
        command=tuple(raw["command"]),
        port=raw["port"],
        limits=Limits(**raw["limits"]),
        volumes=tuple(VolumeAt(**volume) for volume in raw["volumes"]),
        patience_seconds=raw["patience_seconds"],
    )


def _owner(row: AnyRow | None) -> Owner | None:
    return None if row is None else Owner(row.id, row.slug, Quota(**json.loads(row.quota)), row.state)


def _workload(row: AnyRow | None) -> Workload | None:
    return None if row is None else _workload_of(row)


def _workload_of(row: AnyRow) -> Workload:
    return Workload(
        id=WorkloadId(row.id),
        owner_id=row.owner_id,
        owner_slug=row.slug,
        kind=Kind(row.kind),
        name=row.name,
        claim=row.claim,
        description=row.description,
        wish=Wish(row.wish),
        release=row.release,
        good=row.good,
        turn=row.turn,
        serving=row.serving,
        switched_at=row.switched_at,
        keep_volumes=row.keep_volumes,
        limits=Limits(row.cpu_millis, row.memory_bytes),
        held=row.state != "active",
        made_at=row.made_at,
        version=row.version,
        phase=Phase(row.phase),
        why=Why(row.why_code, row.why_words),
        address=row.address,
    )


def _release_of(row: AnyRow, box: Box | None) -> Release:
    """Without a box, the environment is left out."""
    return Release(
        workload_id=WorkloadId(row.workload_id),
        number=row.number,
        image=row.image,
        spec=spec_from_json(row.spec, box.open(row.environment) if box else {}),
        source=row.source,
        revision=row.revision,
        made_at=row.made_at,
        verdict=Verdict(row.verdict),
        why=Why(row.why_code, row.why_words),
    )
