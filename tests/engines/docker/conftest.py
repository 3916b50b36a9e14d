"""A Docker driver in an installation of its own; whatever bears its label is gone after the test."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.engines.docker.quay import Quay, open_quay
from tests.engines.docker.relay import Relay


@pytest.fixture
async def quay(docker_host: str, tmp_path: Path) -> AsyncIterator[Quay]:
    async with open_quay(docker_host, f"test-{secrets.token_hex(4)}", tmp_path) as quay:
        yield quay


@pytest.fixture
async def relay(docker_host: str, tmp_path: Path) -> AsyncIterator[Relay]:
    relay = Relay(docker_host, tmp_path / "relay.sock")
    await relay.open()
    try:
        yield relay
    finally:
        await relay.close()
