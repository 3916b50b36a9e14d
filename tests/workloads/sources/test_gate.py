"""The way out: which addresses are refused, and that it is nobody else's."""

from __future__ import annotations

import asyncio
import base64
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muelle.workloads.sources.addresses import objection
from muelle.workloads.sources.errors import HostRefused, HostUnreachable, SourceTooLarge
from muelle.workloads.sources.gate import Gate
from tests.waiting import eventually

REFUSED = {
    "loopback": "127.0.0.1",
    "the rest of loopback": "127.8.9.10",
    "loopback, version 6": "::1",
    "unspecified": "0.0.0.0",  # noqa: S104 - it is what must not be connected to
    "the rest of unspecified": "0.1.2.3",
    "unspecified, version 6": "::",
    "private, ten": "10.1.2.3",
    "private, 172": "172.31.0.1",
    "private, 192": "192.168.1.1",
    "private, version 6": "fd00::1",
    "private, the old way": "fec0::1",
    "shared by a provider": "100.64.0.1",
    "the metadata of clouds": "169.254.169.254",
    "the metadata of clouds, version 6": "fd00:ec2::254",
    "link-local, version 6": "fe80::1",
    "multicast": "224.0.0.1",
    "multicast, version 6": "ff02::1",
    "broadcast": "255.255.255.255",
    "reserved": "240.0.0.1",
    "for documents": "192.0.2.1",
    "for measuring": "198.18.0.1",
    "mapped": "::ffff:127.0.0.1",
    "mapped metadata": "::ffff:a9fe:a9fe",
    "compatible": "::7f00:1",
    "6to4": "2002:7f00:1::",
    "6to4 to a private network": "2002:c0a8:101::1",
    "Teredo": "2001:0:4136:e378:8000:63bf:80ff:fffe",
    "translated": "64:ff9b::7f00:1",
    "translated metadata": "64:ff9b::a9fe:a9fe",
    "translated locally": "64:ff9b:1::a00:1",
    "nothing": "",
    "a name": "localhost",
    "with a zone": "fe80::1%lo",
}


@pytest.mark.parametrize("address", REFUSED.values(), ids=REFUSED)
def test_an_address_that_nobody_outside_has_business_with(address: str) -> None:
    assert objection(address)


@pytest.mark.parametrize("address", ["140.82.112.3", "2606:50c0:8000::153", "64:ff9b::8c52:7003", "8.8.8.8"])
def test_an_address_of_the_internet(address: str) -> None:
    assert objection(address) == ""


@given(st.ip_addresses(v=4, network="10.0.0.0/8") | st.ip_addresses(v=4, network="169.254.0.0/16"))
def test_no_way_of_writing_a_private_address_gets_through(address: object) -> None:
    number = int(address)  # type: ignore[call-overload]
    high, low = number >> 16, number & 0xFFFF
    for written in (f"{address}", f"::ffff:{address}", f"64:ff9b::{address}", f"2002:{high:x}:{low:x}::1"):
        assert objection(written)


@asynccontextmanager
async def echo() -> AsyncIterator[int]:
    """A server that gives back what it gets; gives its port."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1000):
            writer.write(data * 1000)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def knock(gate: Gate, request: str) -> tuple[bytes, asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", urlsplit(gate.url).port)
    writer.write(request.encode())
    return await reader.read(12), reader, writer


def asking(gate: Gate, target: str, method: str = "CONNECT") -> str:
    url = urlsplit(gate.url)
    words = base64.b64encode(f"{url.username}:{url.password}".encode()).decode()
    return f"{method} {target} HTTP/1.1\r\nProxy-Authorization: Basic {words}\r\n\r\n"


async def test_it_carries_bytes_to_a_host_that_is_named() -> None:
    async with echo() as port, Gate([f"localhost:{port}"], 10**6) as gate:
        status, reader, writer = await knock(gate, asking(gate, f"localhost:{port}"))
        assert status == b"HTTP/1.1 200"
        assert await reader.readuntil(b"\r\n\r\n")
        writer.write(b"x")
        assert await reader.readexactly(1000) == b"x" * 1000
        writer.close()


async def test_a_name_with_another_port_is_not_that_name() -> None:
    async with Gate(["localhost:1"], 10**6) as gate:
        status, _, writer = await knock(gate, asking(gate, "localhost:2"))
        writer.close()
        assert status == b"HTTP/1.1 403"
        assert isinstance(gate.trouble, HostRefused)


async def test_nobody_passes_without_the_password() -> None:
    async with echo() as port, Gate(["127.0.0.1"], 10**6) as gate:
        wrong = base64.b64encode(b"muelle:guess").decode()
        for more in ("", f"Proxy-Authorization: Basic {wrong}\r\n", "Proxy-Authorization: Basic \xff\r\n"):
            request = f"CONNECT 127.0.0.1:{port} HTTP/1.1\r\n{more}\r\n"
            status, _, writer = await knock(gate, request)
            writer.close()
            assert status == b"HTTP/1.1 407"
        assert gate.trouble is None


@pytest.mark.parametrize(
    "request_line",
    ["GET http://example.com/", "CONNECT", "CONNECT x", "CONNECT x:y", "CONNECT :99999", "\x00", "x" * 20_000],
)
async def test_what_is_no_connect_gets_nowhere(request_line: str) -> None:
    async with Gate([], 10**6) as gate:
        headers = asking(gate, "x").partition("\r\n")[2]
        status, _, writer = await knock(gate, f"{request_line} HTTP/1.1\r\n{headers}")
        writer.close()
        assert not status.endswith(b"200")


async def test_what_is_too_much_is_cut_off() -> None:
    async with echo() as port, Gate(["127.0.0.1"], 100_000) as gate:
        _, reader, writer = await knock(gate, asking(gate, f"127.0.0.1:{port}"))
        writer.write(b"x" * 1000)
        got = await reader.read(-1)
        writer.close()
        assert len(got) < 300_000
        assert isinstance(gate.trouble, SourceTooLarge)


async def test_a_closed_gate_lets_go_of_everybody() -> None:
    async with echo() as port:
        async with Gate(["127.0.0.1"], 10**6) as gate:
            _, reader, writer = await knock(gate, asking(gate, f"127.0.0.1:{port}"))
            door = urlsplit(gate.url).port
        await reader.read(-1)
        writer.close()
        with pytest.raises(OSError, match="refused"):
            socket.create_connection(("127.0.0.1", door or 0), timeout=5)


async def test_an_address_that_does_not_answer_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    async with Gate(["127.0.0.1"], 10**6) as gate:
        await knock(gate, asking(gate, f"127.0.0.1:{port}"))
        trouble = await eventually(lambda: gate.trouble)
        assert isinstance(trouble, HostUnreachable)
