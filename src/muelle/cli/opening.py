"""Opens what a command works on, and says so in a sentence where that cannot be done."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from pydantic import SecretStr

from muelle.app import ROOMS, Application, Parts
from muelle.cli.mishaps import in_words
from muelle.config import Settings
from muelle.kit.errors import Missing, Unavailable
from muelle.kit.home import HomeUnusable

DATABASE_SECONDS = 5.0


class DatabaseUnusable(Unavailable):
    """The database of the room "{room}" cannot be used: {reason}."""

    hint = "{mend}"


class NothingHere(Missing):
    """There is no database of the room "{room}" in {home}."""

    hint = "Set MUELLE_HOME to the home of the installation that is meant."


@asynccontextmanager
async def at_the_desk(settings: Settings, *rooms: str, there: bool = False) -> AsyncIterator[Application]:
    """The rooms without their loops, and without a bus: what they have to tell is relayed by the server, or at its next
    start. With `there`, only what is there already is opened."""
    if there:
        for room in rooms:
            if not settings.database_url.get_secret_value() and not database_file(settings, room).exists():
                raise NothingHere(room=room, home=settings.home)
    application = await opened(settings.model_copy(update={"rabbit_url": SecretStr("")}), rooms)
    try:
        await application.migrate()
        yield application
    finally:
        await application.stop()


async def opened(settings: Settings, rooms: Sequence[str] = ROOMS) -> Application:
    """An application whose home, secret key and databases were looked at first: they fail in many ways."""
    make_home(settings.home)
    parts = Parts(settings)
    parts.vault()
    for room in rooms:
        await _try(parts, room)
    return Application(parts, rooms)


def make_home(home: Path) -> None:
    try:
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise HomeUnusable(home=home, reason=error.strerror) from error


def database_file(settings: Settings, room: str) -> Path:
    return settings.home / f"{room}.db"


def mend_database(settings: Settings, room: str) -> str:
    """What to do where a database cannot be used."""
    if settings.database_url.get_secret_value():
        return "systemctl start postgresql   (and see that MUELLE_DATABASE_URL is right)"
    return f"Put {database_file(settings, room)} back from a backup, or see whose it is and that the disk is not full."


async def _try(parts: Parts, room: str) -> None:
    database = parts.open(room)
    try:
        async with asyncio.timeout(DATABASE_SECONDS), database.plain_connection():
            pass
    except Unavailable:
        raise  # it says so itself
    except Exception as problem:  # drivers raise what they please; whatever it is, it is the reason
        mend = mend_database(parts.settings, room)
        raise DatabaseUnusable(room=room, reason=in_words(problem), mend=mend) from problem
    finally:
        await database.close()
