"""`muelle doctor`: what works, what does not, and the exact command that mends it.

It changes nothing, waits for nobody longer than a few seconds, and takes whatever goes wrong for a finding.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx

from muelle import __version__, config, serving
from muelle.app import LINES, ROOMS, SECRET_KEY_FILE, Parts
from muelle.cli.mishaps import in_words
from muelle.cli.opening import database_file, mend_database
from muelle.config import Settings
from muelle.engines import found
from muelle.identity import store as accounts_store
from muelle.kit import logs
from muelle.kit.clock import SystemClock
from muelle.kit.db import Database
from muelle.kit.db.migrations import KIT, current_revision
from muelle.kit.errors import MuelleError
from muelle.kit.home import Holder, holders_of
from muelle.kit.hosts import user_here
from muelle.kit.http import Cursor, Role
from muelle.kit.mail import SmtpMailer
from muelle.kit.vault import SecretKeyBroken, kept_key

LITTLE_DISK_BYTES = 1_000_000_000
BEHIND_FAILURES = 3
SECONDS = 5.0
"""How long any one thing has to answer."""
ADMINISTRATORS_LOOKED_AT = 20
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
        findings = [Finding("settings", False, line, "muelle config docs") for line in error.message.splitlines()]
    else:
        findings = asyncio.run(_all(settings))
    if as_json:
        print(json.dumps([asdict(finding) for finding in findings]))
    else:
        for finding in findings:
            print(f"{_SIGNS[finding.works]}  {finding.what:<14} {finding.detail}")
            if finding.mend:
                print(f"      {'':<14} → {finding.mend}")
    return 1 if any(finding.works is False for finding in findings) else 0


async def _all(settings: Settings) -> list[Finding]:
    looked = await asyncio.gather(
        *(_database(settings, room) for room in LINES),
        _broker(settings),
        _mail(settings),
        _docker(),
        _server(settings),
    )
    return [
        Finding("version", True, __version__),
        Finding("settings", True, f"profile {settings.profile}"),
        *_home(settings),
        *(finding for part in looked for finding in part),
    ]


def _home(settings: Settings) -> Iterable[Finding]:
    home = settings.home
    place = next(folder for folder in (home, *home.parents) if _is_there(folder))
    if not place.is_dir():
        yield Finding("home", False, f"{place} is no folder", "set MUELLE_HOME to a folder of yours")
        return
    if not os.access(place, os.W_OK | os.X_OK):
        mend = f"sudo chown -R {user_here()} {place}   (or set MUELLE_HOME to a folder of yours)"
        yield Finding("home", False, f"{place} cannot be written by {user_here()}", mend)
        return
    free = shutil.disk_usage(place).free
    if free < LITTLE_DISK_BYTES:
        yield Finding("home", False, f"{home}: only {free // 1_000_000} MB free", f"du -sh {home}/*   (and make room)")
    elif place == home and home.stat().st_mode & 0o077:
        yield Finding("home", None, f"{home} can be read by others", f"chmod 700 {home}")
    else:
        yield Finding("home", True, f"{home}, {free // 1_000_000_000} GB free")
    key_file = settings.home / SECRET_KEY_FILE
    try:
        if key_file.exists() and not settings.secret_key.get_secret_value():
            kept_key(key_file)
    except SecretKeyBroken as error:
        yield Finding("secret key", False, error.message, error.advice)


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:
        return False


async def _database(settings: Settings, room: str) -> list[Finding]:
    what = f"db {room}"
    if not settings.database_url.get_secret_value() and not _is_there(database_file(settings, room)):
        return [Finding(what, None, "not made yet", "muelle up")]
    try:
        database = Parts(settings).open(room)
        try:
            async with asyncio.timeout(SECONDS):
                state = await _revision(database, room)
                return [state, *(await _administrators(database) if state.works and room == "identity" else [])]
        finally:
            await database.close()
    except Exception as problem:  # whatever it is: it is the finding
        return [Finding(what, False, in_words(problem), mend_database(settings, room))]


async def _revision(database: Database, room: str) -> Finding:
    kind = await database.check()
    async with database.plain_connection() as connection:
        found = {line: await current_revision(connection, line) for line in (KIT, LINES[room])}
    if any(revision and revision not in line.revisions for line, revision in found.items()):
        return Finding(f"db {room}", False, f"{kind}, written by a newer Muelle", "start the newer version again")
    behind = [line.name for line, revision in found.items() if revision != line.head]
    if behind:
        return Finding(f"db {room}", False, f"{kind}, behind in {' and '.join(behind)}", "muelle migrate")
    return Finding(f"db {room}", True, kind)


async def _administrators(database: Database) -> list[Finding]:
    """Whether somebody can get in: the first password is shown once, and may have gone by unseen."""
    now = SystemClock().now()
    async with database.reading() as reader:
        few = Cursor(None, ADMINISTRATORS_LOOKED_AT)
        known = await accounts_store.list_accounts(reader, few, "", Role.ADMIN, "active")
        if not known:
            return [Finding("administrators", None, "there is none", "muelle admin create YOU@EXAMPLE.COM")]
        for account in known:
            if await accounts_store.list_sessions(reader, account.id, now):
                return [Finding("administrators", True, f"{account.email} is logged in")]
    email = known[0].email
    mend = f"muelle admin create {email}   (if the password is lost: gives a fresh one)"
    return [Finding("administrators", None, f"{email} is not logged in anywhere", mend)]


async def _broker(settings: Settings) -> list[Finding]:
    url = settings.rabbit_url.get_secret_value()
    if not url:
        return [Finding("facts", True, "in process")]
    import aio_pika  # noqa: PLC0415 - large, and not everybody's

    try:
        async with asyncio.timeout(SECONDS):
            await (await aio_pika.connect(url)).close()
    except Exception as problem:  # whatever it is: it is the finding
        mend = "systemctl start rabbitmq-server   (and see that MUELLE_RABBIT_URL is right)"
        return [Finding("facts", False, f"RabbitMQ: {in_words(problem)}", mend)]
    return [Finding("facts", True, "RabbitMQ answers")]


async def _mail(settings: Settings) -> list[Finding]:
    set_smtp = "set MUELLE_MAIL=smtp://user:password@host:587"
    mail = settings.mail.get_secret_value()
    if mail == "file":
        return [Finding("mail", None, f"written into {settings.home / 'mail'}, not sent", set_smtp)]
    if mail == "console":
        return [Finding("mail", None, "printed, not sent", set_smtp)]
    try:
        await SmtpMailer(mail, settings.mail_from).check()
    except MuelleError as error:
        return [Finding("mail", False, error.message, error.advice)]
    return [Finding("mail", True, "SMTP answers")]


async def _docker() -> list[Finding]:
    docker = await found.docker()
    mend = "" if docker.works else "apt-get install docker.io   (or set DOCKER_HOST to a local socket)"
    return [Finding("docker", True if docker.works else None, docker.detail, mend)]


async def _server(settings: Settings) -> list[Finding]:
    holders = holders_of(settings.home, ROOMS)
    if not holders:
        return await _server_at(settings.local_url, None, settings)
    return [finding for holder in holders for finding in await _server_at(holder.url, holder, settings)]


async def _server_at(url: str, holder: Holder | None, settings: Settings) -> list[Finding]:
    try:
        async with httpx.AsyncClient(timeout=SECONDS, trust_env=False) as client:
            answer = await client.get(f"{url}/health/ready")
        return _health(url, answer.json())
    except httpx.ConnectError as error:
        if holder is None:
            return [_port(settings)]
        silent = in_words(error)
    except httpx.HTTPError:
        silent = f"no answer within {SECONDS:g} s"
    except (ValueError, KeyError, TypeError, AttributeError):
        return [Finding("server", False, f"what answers at {url} is not Muelle", "set MUELLE_PORT to a free port")]
    if holder is None:
        mend = f"ss -ltnp 'sport = {settings.port}'   (shows what it is)"
        return [Finding("server", False, f"what listens at {url} does not answer: {silent}", mend)]
    stuck = f"{holder} holds the home and does not answer at {url}: {silent}"
    mend = f"kill -9 {holder.pid}; {holder.name}   (nothing that was written is lost by that)"
    return [Finding("server", False, stuck, mend)]


def _port(settings: Settings) -> Finding:
    """Nothing answers there; could we?"""
    try:
        serving.bind(settings.host, settings.port).close()
    except serving.PortTaken as error:
        return Finding("server", False, f"not running, and cannot: {error.message}", error.advice)
    return Finding("server", None, "not running", "muelle up")


def _health(url: str, health: Mapping[str, Any]) -> list[Finding]:
    bad = [f"{name}: {check['detail']}" for name, check in health["checks"].items() if not check["ok"]]
    server = Finding("server", not bad, "; ".join([f"answers at {url}", *bad]))
    loops = health["loops"]
    failing = {name: loop for name, loop in loops.items() if loop["failures_in_a_row"] >= BEHIND_FAILURES}
    if not failing:
        return [server, Finding("loops", True, f"{len(loops)} run")]
    return [
        server,
        *(
            Finding(name, False, f"failed {loop['failures_in_a_row']} times in a row: {loop['last_error']}")
            for name, loop in failing.items()
        ),
    ]
