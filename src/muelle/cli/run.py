"""`muelle up` and `muelle serve`: from settings to a running program, and what it says when it is up."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence

import uvloop

from muelle import config, serving
from muelle.app import ROOMS, Application, NoSuchRoom, Parts, SharedPartsMissing
from muelle.config import Settings
from muelle.engines import found
from muelle.identity.accounts import FirstLogIn
from muelle.kit import logs
from muelle.kit.home import HomeLock, Holder


def run_up() -> None:
    settings = config.load()
    lock = HomeLock(settings.home)
    lock.take(Holder("muelle up", os.getpid(), settings.url))
    try:
        _run(settings, ROOMS)
    finally:
        lock.let_go()


def run_serve(rooms: Sequence[str]) -> None:
    settings = config.load()
    check_split(settings, rooms)
    _run(settings, rooms)


def check_split(settings: Settings, rooms: Sequence[str]) -> None:
    """Rooms of one installation have to share what they cannot do without."""
    for room in rooms:
        if room not in ROOMS:
            raise NoSuchRoom(name=room, rooms=", ".join(ROOMS))
    if set(rooms) == set(ROOMS):
        return
    if not settings.rabbit_url.get_secret_value():
        raise SharedPartsMissing(setting="MUELLE_RABBIT_URL", why="The rooms tell each other what happened over RabbitMQ.")
    if not settings.secret_key.get_secret_value():
        raise SharedPartsMissing(setting="MUELLE_SECRET_KEY", why="All processes have to have the same one.")
    if "identity" not in rooms and not settings.identity_url:
        raise SharedPartsMissing(setting="MUELLE_IDENTITY_URL", why="It asks the identity room who a caller is.")


def _run(settings: Settings, rooms: Sequence[str]) -> None:
    logs.set_up(settings.log_level, settings.log_format)
    listener = serving.bind(settings.host, settings.port)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(settings, rooms, listener))


async def _serve(settings: Settings, rooms: Sequence[str], listener) -> None:  # type: ignore[no-untyped-def]
    application = Application(Parts(settings), rooms)
    try:
        first = await application.start()
        engine = await found.best()
        await serving.serve(
            application.asgi,
            listener,
            settings.trusted_proxies,
            lambda: print(greeting(settings, rooms, engine, first), file=sys.stdout, flush=True),
        )
    finally:
        await application.stop()


def greeting(settings: Settings, rooms: Sequence[str], engine: found.Found, first: FirstLogIn | None) -> str:
    """What a person needs to know now: where it listens, what it stands on, how to get in, what to do next."""
    database = "PostgreSQL" if settings.database_url.get_secret_value() else f"SQLite, a file per room in {settings.home}"
    bus = "RabbitMQ" if settings.rabbit_url.get_secret_value() else "in process"
    rows = [
        ("Listening", f"{settings.url}  (main; API docs at /docs)"),
        ("Rooms", ", ".join(rooms)),
        ("Engine", f"{engine.detail}  (found; running workloads is not built yet)"),
        ("Database", database),
        ("Facts", bus),
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
    lines += ["  Next:", *(f"      {step}" for step in _next_steps(settings, first)), ""]
    return "\n".join(lines)


def _next_steps(settings: Settings, first: FirstLogIn | None) -> list[str]:
    email = first.email if first else "YOU@EXAMPLE.COM"
    return [
        f"muelle login {email} --server {settings.url}",
        "muelle whoami",
        "muelle doctor        what works here, and what does not",
        "Ctrl-C               ends it",
    ]
