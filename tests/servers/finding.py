"""Where a server for tests comes from: the setting that points at one, else what this machine has."""

import os
import shutil
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

REQUIRE = "MUELLE_TEST_REQUIRE"

# Distributions keep the servers' programs off the PATH, or put a wrapper there that insists on a user of its own.
POSTGRES_PLACES = ("/usr/lib/postgresql/*/bin/postgres", "/usr/pgsql-*/bin/postgres")
RABBIT_PLACES = ("/usr/lib/rabbitmq/lib/*/sbin/rabbitmq-server", "/opt/rabbitmq/sbin/rabbitmq-server")
CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome")
DOCKER_SOCKET = "unix:///var/run/docker.sock"
DOCKER_ANSWERS_WITHIN_SECONDS = 2.0


@dataclass(frozen=True)
class Kind:
    """A sort of server that a test may need: the setting that points at one, and how to look for one without it."""

    setting: str
    sought: str
    look: Callable[[], str | None]

    def found(self) -> str | None:
        """The setting's value, else what this machine has, else nothing."""
        return os.environ.get(self.setting) or self.look()


def lack(name: str) -> str | None:
    """The sentence that a skipped test shows, or nothing where the server is there."""
    kind = KINDS[name]
    return None if kind.found() else f"needs {name}: no {kind.setting} and no {kind.sought}"


def lack_of_own(name: str) -> str | None:
    """The same for a test that kills its server: one that a setting points at is not ours to kill."""
    kind = KINDS[name]
    return None if kind.look() else f"needs {name}: no {kind.sought} to start one of its own"


def required(environment: Mapping[str, str]) -> frozenset[str]:
    """The servers whose lack is a failure; a name that is no server is refused."""
    words = {word.strip() for word in environment.get(REQUIRE, "").split(",")} - {""}
    if unknown := words - {"all", *KINDS}:
        raise ValueError(f"{REQUIRE} names {', '.join(sorted(unknown))}; allowed are all, {', '.join(KINDS)}")
    return frozenset(KINDS if "all" in words else words)


def look_for_postgres() -> str | None:
    return newest(POSTGRES_PLACES) or shutil.which("postgres")


def look_for_rabbit() -> str | None:
    return newest(RABBIT_PLACES) or shutil.which("rabbitmq-server")


def look_for_docker() -> str | None:
    address = os.environ.get("DOCKER_HOST") or DOCKER_SOCKET
    return address if docker_answers(address) else None


def look_for_chromium() -> str | None:
    return next((path for name in CHROMIUM_NAMES if (path := shutil.which(name))), None)


KINDS = {
    "postgres": Kind("MUELLE_TEST_POSTGRES_URL", "installed postgres", look_for_postgres),
    "rabbitmq": Kind("MUELLE_TEST_RABBIT_URL", "installed rabbitmq-server", look_for_rabbit),
    "docker": Kind("MUELLE_TEST_DOCKER_HOST", "Docker engine that answers", look_for_docker),
    "caddy": Kind("MUELLE_TEST_CADDY", "installed caddy", lambda: shutil.which("caddy")),
    "chromium": Kind("MUELLE_TEST_CHROMIUM", "installed chromium", look_for_chromium),
}


def newest(places: tuple[str, ...]) -> str | None:
    """The program of the highest version among those that lie at these places."""
    paths = [path for place in places for path in Path("/").glob(place.lstrip("/"))]
    return str(max(paths, key=version_in)) if paths else None


def version_in(path: Path) -> list[int]:
    digits = "".join(letter if letter.isdigit() else " " for letter in str(path))
    return [int(number) for number in digits.split()]


def docker_answers(address: str) -> bool:
    """Whether an engine answers a ping there; it is one request, so no client library is needed to ask."""
    try:
        with docker_connection(address) as connection:
            connection.sendall(b"GET /_ping HTTP/1.0\r\nHost: docker\r\n\r\n")
            return b" 200 " in connection.recv(64)
    except (OSError, ValueError):
        return False


def docker_connection(address: str) -> socket.socket:
    parts = urlsplit(address)
    if parts.scheme != "unix":
        return socket.create_connection((parts.hostname or "", parts.port or 2375), DOCKER_ANSWERS_WITHIN_SECONDS)
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(DOCKER_ANSWERS_WITHIN_SECONDS)
    connection.connect(parts.path)
    return connection
