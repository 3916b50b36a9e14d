"""`muelle up` and `muelle serve`: from settings to a running program, and what it says when it is up."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

import structlog
import uvloop

from muelle import __version__, config, serving
from muelle.app import ROOMS, Application, NoSuchRoom, SharedPartsMissing
from muelle.cli.migrating import NotUpgraded, upgrade_apart
from muelle.cli.opening import opened
from muelle.config import Settings
from muelle.engines import found
from muelle.identity.accounts import FirstLogIn
from muelle.kit import logs
from muelle.kit.home import Holder, HomeLock

REST_SECONDS = 1.5
"""How long everything has to come to rest, after the last request has ended."""

_log = structlog.get_logger("muelle")


def run_up() -> None:
    settings = config.load()
    _run(settings, ROOMS, Holder("muelle up", os.getpid(), settings.local_url), locked=ROOMS)


def run_serve(rooms: Sequence[str]) -> None:
    settings = config.load()
    rooms = tuple(dict.fromkeys(rooms))
    check_split(settings, rooms)
    replicas_may_join = bool(settings.database_url.get_secret_value())
    holder = Holder(f"muelle serve {' '.join(rooms)}", os.getpid(), settings.local_url)
    _run(settings, rooms, holder, locked=() if replicas_may_join else rooms)


def check_split(settings: Settings, rooms: Sequence[str]) -> None:
    """Rooms of one installation have to share what they cannot do without."""
    for room in rooms:
        if room not in ROOMS:
            raise NoSuchRoom(name=room, rooms=", ".join(ROOMS))
    if set(rooms) == set(ROOMS):
        return
    if not settings.rabbit_url.get_secret_value():
        why = "The rooms tell each other what happened over RabbitMQ."
        raise SharedPartsMissing(setting="MUELLE_RABBIT_URL", why=why)
    if not settings.secret_key.get_secret_value():
        raise SharedPartsMissing(setting="MUELLE_SECRET_KEY", why="All processes have to have the same one.")
    if "identity" not in rooms and not settings.identity_url:
        raise SharedPartsMissing(setting="MUELLE_IDENTITY_URL", why="It asks the identity room who a caller is.")


def _run(settings: Settings, rooms: Sequence[str], holder: Holder, *, locked: Sequence[str]) -> None:
    logs.set_up(settings.log_level, settings.log_format)
    lock = HomeLock(settings.home, locked)
    lock.take(holder)
    try:
        serving.raise_file_limit()
        listener = serving.bind(settings.host, settings.port)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve(settings, rooms, listener))
    except NotUpgraded as failed:
        sys.exit(failed.code)
    finally:
        lock.let_go()


async def _serve(settings: Settings, rooms: Sequence[str], listener: socket.socket) -> None:
    stop = serving.Stop()
    looking = asyncio.create_task(found.best())
    starting = asyncio.create_task(_started(settings, rooms))
    if not await stop.comes_after(starting):
        return
    application, first = starting.result()
    try:
        engine = await looking

        def ready() -> None:
            _log.info("started", version=__version__, rooms=list(rooms), url=settings.url, pid=os.getpid())
            print(greeting(settings, rooms, engine, first), flush=True)

        await serving.serve(application.asgi, listener, settings.trusted_proxies, stop, ready)
    finally:
        await _rest(application)
    _log.info("stopped", pid=os.getpid())


async def _started(settings: Settings, rooms: Sequence[str]) -> tuple[Application, FirstLogIn | None]:
    application = await opened(settings, rooms)
    try:
        behind = await application.behind()
        if behind:
            await upgrade_apart(settings.home, settings.database_url.get_secret_value(), behind)
        return application, await application.start()
    except BaseException:
        await _rest(application)
        raise


async def _rest(application: Application) -> None:
    try:
        async with asyncio.timeout(REST_SECONDS):
            await application.stop()
    except TimeoutError:
        _log.warning("not everything came to rest in time; what is not done is written down")


def greeting(settings: Settings, rooms: Sequence[str], engine: found.Found, first: FirstLogIn | None) -> str:
    """What a person needs to know now: where it listens, what it stands on, how to get in, what to do next."""
    files = f"SQLite, a file per room in {settings.home}"
    rows = [
        ("Listening", f"{settings.local_url}  (main; API docs at /docs)"),
        *([("Public", settings.url)] if settings.public_url else []),
        *_apps(settings, rooms),
        ("Rooms", ", ".join(rooms)),
        *([("Engine", _engine(settings, engine))] if "workloads" in rooms else []),
        ("Database", "PostgreSQL" if settings.database_url.get_secret_value() else files),
        ("Facts", "RabbitMQ" if settings.rabbit_url.get_secret_value() else "in process"),
        ("Data", str(settings.home)),
        ("Profile", settings.profile.value),
    ]
    lines = ["", "  Muelle is up.", "", *(f"  {name:<10} {value}" for name, value in rows), ""]
    if first is not None:
        lines += [
            "  First log-in, shown only this once:",
            f"      e-mail    {first.email}",
            f"      password  {first.password}",
            "",
        ]
    lines += ["  Next:", *(f"      {step}" for step in _next_steps(settings, rooms, first)), ""]
    return "\n".join(lines)


def _apps(settings: Settings, rooms: Sequence[str]) -> list[tuple[str, str]]:
    if "ingress" not in rooms:
        return []
    port = settings.apps_port or "any"
    return [("Workloads", settings.apps_url or f"http://<name>.<user>.{settings.apps_domain}:{port}")]


def _engine(settings: Settings, found: found.Found) -> str:
    return found.detail if settings.engine in ("auto", found.name) else settings.engine


def _next_steps(settings: Settings, rooms: Sequence[str], first: FirstLogIn | None) -> list[str]:
    email = first.email if first else "YOU@EXAMPLE.COM"
    muelle = _how_to_call_it()
    log_in = [f"{muelle} login {email} --server {settings.url}", f"{muelle} whoami"] if "identity" in rooms else []
    return [
        *log_in,
        *([f"{muelle} deploy  runs what is in this folder"] if "workloads" in rooms else []),
        f"{muelle} doctor  says what works here, and what does not",
        f"{settings.url}/docs  describes the API",
        "Ctrl-C  ends it",
    ]


def _how_to_call_it() -> str:
    """The command as this person can type it: by its name where that is found, else by its place."""
    program = Path(sys.argv[0])
    if program.name != "muelle":
        return f"{sys.executable} -m muelle"
    found = shutil.which("muelle")
    if found and Path(found).resolve() == program.resolve():
        return "muelle"
    here = program.absolute()
    return str(here.relative_to(Path.cwd()) if here.is_relative_to(Path.cwd()) else here)
