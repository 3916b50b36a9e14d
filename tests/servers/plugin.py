"""What tests ask for servers by: the marker `needs`, and fixtures.

- `@pytest.mark.needs("postgres")`, or any of postgres, rabbitmq, docker, caddy, chromium: the test is skipped where
  there is none, and fails where `MUELLE_TEST_REQUIRE` names it. Every fixture here implies it.
- `postgres_url`: a fresh database on the run's one server, dropped after the test.
- `rabbit_url`, `rabbit_namespace`: the run's one broker, and a prefix for what the test declares there.
- `own_postgres`, `own_rabbit`: a server for this test alone, to be killed and started again.
- `docker_host`, `caddy_program`, `chromium_program`: found, never started.
- `servers`: the same for fixtures of a wider scope, by methods.
"""

import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.servers import finding
from tests.servers.postgres import Postgres
from tests.servers.rabbit import Rabbit
from tests.servers.run import Run
from tests.servers.supply import Servers

RUN = pytest.StashKey[Run]()
REQUIRED = pytest.StashKey[frozenset[str]]()

NEEDED_BY_FIXTURE = {
    "postgres_url": "postgres",
    "own_postgres": "postgres",
    "rabbit_url": "rabbitmq",
    "own_rabbit": "rabbitmq",
    "docker_host": "docker",
    "caddy_program": "caddy",
    "chromium_program": "chromium",
}


@pytest.fixture(scope="session")
def servers(pytestconfig: pytest.Config) -> Servers:
    return servers_of(pytestconfig)


@pytest.fixture
def postgres_url(servers: Servers) -> Iterator[str]:
    """`postgresql://…`, of a database that nobody else uses."""
    with servers.postgres_url() as url:
        yield url


@pytest.fixture
def rabbit_url(servers: Servers) -> str:
    """`amqp://…`, of a broker that the run's tests share: see `rabbit_namespace`."""
    return servers.rabbit_url()


@pytest.fixture
def rabbit_namespace() -> str:
    """A prefix for the exchanges and queues of one test; a virtual host for each would take a second or two."""
    return f"t{secrets.token_hex(4)}"


@pytest.fixture
def own_postgres(servers: Servers) -> Iterator[Postgres]:
    with servers.own_postgres() as server:
        yield server


@pytest.fixture
def own_rabbit(servers: Servers) -> Iterator[Rabbit]:
    with servers.own_rabbit() as server:
        yield server


@pytest.fixture
def docker_host(servers: Servers) -> str:
    """`unix://…` or `tcp://…`, as `DOCKER_HOST` has it."""
    return servers.need("docker")


@pytest.fixture
def caddy_program(servers: Servers) -> str:
    return servers.need("caddy")


@pytest.fixture
def chromium_program(servers: Servers) -> str:
    return servers.need("chromium")


def pytest_configure(config: pytest.Config) -> None:
    try:
        config.stash[REQUIRED] = finding.required(os.environ)
    except ValueError as wrong:
        raise pytest.UsageError(str(wrong)) from None
    told: tuple[str, int] | None = getattr(config, "workerinput", {}).get("run")
    if told is None:
        config.stash[RUN] = Run.begin()
        config.add_cleanup(config.stash[RUN].end)
    else:
        config.stash[RUN] = Run(Path(told[0]), told[1])


@pytest.hookimpl(optionalhook=True)  # there without pytest-xdist, too
def pytest_configure_node(node: Any) -> None:
    """Lets pytest-xdist's workers share their controller's run."""
    run = node.config.stash[RUN]
    node.workerinput["run"] = (str(run.folder), run.controller)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if unknown := set(needed(item)) - set(finding.KINDS):
            raise pytest.UsageError(f"{item.nodeid} needs {', '.join(sorted(unknown))}, which is no server of ours")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skips before any fixture is made, and from one place: the summary then has one line for each lacking server."""
    for name in needed(item):
        servers_of(item.config).need(name)


def needed(item: pytest.Item) -> list[str]:
    """The servers that a test asks for, by its marks and by its fixtures."""
    marked = [name for marker in item.iter_markers("needs") for name in marker.args]
    fixtures: list[str] = getattr(item, "fixturenames", [])
    return list(dict.fromkeys(marked + [NEEDED_BY_FIXTURE[name] for name in fixtures if name in NEEDED_BY_FIXTURE]))


def servers_of(config: pytest.Config) -> Servers:
    return Servers(config.stash[RUN], config.stash[REQUIRED])
