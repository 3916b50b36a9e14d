"""Ports are given out in turn."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from muelle.engines.local.ports import Ports
from muelle.engines.protocol import EngineFailed
from tests.engines.local.conftest import Workshop

RANGE = range(39_100, 39_110)


def test_a_port_comes_back_only_after_all_others_and_also_after_a_restart(tmp_path: Path) -> None:
    given = [Ports(tmp_path / "ports.json", RANGE).choose(()) for _ in range(len(RANGE))]
    assert sorted(given) == list(RANGE)
    assert Ports(tmp_path / "ports.json", RANGE).choose(()) == given[0]


def test_one_that_somebody_has_is_left_out(tmp_path: Path) -> None:
    ports = Ports(tmp_path / "ports.json", RANGE)
    with socket.create_server(("127.0.0.1", RANGE[3])):
        assert RANGE[3] not in {ports.choose({RANGE[5]}) for _ in range(20)}
        assert RANGE[5] not in {ports.choose({RANGE[5]}) for _ in range(20)}


def test_where_none_is_free_that_is_said(tmp_path: Path) -> None:
    with pytest.raises(EngineFailed, match="none is free"):
        Ports(tmp_path / "ports.json", RANGE).choose(RANGE)


async def test_one_whose_port_was_taken_meanwhile_gets_another(workshop: Workshop) -> None:
    name = await workshop.started("echo $PORT; exit 0", port=8000)
    await workshop.ended(name)
    first = int((await workshop.texts(name))[0])
    with socket.create_server(("127.0.0.1", first)):
        await workshop.engine.start(name)
        await workshop.ended(name)
    assert int((await workshop.texts(name))[1]) != first
