"""PostgreSQL for tests: a private server, and a fresh database for whoever asks."""

import asyncio
import os
import pwd
import secrets
import shutil
import signal
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg  # type: ignore[import-untyped]

from tests.servers.private import PrivateServer
from tests.servers.run import Command, ServerFailed, as_user

# Without fsync a test loses nothing that it could notice: what a killed server has written is still in the kernel's
# cache. Commits stay synchronous, or a kill would lose those that wait in the server's own memory.
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "300",
    "fsync": "off",
    "full_page_writes": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "shared_buffers": "64MB",
    "timezone": "UTC",
}
INITDB_WITHIN_SECONDS = 60.0


class Postgres(PrivateServer):
    """A PostgreSQL of our own; its programs lie in one folder."""

    name = "postgres"
    stop_by = signal.SIGINT  # the "fast" shutdown: clients are sent away, what is committed is written
    drop_by = signal.SIGQUIT  # writes nothing, and unlike SIGKILL gives its shared memory back

    @property
    def url(self) -> str:
        return f"postgresql://postgres:{self._password.read_text()}@127.0.0.1:{self.port}/postgres"

    def _prepare(self) -> None:
        """A cluster in plain UTF-8, without waiting for the disk; passwords go in clear, since it is only loopback."""
        self._password.touch(mode=0o600)
        self._password.write_text(secrets.token_hex(16))
        if user := another_user():
            shutil.chown(self.folder, user)
            shutil.chown(self._password, user)
        made = subprocess.run(
            [
                *(self.program.with_name("initdb"), "--pgdata", self._data, "--username=postgres", "--no-sync"),
                *("--encoding=UTF8", "--no-locale", "--auth=password", f"--pwfile={self._password}"),
            ],
            env=environment(),
            **as_user(user),
            cwd="/",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=INITDB_WITHIN_SECONDS,
            check=False,
        )
        if made.returncode:
            raise ServerFailed(f"initdb ended with {made.returncode}:\n{made.stdout}{made.stderr}")

    def _command(self) -> Command:
        settings = [word for name, value in SETTINGS.items() for word in ("-c", f"{name}={value}")]
        words = (str(self.program), "-D", str(self._data), "-p", str(self.port), *settings)
        return Command(words, environment(), another_user())

    def _is_ready(self, pid: int) -> bool:
        """By the file that `pg_ctl --wait` reads: pid first, state last; a killed server leaves an old one behind."""
        try:
            lines = (self._data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        return len(lines) >= 8 and lines[0] == str(pid) and lines[7].strip() == "ready"

    @property
    def _data(self) -> Path:
        return self.folder / "data"

    @property
    def _password(self) -> Path:
        return self.folder / "password"


@contextmanager
def fresh_database(server_url: str) -> Iterator[str]:
    """The URL of an empty database on this server, which goes away with whoever is still connected to it."""
    name = f"muelle_test_{secrets.token_hex(6)}"
    execute(server_url, f'CREATE DATABASE "{name}"')
    try:
        yield urlsplit(server_url)._replace(path=f"/{name}").geturl()
    finally:
        execute(server_url, f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


def execute(url: str, statement: str) -> None:
    """One statement on a connection of its own, in a thread: the test may have an event loop that runs already."""

    async def connect_then_execute() -> None:
        connection = await asyncpg.connect(url)
        try:
            await connection.execute(statement)
        finally:
            await connection.close()

    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, connect_then_execute()).result()


def another_user() -> str | None:
    """Whom PostgreSQL runs as where we are root, which it refuses to be."""
    if os.geteuid() != 0:
        return None
    return "postgres" if any(entry.pw_name == "postgres" for entry in pwd.getpwall()) else "nobody"


def environment() -> dict[str, str]:
    """Ours without the `PG…` variables, which would reach into the server."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PG")} | {"LC_ALL": "C"}
