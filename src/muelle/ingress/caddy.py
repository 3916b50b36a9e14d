"""Caddy at the door: run as a process of ours, told where names lead through its admin API.

All names are rows of one map behind one route, not a route each: a Caddy with 1,000 routes answers half as many
requests. What is not in the map goes to the built-in proxy, which listens on the loopback for it: that has the pages,
and the patience for what starts, so that there is one place for either.

Its admin API listens on a socket in a folder that only we may enter, and not on a port of the loopback, where programs
of tenants could reach it. A change replaces the rows as a whole, and changes that come meanwhile share the next time;
what Caddy refuses or does not hear is told again. From version 2.7 on, WebSockets outlive a change; earlier ones close
them with each.

Names in `certificates` get theirs by ACME and are served on the encrypted port; the other one stays plain HTTP.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import structlog

from muelle.events import Route
from muelle.ingress.proxy import Proxy
from muelle.ingress.table import Changes, Table
from muelle.kit.clock import Clock
from muelle.kit.errors import Unavailable

READY_WITHIN_SECONDS = 15.0
STOPS_WITHIN_SECONDS = 5.0
LOOKS_EVERY_SECONDS = 0.05
PAUSE_SECONDS = 1.0
"""Before it is told again, or started again."""
TOLD_EVERY_SECONDS = 60.0
"""Even where nothing changed: somebody else may have changed it."""
LONGEST_WAIT_SECONDS = 10.0
KEEPS_STREAMS = (2, 7)
"""The first version that can be asked to leave WebSockets alone when its configuration changes."""
STREAMS_OUTLIVE_A_CHANGE_BY = "24h"
LAST_WORDS_CHARACTERS = 500
MAP = "muelle-names"
ADMIN_HOST = "caddy"
"""What we call it: it answers to no other name."""

_log = structlog.get_logger("muelle.ingress")


class CaddyFailed(Unavailable):
    """Caddy ({program}) did not start: {reason}."""

    hint = "Read `caddy.log` in Muelle's home, or use the built-in proxy."


@dataclass(frozen=True)
class Door:
    """Where Caddy listens."""

    host: str
    port: int
    """Plain HTTP."""
    encrypted_port: int = 0
    """0: none."""
    certificates: tuple[str, ...] = ()


def rows(table: Table) -> list[dict[str, Any]]:
    """The map: each open name with its address."""
    return [{"input": entry.host, "outputs": [entry.address]} for entry in table if entry.route is Route.OPEN]


def configuration(
    table: Table, door: Door, *, admin: str, otherwise: str, version: tuple[int, ...] = KEEPS_STREAMS
) -> dict[str, Any]:
    """All that Caddy has to know; `otherwise` is where names go that lead nowhere."""
    names = {
        "@id": MAP,
        "handler": "map",
        "source": "{http.request.host}",
        "destinations": ["{muelle_place}"],
        "mappings": rows(table),
        "defaults": [otherwise],
    }
    ports = [door.port, *([door.encrypted_port] if door.encrypted_port else [])]
    server: dict[str, Any] = {
        "listen": [f"{door.host}:{port}" for port in ports],
        "automatic_https": {"disable": True},
        "routes": [{"handle": [names, _passing_on(version)]}],
    }
    apps: dict[str, Any] = {"http": {"http_port": door.port, "servers": {"muelle": server}}}
    if door.encrypted_port:
        server["tls_connection_policies"] = [{}]
        apps["http"]["https_port"] = door.encrypted_port
        apps["tls"] = {"certificates": {"automate": list(door.certificates)}}
    quiet = {"logs": {"default": {"level": "WARN"}}}
    asked = {"listen": admin, "origins": [ADMIN_HOST], "config": {"persist": False}}
    return {"admin": asked, "logging": quiet, "apps": apps}


def _passing_on(version: tuple[int, ...]) -> dict[str, Any]:
    untrue = ["Forwarded", "X-Real-Ip", "True-Client-Ip", "X-Client-Ip", "Proxy"]
    handler: dict[str, Any] = {
        "handler": "reverse_proxy",
        "upstreams": [{"dial": "{muelle_place}"}],
        "flush_interval": -1,
        "load_balancing": {"try_duration": "2s", "try_interval": "50ms"},
        "headers": {"request": {"set": {"X-Request-Id": ["{http.request.uuid}"]}, "delete": untrue}},
    }
    if version >= KEEPS_STREAMS:
        handler["stream_close_delay"] = STREAMS_OUTLIVE_A_CHANGE_BY
    return handler


class Caddy:
    """Runs Caddy, starts it again when it ends by itself, and keeps its map as the table is."""

    name = "Caddy"

    def __init__(self, program: str, folder: Path, door: Door, table: Table, behind: Proxy, clock: Clock) -> None:
        """`behind` must believe the loopback (`trusted_proxies`): Caddy tells it where requests come from."""
        self._program = program
        self._folder = folder
        self._door = door
        self.port = door.port
        self._table = table
        self._behind = behind
        self._clock = clock
        self._signal = asyncio.Event()
        self._process: asyncio.subprocess.Process | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._otherwise = ""
        self._version: tuple[int, ...] = ()
        self._socket = folder / "caddy.sock"
        self._http = httpx.AsyncClient(
            transport=httpx.AsyncHTTPTransport(uds=str(self._socket)),
            base_url=f"http://{ADMIN_HOST}",
            timeout=LONGEST_WAIT_SECONDS,
        )

    async def start(self) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._otherwise = f"127.0.0.1:{await self._behind.start('127.0.0.1', 0)}"
        try:
            self._version = await self._ask_version()
            await self._run()
        except BaseException:
            await self.stop()
            raise
        self._keeper = asyncio.create_task(self._keep(), name="caddy")

    async def stop(self) -> None:
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
            self._keeper = None
        await self._end()
        await self._http.aclose()
        await self._behind.stop()

    def changed(self, changes: Changes) -> None:
        self._signal.set()

    def in_flight(self, address: str) -> int | None:
        """Caddy does not tell how many requests go through a map."""
        return None

    async def tell(self) -> None:
        """Makes Caddy's map what the table is. Raises httpx.HTTPError."""
        told = await self._http.patch(f"/id/{MAP}/mappings", json=rows(self._table))
        told.raise_for_status()

    async def _keep(self) -> None:
        """Tells each change, and starts Caddy again when it is gone."""
        while True:
            await self._clock.wait(self._signal, TOLD_EVERY_SECONDS)
            self._signal.clear()
            try:
                if self._process is None or self._process.returncode is not None:
                    _log.warning("caddy has ended by itself and is started again")
                    await self._run()
                else:
                    await self.tell()
            except (httpx.HTTPError, OSError, CaddyFailed) as problem:
                _log.warning("caddy does not take the table", error=f"{type(problem).__name__}: {problem}")
                await self._clock.sleep(PAUSE_SECONDS)
                self._signal.set()

    async def _run(self) -> None:
        admin = f"unix/{self._socket}"
        whole = configuration(self._table, self._door, admin=admin, otherwise=self._otherwise, version=self._version)
        file = self._folder / "caddy.json"
        file.write_text(json.dumps(whole))
        self._socket.unlink(missing_ok=True)
        with (self._folder / "caddy.log").open("wb") as log:
            self._process = await self._spawn("run", "--config", str(file), out=log.fileno(), err=log.fileno())
        until = asyncio.get_running_loop().time() + READY_WITHIN_SECONDS
        while not await self._answers():
            if self._process.returncode is not None or asyncio.get_running_loop().time() > until:
                raise self._failed("it ended" if self._process.returncode is not None else "it does not answer")
            await self._clock.sleep(LOOKS_EVERY_SECONDS)
        self._notice_its_end(self._process)

    def _notice_its_end(self, process: asyncio.subprocess.Process) -> None:
        async def watch() -> None:
            await process.wait()
            self._signal.set()

        self._watch = asyncio.create_task(watch(), name="caddy's end")

    async def _answers(self) -> bool:
        try:
            return (await self._http.get(f"/id/{MAP}/destinations")).is_success
        except httpx.HTTPError:
            return False

    async def _end(self) -> None:
        process, self._process = self._process, None
        if process is None or process.returncode is not None:
            return
        process.terminate()
        try:
            async with asyncio.timeout(STOPS_WITHIN_SECONDS):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()

    async def _ask_version(self) -> tuple[int, ...]:
        asked = await self._spawn("version", out=asyncio.subprocess.PIPE, err=asyncio.subprocess.DEVNULL)
        async with asyncio.timeout(READY_WITHIN_SECONDS):
            told, _ = await asked.communicate()
        found = re.search(rb"(\d+)\.(\d+)", told)
        return (int(found[1]), int(found[2])) if found else ()

    async def _spawn(self, *words: str, out: int, err: int) -> asyncio.subprocess.Process:
        """With a home of its own, so that its certificates lie with ours, and nothing of ours in its environment."""
        kept = {name: os.environ[name] for name in ("PATH", "SSL_CERT_FILE", "SSL_CERT_DIR") if name in os.environ}
        homes = dict.fromkeys(("HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME"), str(self._folder))
        try:
            return await asyncio.create_subprocess_exec(
                *(self._program, *words),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env=kept | homes,
            )
        except OSError as problem:
            raise CaddyFailed(program=self._program, reason=problem.strerror or str(problem)) from problem

    def _failed(self, what: str) -> CaddyFailed:
        words = (self._folder / "caddy.log").read_text(errors="replace")[-LAST_WORDS_CHARACTERS:]
        return CaddyFailed(program=self._program, reason=f"{what}; its last words: {' '.join(words.split())}")
