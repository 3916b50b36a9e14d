"""A real `muelle up`, as an operator starts it, on a free port and in a home of its own."""

from __future__ import annotations

import socket
import ssl
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx

from bench.ground import Ground
from bench.program import Program, ProgramFailed
from tests.servers.private import free_port

READY_WITHIN_SECONDS = 60.0
LOOKS_EVERY_SECONDS = 0.002
NO_CERTIFICATES = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""It is plain HTTP; reading all the world's certificates takes longer than a request."""
PASSWORD = "correct horse battery"
_QUESTION = b"GET /health/ready HTTP/1.1\r\nHost: muelle\r\nConnection: close\r\n\r\n"


class Muelle(Program):
    """Ready when `with` has been entered. `ready_seconds` says how long that took, from the start of the process."""

    def __init__(self, ground: Ground, home: str = "home", **settings: str) -> None:
        self.home = ground.folder / home
        self.port = free_port()
        self.ready_seconds = 0.0
        environment = {
            "MUELLE_HOME": str(self.home),
            "MUELLE_PORT": str(self.port),
            "MUELLE_APPS_PORT": "0",
            "MUELLE_INGRESS": "builtin",
            **{f"MUELLE_{name.upper()}": value for name, value in settings.items()},
        }
        super().__init__([*_command(), "up"], ground.folder / f"{home}.log", environment)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        began = time.monotonic()
        super().start()
        while not self._answers():
            if time.monotonic() - began > READY_WITHIN_SECONDS or self.ended:
                self.kill()
                raise ProgramFailed(f"muelle up did not get ready; its last words:\n{self.last_words()}")
            time.sleep(LOOKS_EVERY_SECONDS)
        self.ready_seconds = time.monotonic() - began

    def _answers(self) -> bool:
        """Asks once. The port is open before the program is ready: the answer is then simply long in coming."""
        try:
            with closing(socket.create_connection(("127.0.0.1", self.port), READY_WITHIN_SECONDS)) as connection:
                connection.sendall(_QUESTION)
                return connection.recv(64).startswith(b"HTTP/1.1 200 ")
        except OSError:
            return False


def _command() -> list[str]:
    """The installed command, or its module where it is not installed."""
    installed = Path(sys.executable).with_name("muelle")
    return [str(installed)] if installed.exists() else [sys.executable, "-m", "muelle"]


def client_from(muelle: Muelle, place: int = 1) -> httpx.AsyncClient:
    """A client at an address of its own on the loopback: attempts are limited for each address."""
    address = f"127.0.{place // 250}.{place % 250 + 1}"
    limits = httpx.Limits(max_connections=200)
    transport = httpx.AsyncHTTPTransport(verify=NO_CERTIFICATES, local_address=address, limits=limits)
    return httpx.AsyncClient(transport=transport, base_url=f"{muelle.url}/api/v1", timeout=60)


async def sign_up(client: httpx.AsyncClient, name: str) -> dict[str, Any]:
    """Opens an account; the answer has its tokens."""
    body = {"email": f"{name}@example.com", "password": PASSWORD, "name": name}
    answer = await client.post("/auth/signup", json=body)
    if answer.status_code != 201:
        raise ProgramFailed(f"sign-up was answered with {answer.status_code}: {answer.text}")
    tokens: dict[str, Any] = answer.json()
    return tokens
