"""Commands for whoever sits at the machine: they work on the databases, beside a running server or without one."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, TypeVar

from pydantic import Field, TypeAdapter, ValidationError

from muelle import config
from muelle.app import ROOMS, Application, NoSuchRoom
from muelle.cli.opening import at_the_desk, opened
from muelle.kit import logs
from muelle.kit.bus import Origin, origin
from muelle.kit.errors import Invalid
from muelle.kit.hosts import user_here
from muelle.kit.http import EmailText, PlainText

MOST_REDRIVEN = 10_000

Answer = TypeVar("Answer")


class NotAnEmail(Invalid):
    """That is not an e-mail address: {email}."""


class NotAName(Invalid):
    """A name is one line of 1 to 200 characters."""


class NothingToRedrive(Invalid):
    """Say which event, or `all`."""

    hint = "`muelle bus deliveries` lists them."


def migrate_all() -> None:
    async def work() -> None:
        application = await opened(config.load())
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
    email = _checked(EmailText, email, NotAnEmail(email=email))
    name = _checked(Annotated[PlainText, Field(min_length=1, max_length=200)], name, NotAName())
    password = secrets.token_urlsafe(15)
    _work(lambda application: application.identity.accounts.make_administrator(email, password, name), "identity")
    print(f"Administrator {email}\nPassword, shown only this once: {password}")


def verify_audit(expect: str, *, as_json: bool) -> int:
    verdict = _work(lambda application: application.audit.verify(expect), "audit", there=True)
    head = verdict.head.hash
    if as_json:
        found = {"whole": verdict.whole, "entries": verdict.entries, "broken": verdict.broken, "head": head}
        print(json.dumps(found))
    elif verdict.whole:
        print(f"The audit log is whole: {verdict.entries} entries.")
        print(f"Head: {head}  (note it elsewhere: it vouches for everything before it)")
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

    found = _work(find, *ROOMS, there=True)
    if as_json:
        print(json.dumps(found))
        return
    for row in found:
        print("{state:<7} {room} {consumer} {event} {type}, {attempts} attempts: {error}".format(**row))
    if not found:
        print("Nothing is parked or dead.")


def redrive(room: str, consumer: str, event_id: str) -> None:
    if room not in ROOMS:
        raise NoSuchRoom(name=room, rooms=", ".join(ROOMS))
    if consumer != "all" and not event_id:
        raise NothingToRedrive

    async def again(application: Application) -> int:
        (inbox,) = (room.furniture.inbox for room in application.rooms)
        if consumer != "all":
            await inbox.redrive(consumer, event_id)
            return 1
        dead = await inbox.set_aside("dead", limit=MOST_REDRIVEN)
        for row in dead:
            await inbox.redrive(row.consumer, row.event_id)
        return len(dead)

    print(f"{_work(again, room, there=True)} to be tried again.")


def _work(do: Callable[[Application], Awaitable[Answer]], *rooms: str, there: bool = False) -> Answer:
    async def work() -> Answer:
        origin.set(Origin(actor=f"command line ({user_here()})"[:100]))
        async with at_the_desk(config.load(), *rooms, there=there) as application:
            return await do(application)

    logs.quiet()
    return asyncio.run(work())


def _checked(kind: Any, text: str, otherwise: Invalid) -> str:
    try:
        return str(TypeAdapter(kind).validate_python(text))
    except ValidationError:
        raise otherwise from None
