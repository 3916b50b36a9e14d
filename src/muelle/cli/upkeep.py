"""Commands for whoever sits at the machine: they work on the databases, beside a running server or without one."""

from __future__ import annotations

import asyncio
import getpass
import json
import os
import re
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

from pydantic import SecretStr

from muelle import config
from muelle.app import Application, Parts
from muelle.config import Settings
from muelle.kit import logs
from muelle.kit.bus import Origin, origin
from muelle.kit.errors import Invalid
from muelle.kit.http.values import LONGEST_EMAIL

Answer = TypeVar("Answer")


class NotAnEmail(Invalid):
    """"{email}" is not an e-mail address."""


class NothingToRedrive(Invalid):
    """Say which event, or `all`."""


@asynccontextmanager
async def at_the_desk(settings: Settings) -> AsyncIterator[Application]:
    """The application without its loops: what it has to tell others is relayed by the server, or at its next start."""
    application = Application(Parts(settings))
    try:
        await application.migrate()
        yield application
    finally:
        await application.stop()


def _work(do: Callable[[Application], Awaitable[Answer]]) -> Answer:
    async def work() -> Answer:
        origin.set(Origin(actor=f"command line ({getpass.getuser()})"[:100]))
        async with at_the_desk(config.load()) as application:
            return await do(application)

    logs.quiet()
    return asyncio.run(work())


def migrate_all() -> None:
    async def work() -> None:
        application = Application(Parts(config.load()))
        try:
            steps = await application.migrate()
        finally:
            await application.stop()
        for step in steps:
            print(f"{step.database}: {step.line} {step.before or 'nothing'} → {step.after}")
        if not steps:
            print("Everything is up to date.")

    logs.quiet()
    asyncio.run(work())


def create_administrator(email: str, name: str) -> None:
    email = email.strip().lower()
    if len(email) > LONGEST_EMAIL or not re.fullmatch(r"[^@\s]+@[^@\s]+", email):
        raise NotAnEmail(email=email)
    password = secrets.token_urlsafe(15)
    _work(lambda application: application.identity.accounts.make_administrator(email, password, name))
    print(f"Administrator {email}\nPassword, shown only this once: {password}")


def verify_audit(expect: str, *, as_json: bool) -> int:
    verdict = _work(lambda application: application.audit.verify(expect))
    if as_json:
        found = {"whole": verdict.whole, "entries": verdict.entries, "broken": verdict.broken, "head": verdict.head.hash}
        print(json.dumps(found))
    elif verdict.whole:
        print(f"The audit log is whole: {verdict.entries} entries.")
        print(f"Head: {verdict.head.hash}  (note it elsewhere: it vouches for everything before it)")
    else:
        print(f"The audit log was changed: {verdict.broken}.")
    return 0 if verdict.whole else 1


def list_deliveries(*, as_json: bool) -> None:
    async def find(application: Application) -> list[dict[str, object]]:
        return [
            {
                "room": room.name,
                "consumer": row.consumer,
                "event": row.event_id,
                "type": row.type,
                "state": row.state,
                "attempts": row.attempts,
                "error": row.last_error,
            }
            for room in application.rooms
            for row in await room.furniture.inbox.set_aside()
        ]

    found = _work(find)
    if as_json:
        print(json.dumps(found))
        return
    for row in found:
        print("{state:<7} {room} {consumer} {event} {type}, {attempts} attempts: {error}".format(**row))
    if not found:
        print("Nothing is parked or dead.")


def redrive(room: str, consumer: str, event_id: str) -> None:
    if consumer != "all" and not event_id:
        raise NothingToRedrive

    async def again(application: Application) -> int:
        inboxes = {r.name: r.furniture.inbox for r in application.rooms}
        if room not in inboxes:
            raise Invalid
        if consumer != "all":
            await inboxes[room].redrive(consumer, event_id)
            return 1
        dead = await inboxes[room].set_aside("dead", limit=10_000)
        for row in dead:
            await inboxes[room].redrive(row.consumer, row.event_id)
        return len(dead)

    print(f"{_work(again)} to be tried again.")


def show_settings(*, as_json: bool) -> None:
    settings = config.load()
    from_environment = {name.removeprefix(config.PREFIX).lower() for name in os.environ if name.startswith(config.PREFIX)}
    rows = {}
    for name in Settings.model_fields:
        value = getattr(settings, name)
        shown = ("(set)" if value.get_secret_value() else "") if isinstance(value, SecretStr) else value
        source = "environment" if name in from_environment else "file" if name in settings.model_fields_set else "default"
        rows[name] = (shown, source)
    if as_json:
        print(json.dumps({name: {"value": value, "from": source} for name, (value, source) in rows.items()}, default=str))
        return
    for name, (value, source) in rows.items():
        print(f"{name:<24} {source:<12} {value}")
