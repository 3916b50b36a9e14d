"""Requests to a server, and its refusals as errors of ours."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import httpx

from muelle import config
from muelle.cli import session
from muelle.cli.session import Remembered
from muelle.kit.errors import Denied, Invalid, Unavailable, Unrecognised
from muelle.kit.hosts import is_loopback

SECONDS = 15
SENDING_SECONDS = 120
"""How long a server may take for a piece of an upload, and for its answer."""
QUIET_SECONDS = 40.0
"""A stream says every 15 seconds that all is well: one that is silent for longer is cut."""


class NotLoggedIn(Unrecognised):
    """You are not logged in{where}."""

    hint = "muelle login YOU@EXAMPLE.COM{server}"


class SessionOver(Unrecognised):
    """Your session is over: {why}"""

    hint = "muelle login YOU@EXAMPLE.COM --server {server}"


class KeyRefused(Unrecognised):
    """The server at {server} does not take the API key in MUELLE_API_KEY: {why}"""

    hint = "Make another one with `muelle keys create`, or unset MUELLE_API_KEY to use your log-in."


class ApiKeyInForce(Invalid):
    """MUELLE_API_KEY is set, and an API key has no session to log out of."""

    hint = "Unset it, and revoke the key with `muelle keys revoke` if it is not needed any more."


class NoAddress(Invalid):
    """No server can be at "{text}"."""

    hint = "It begins with http:// or https://, such as http://127.0.0.1:7070."


class ServerSilent(Unavailable):
    """Nothing answers at {server}."""

    hint = "Start it with `muelle up`, or say where it is with --server."


class NotMuelle(Unavailable):
    """What answers at {server} is not Muelle."""

    hint = "Say where it is with --server."


class ServerRefused(Denied):
    """{detail}"""

    hint = "{next_step}"

    @property
    def refusal(self) -> str:
        """The server's code for it."""
        return str(self.facts["refusal"])


class Client:
    """Asks as somebody; renews a session by itself."""

    def __init__(self, remembered: Remembered, *, with_key: bool = False) -> None:
        self._remembered = remembered
        self._with_key = with_key

    @classmethod
    def here(cls) -> Client:
        key = session.key_in_force()
        if not key:
            return cls.logged_in()
        server = address(session.server_in_force() or config.load().url)
        return cls(Remembered(server, key, "", float("inf")), with_key=True)

    @classmethod
    def logged_in(cls) -> Client:
        remembered = session.recall()
        if remembered is None:
            raise NotLoggedIn(where="", server="")
        wanted = session.server_in_force()
        if wanted and address(wanted) != remembered.server:
            raise NotLoggedIn(where=f" at {address(wanted)}", server=f" --server {address(wanted)}")
        return cls(remembered)

    @property
    def server(self) -> str:
        return self._remembered.server

    def ask(self, method: str, path: str, body: object = None) -> Any:
        with self._recognised() as token:
            return request(self.server, method, path, body, token)

    def send(self, path: str, pieces: Iterable[bytes]) -> Any:
        """Uploads, piece by piece."""
        with self._recognised() as token:
            return upload(self.server, path, pieces, token)

    @contextmanager
    def listen(self, path: str, last_id: str = "", quiet_seconds: float = QUIET_SECONDS) -> Iterator[Iterator[bytes]]:
        """What a stream of events sends, from the event after that one on. ServerSilent where it is cut."""
        with self._recognised() as token, opened_stream(self.server, path, token, last_id, quiet_seconds) as pieces:
            yield pieces

    @contextmanager
    def _recognised(self) -> Iterator[str]:
        """The token to ask with, renewed where it has to be; says what to do where it is not taken."""
        try:
            if not self._remembered.is_fresh:
                self._renew()
            yield self._remembered.access_token
        except ServerRefused as refused:
            if refused.facts["status"] != httpx.codes.UNAUTHORIZED:
                raise
            kind = KeyRefused if self._with_key else SessionOver
            raise kind(server=self._remembered.server, why=refused.message) from None

    def _renew(self) -> None:
        with session.renewing():
            latest = session.recall()
            if latest is None or latest.server != self._remembered.server:
                raise NotLoggedIn(where="", server="")
            if not latest.is_fresh:  # else another command was faster
                body = {"refresh_token": latest.refresh_token}
                latest = session.remember(latest.server, request(latest.server, "POST", "/auth/refresh", body))
            self._remembered = latest


def address(text: str) -> str:
    try:
        parts = urlsplit(text.strip().rstrip("/"))
        whole = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        whole = False
    if not whole:
        raise NoAddress(text=text)
    return parts.geturl()


def request(server: str, method: str, path: str, body: object = None, token: str = "") -> Any:
    with _asking(server, token, httpx.Timeout(SECONDS)) as client:
        return _content(client.request(method, f"{server}/api/v1{path}", json=body), server)


def upload(server: str, path: str, pieces: Iterable[bytes], token: str) -> Any:
    headers = {"Content-Type": "application/octet-stream"}
    with _asking(server, token, httpx.Timeout(SENDING_SECONDS, connect=SECONDS)) as client:
        return _content(client.post(f"{server}/api/v1{path}", content=pieces, headers=headers), server)


@contextmanager
def opened_stream(server: str, path: str, token: str, last_id: str, quiet_seconds: float) -> Iterator[Iterator[bytes]]:
    headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": last_id} if last_id else {})
    timeout = httpx.Timeout(SECONDS, read=quiet_seconds)
    with (
        _asking(server, token, timeout) as client,
        client.stream("GET", f"{server}/api/v1{path}", headers=headers) as answer,
    ):
        if answer.status_code >= httpx.codes.BAD_REQUEST:
            answer.read()
            raise _refusal(answer, server)
        yield answer.iter_bytes()


@contextmanager
def _asking(server: str, token: str, timeout: httpx.Timeout) -> Iterator[httpx.Client]:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    beyond = not is_loopback(urlsplit(server).hostname or "")  # no proxy stands between a machine and itself
    try:
        with httpx.Client(timeout=timeout, headers=headers, trust_env=beyond) as client:
            yield client
    except (httpx.HTTPError, httpx.InvalidURL):
        raise ServerSilent(server=server) from None
    except UnicodeEncodeError:  # a header holds no such characters, so this cannot be a key
        raise _refused(httpx.codes.UNAUTHORIZED, "It is not known who is asking.") from None


def _content(answer: httpx.Response, server: str) -> Any:
    if answer.status_code >= httpx.codes.BAD_REQUEST:
        raise _refusal(answer, server)
    try:
        return answer.json() if answer.content else None
    except ValueError:
        raise NotMuelle(server=server) from None


def _refusal(answer: httpx.Response, server: str) -> ServerRefused | NotMuelle:
    try:
        problem = answer.json()
        errors = "; ".join(f"{item['field']}: {item['message']}" for item in problem.get("errors") or [])
        detail = " ".join(part for part in (problem["detail"], errors) if part)
        return _refused(answer.status_code, detail, problem["code"], problem.get("hint") or "")
    except (ValueError, KeyError, TypeError, AttributeError):
        return NotMuelle(server=server)


def _refused(status: int, detail: str, refusal: str = "", next_step: str = "") -> ServerRefused:
    return ServerRefused(detail=detail, next_step=next_step, refusal=refusal, status=status)
