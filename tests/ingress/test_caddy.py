"""Caddy at the door: the same names, the same pages, told anew when it forgets."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from muelle.events import Route
from muelle.ingress.caddy import Caddy, CaddyFailed, Door, configuration, rows
from muelle.ingress.drivers import BuiltIn, Driver
from muelle.ingress.proxy import Proxy
from muelle.ingress.table import Table
from muelle.kit.clock import SystemClock
from tests.ingress.harbour import HOST, SHORT, Harbour, Line
from tests.ingress.program import Call, Program
from tests.ingress.test_table import fact
from tests.servers.private import free_port
from tests.waiting import eventually


@dataclass
class Place:
    caddy: Caddy
    harbour: Harbour
    """Its lines lead to Caddy, its proxy stands behind."""

    def lead(self, to: Program | str = "", *, route: Route = Route.OPEN, host: str = HOST) -> None:
        self.harbour.lead(to, route=route, host=host)
        self.caddy.changed({})


@pytest.fixture
async def place(caddy_program: str, tmp_path: Path) -> AsyncIterator[Place]:
    table = Table()
    behind = Proxy(table, SystemClock(), limits=SHORT, trusted_proxies=["127.0.0.1"])
    door = Door("127.0.0.1", free_port())
    caddy = Caddy(caddy_program, tmp_path / "caddy", door, table, behind, SystemClock())
    await caddy.start()
    harbour = Harbour(table, behind, door.port)
    try:
        yield Place(caddy, harbour)
    finally:
        for line in harbour.lines:
            line.close()
        await caddy.stop()


async def test_names_lead_where_the_table_says(place: Place) -> None:
    async with Program() as old, Program() as new:
        for shop in (old, new, old):
            place.lead(shop)
            seen = len(shop.calls)

            async def arrives(shop: Program = shop, seen: int = seen) -> bool:
                reply = await (await place.harbour.line()).get()
                return reply.status == 200 and len(shop.calls) > seen

            await eventually(arrives)
        behind = place.harbour.proxy.counters
        before = behind.requests
        assert (await (await place.harbour.line()).get()).status == 200
        assert behind.requests == before, "what is open does not go through the proxy behind"
        call = old.calls[-1]
        assert call.one("host") == HOST
        assert call.one("x-forwarded-for") == "127.0.0.1"
        assert len(call.one("x-request-id")) >= 8


async def test_what_is_not_open_has_the_pages_of_our_own(place: Place) -> None:
    line = await place.harbour.line()
    assert (await line.get(host="nobody.localhost")).status == 404
    place.lead(route=Route.STOPPED)
    reply = await line.get(more="Accept: application/json\n")
    assert (reply.status, b"stopped" in reply.body) == (503, True)


async def test_it_is_told_again_when_it_was_killed(place: Place) -> None:
    async with Program() as shop:
        place.lead(shop)
        process = place.caddy._process
        assert process is not None
        process.send_signal(signal.SIGKILL)

        async def answers() -> bool:
            return (await (await place.harbour.line()).get()).status == 200

        await eventually(answers, seconds=20)
        assert place.caddy._process is not process
        assert len(shop.calls) == 1


async def test_a_program_that_is_none_is_told(tmp_path: Path) -> None:
    proxy = Proxy(Table(), SystemClock())
    caddy = Caddy(str(tmp_path / "none"), tmp_path, Door("127.0.0.1", 1), Table(), proxy, SystemClock())
    with pytest.raises(CaddyFailed, match="No such file"):
        await caddy.start()


async def test_an_answer_that_streams_is_passed_on_at_once(place: Place) -> None:
    async def events(call: Call) -> None:
        await call.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n")
        await call.reader.read()

    async with Program(events) as shop:
        place.lead(shop)

        async def begins() -> Line | None:
            line = await place.harbour.line()
            await line.send(f"GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
            return line if (await line.head()).status == 200 else None

        line = await eventually(begins)
        assert line is not None
        assert b"data: 1" in await line.until(b"\n\n")


def test_a_thousand_names_are_one_route() -> None:
    table = Table(fact(f"w{n}", 1, {f"{n}.x": f"{n:04}"}, Route.STOPPED if n % 2 else Route.OPEN) for n in range(1000))
    door = Door("", 80, encrypted_port=443, certificates=("shop.example",))
    made = configuration(table, door, admin="unix//x", otherwise="127.0.0.1:9")
    server = made["apps"]["http"]["servers"]["muelle"]
    assert len(server["routes"]) == 1
    assert server["listen"] == [":80", ":443"]
    assert made["apps"]["tls"] == {"certificates": {"automate": ["shop.example"]}}
    assert len(rows(table)) == 500


async def test_the_built_in_proxy_is_a_driver_like_the_other() -> None:
    driver: Driver = BuiltIn(Proxy(Table(), SystemClock()), "127.0.0.1", 0)
    await driver.start()
    driver.changed({})
    assert driver.in_flight("127.0.0.1:1") == 0
    await driver.stop()
