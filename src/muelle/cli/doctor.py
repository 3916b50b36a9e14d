"""`muelle doctor`: what works, what does not, and the exact command that mends it."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass
from pathlib import Path

import httpx

from muelle import __version__, config
from muelle.app import LINES, Parts
from muelle.config import Settings
from muelle.engines import found
from muelle.kit import logs
from muelle.kit.db.migrations import pending
from muelle.kit.home import holder_of

LITTLE_DISK_BYTES = 1_000_000_000
BEHIND_FAILURES = 3
_SIGNS = {True: "ok  ", False: "FAIL", None: "note"}


@dataclass(frozen=True)
class Finding:
    """`works` is None for what is good to know and no fault."""

    what: str
    works: bool | None
    detail: str
    mend: str = ""


def examine(*, as_json: bool) -> int:
    logs.quiet()
    try:
        settings = config.load()
    except config.SettingsWrong as error:
        findings = [Finding("settings", False, error.message, "muelle config docs")]
    else:
        findings = asyncio.run(_all(settings))
    if as_json:
        print(json.dumps([asdict(finding) for finding in findings]))
    else:
        for finding in findings:
            print(f"{_SIGNS[finding.works]}  {finding.what:<12} {finding.detail}")
            if finding.mend:
                print(f"      {'':<12} → {finding.mend}")
    return 1 if any(finding.works is False for finding in findings) else 0


async def _all(settings: Settings) -> list[Finding]:
    findings = [Finding("version", True, __version__), Finding("settings", True, f"profile {settings.profile}")]
    findings.append(_home(settings.home))
    async for finding in _databases(settings):
        findings.append(finding)
    findings.append(await _broker(settings))
    findings.append(_mail(settings))
    docker = await found.docker()
    mend = "" if docker.works else "apt-get install docker.io   (or set DOCKER_HOST to a local socket)"
    findings.append(Finding("docker", True if docker.works else None, docker.detail, mend))
    findings += await _server(settings)
    return findings


def _home(home: Path) -> Finding:
    place = home if home.exists() else home.parent
    if not os.access(place, os.W_OK):
        return Finding("home", False, f"{home} cannot be written", f"chown -R $(id -un) {home}")
    free = shutil.disk_usage(place if place.exists() else Path("/")).free
    if free < LITTLE_DISK_BYTES:
        return Finding("home", False, f"{home}: only {free // 1_000_000} MB free", "free some disk space")
    if home.exists() and home.stat().st_mode & 0o077:
        return Finding("home", None, f"{home} can be read by others", f"chmod 700 {home}")
    return Finding("home", True, f"{home}, {free // 1_000_000_000} GB free")


async def _databases(settings: Settings) -> AsyncIterator[Finding]:
    parts = Parts(settings)
    for room, line in LINES.items():
        if not settings.database_url.get_secret_value() and not (settings.home / f"{room}.db").exists():
            yield Finding(f"db {room}", None, "not made yet", "muelle up")
            continue
        database = parts.open(room)
        try:
            kind = await database.check()
            behind = await pending(database, line)
            detail = kind if not behind else f"{kind}, behind: {', '.join(behind)}"
            yield Finding(f"db {room}", not behind, detail, "muelle migrate" if behind else "")
        except Exception as error:  # whatever it is: it is the finding
            yield Finding(f"db {room}", False, f"{type(error).__name__}: {error}"[:200], "check MUELLE_DATABASE_URL")
        finally:
            await database.close()


async def _broker(settings: Settings) -> Finding:
    url = settings.rabbit_url.get_secret_value()
    if not url:
        return Finding("facts", True, "in process")
    import aio_pika  # noqa: PLC0415

    try:
        async with asyncio.timeout(5):
            await (await aio_pika.connect(url)).close()
    except Exception as error:  # whatever it is: it is the finding
        return Finding("facts", False, f"RabbitMQ: {type(error).__name__}", "systemctl start rabbitmq-server")
    return Finding("facts", True, "RabbitMQ answers")


def _mail(settings: Settings) -> Finding:
    if settings.mail == "file":
        folder = settings.home / "mail"
        return Finding("mail", None, f"written into {folder}, not sent", "set MUELLE_MAIL=smtp://user:password@host:587")
    return Finding("mail", True, "SMTP" if settings.mail.startswith("smtp") else settings.mail)


async def _server(settings: Settings) -> list[Finding]:
    holder = holder_of(settings.home)
    url = holder.url if holder else settings.url
    try:
        async with httpx.AsyncClient(timeout=5) as client:
            health = (await client.get(f"{url}/health/ready")).json()
    except (httpx.HTTPError, ValueError):
        if holder is None:
            return [Finding("server", None, "not running", "muelle up")]
        stuck = f"process {holder.pid} holds the home and does not answer at {url}"
        return [Finding("server", False, stuck, f"kill {holder.pid} && muelle up")]
    return [*_checks(url, health), *_loops(health)]


def _checks(url: str, health: dict[str, dict[str, dict[str, object]]]) -> list[Finding]:
    bad = [f"{name}: {check['detail']}" for name, check in health["checks"].items() if not check["ok"]]
    return [Finding("server", not bad, f"answers at {url}" + (f"; {'; '.join(bad)}" if bad else ""))]


def _loops(health: dict[str, dict[str, dict[str, object]]]) -> list[Finding]:
    loops = health["loops"]
    failing = {name: loop for name, loop in loops.items() if int(str(loop["failures_in_a_row"])) >= BEHIND_FAILURES}
    if not failing:
        return [Finding("loops", True, f"{len(loops)} run")]
    return [
        Finding(name, False, f"failed {loop['failures_in_a_row']} times in a row: {loop['last_error']}")
        for name, loop in failing.items()
    ]
