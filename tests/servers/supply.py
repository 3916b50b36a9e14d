"""What a test gets when it asks for a server: an address, a server of its own, or its end by name."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import pytest

from tests.servers import finding
from tests.servers.postgres import Postgres, fresh_database
from tests.servers.private import PrivateServer
from tests.servers.rabbit import Rabbit
from tests.servers.run import Run

Own = TypeVar("Own", bound=PrivateServer)


class Servers:
    """The servers of this run, for fixtures that live longer than one test."""

    def __init__(self, run: Run, required: frozenset[str]) -> None:
        self._run = run
        self._required = required

    def need(self, name: str) -> str:
        """Where the server, or its program, is to be found; without it, the end of this test."""
        if lack := finding.lack(name):
            self._do_without(name, lack)
        return finding.KINDS[name].found() or ""

    @contextmanager
    def postgres_url(self) -> Iterator[str]:
        """A fresh database."""
        with fresh_database(self._shared(Postgres)) as url:
            yield url

    def rabbit_url(self) -> str:
        return self._shared(Rabbit)

    @contextmanager
    def own_postgres(self) -> Iterator[Postgres]:
        with self._own(Postgres) as server:
            yield server

    @contextmanager
    def own_rabbit(self) -> Iterator[Rabbit]:
        with self._own(Rabbit) as server:
            yield server

    def _shared(self, kind: type[PrivateServer]) -> str:
        """The address that a setting gives, else that of the run's own server, which the first to ask starts."""
        place = self.need(kind.name)
        if os.environ.get(finding.KINDS[kind.name].setting):
            return place

        def start() -> str:
            server = kind(Path(place), self._run.folder / kind.name, self._run)
            server.start()
            return server.url

        return self._run.shared(kind.name, start)

    @contextmanager
    def _own(self, kind: type[Own]) -> Iterator[Own]:
        if lack := finding.lack_of_own(kind.name):
            self._do_without(kind.name, lack)
        program = Path(finding.KINDS[kind.name].look() or "")
        server = kind(program, self._run.folder / f"{kind.name}-{secrets.token_hex(4)}", self._run)
        server.start()
        try:
            yield server
        finally:
            server.discard()

    def _do_without(self, name: str, lack: str) -> None:
        if name in self._required:
            pytest.fail(f"{lack}, and {finding.REQUIRE} asks for it", pytrace=False)
        pytest.skip(lack)
