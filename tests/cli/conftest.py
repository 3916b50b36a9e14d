"""A server that all tests of the command line may talk to, and machines of their own for those that need one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.machine import Machine, Running


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.fixture(scope="session")
def shared_machine(tmp_path_factory: pytest.TempPathFactory) -> Machine:
    return Machine(tmp_path_factory.mktemp("shared"))


@pytest.fixture(scope="session")
def server(shared_machine: Machine) -> Iterator[Running]:
    """Runs on the shared machine, since its first start."""
    with shared_machine.running() as running:
        yield running


@pytest.fixture
def visitor(shared_machine: Machine, server: Running, tmp_path: Path) -> Machine:
    """Another machine, whose commands talk to the shared server unless they say otherwise."""
    return Machine(tmp_path, settings={"MUELLE_SERVER": shared_machine.url})
