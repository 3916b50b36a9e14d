"""Commands that talk to a server, as the person who logged in."""

from __future__ import annotations

import getpass
import json
import os
import sys
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx

from muelle import config
from muelle.kit.errors import Denied, Invalid, Missing, Unavailable, Unrecognised

SECONDS = 15
EARLY_SECONDS = 30


class NotLoggedIn(Unrecognised):
    """You are not logged in."""

    hint = "muelle login YOU@EXAMPLE.COM"


class ServerSilent(Unavailable):
    """Nothing answers at {server}."""

    hint = "Start it with `muelle up`, or say where it is with --server."


class ServerRefused(Denied):
    """{detail}"""

    hint = "{next_step}"


class NoSuchKeyHere(Missing):
    """None of your keys is, or begins with, "{key}"."""


class NoPassword(Invalid):
    """There is no terminal to ask for the password."""

    hint = "Pipe it in with --password-stdin."


@dataclass(frozen=True)
class Remembered:
    server: str
    access_token: str
    refresh_token: str
    good_until: float


class Client:
    """Requests to a server; refreshes the session by itself."""

    def __init__(self, remembered: Remembered) -> None:
        self._remembered = remembered

    @classmethod
    def here(cls) -> Client:
        key = os.environ.get("MUELLE_API_KEY")
        if key:
            server = os.environ.get("MUELLE_SERVER") or default_server()
            return cls(Remembered(server, key, "", float("inf")))
        try:
            return cls(Remembered(**json.loads(_file().read_text("utf-8"))))
        except (OSError, ValueError, TypeError):
            raise NotLoggedIn from None

    def ask(self, method: str, path: str, body: object = None) -> Any:
        if self._remembered.good_until < datetime.now(UTC).timestamp() + EARLY_SECONDS:
            self._refresh()
        return request(self._remembered.server, method, path, body, self._remembered.access_token)

    def _refresh(self) -> None:
        tokens = request(
            self._remembered.server, "POST", "/auth/refresh", {"refresh_token": self._remembered.refresh_token}
        )
        self._remembered = remember(self._remembered.server, tokens)


def request(server: str, method: str, path: str, body: object = None, token: str = "") -> Any:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        answer = httpx.request(method, f"{server}/api/v1{path}", json=body, headers=headers, timeout=SECONDS)
    except (httpx.HTTPError, httpx.InvalidURL):
        raise ServerSilent(server=server) from None
    if answer.status_code >= 400:
        raise _refusal(answer)
    return answer.json() if answer.content else None


def log_in(email: str, server: str, *, password_stdin: bool, code: str) -> None:
    server = (server or default_server()).rstrip("/")
    email = email or input("E-mail: ")
    password = sys.stdin.readline().rstrip("\n") if password_stdin else _ask("Password: ")
    body = {"email": email, "password": password}
    try:
        tokens = request(server, "POST", "/auth/login", body | ({"code": code} if code else {}))
    except ServerRefused as refused:
        if refused.facts["refusal"] != "second_factor_needed" or password_stdin:
            raise
        tokens = request(server, "POST", "/auth/login", body | {"code": _ask("Code: ")})
    remember(server, tokens)
    print(f"Logged in at {server} as {tokens['account']['email']} ({tokens['account']['role']}).")


def log_out() -> None:
    client = Client.here()
    try:
        client.ask("POST", "/auth/logout")
    except ServerRefused:
        print("The session was over already.", file=sys.stderr)
    _file().unlink(missing_ok=True)
    print("Logged out.")


def who_am_i(*, as_json: bool) -> None:
    me = Client.here().ask("GET", "/me")
    if as_json:
        print(json.dumps(me))
    else:
        print(f"{me['email']} ({me['name']}), {me['role']}, {me['state']}")


def confirm_email(token: str) -> None:
    Client.here().ask("POST", "/auth/email/verify", {"token": token})
    print("Your address is confirmed.")


def list_keys(*, as_json: bool) -> None:
    keys = Client.here().ask("GET", "/me/keys")
    if as_json:
        print(json.dumps(keys))
        return
    for key in keys:
        until = f"until {key['expires_at'][:10]}" if key["expires_at"] else "for ever"
        used = f"used {key['last_used_at'][:16]}" if key["last_used_at"] else "never used"
        print(f"{key['prefix']}…  {key['name']}  [{', '.join(key['scopes'])}]  {until}, {used}")
    if not keys:
        print("You have no API keys.")


def make_key(name: str, scopes: list[str], days: int, *, as_json: bool) -> None:
    until = (datetime.now(UTC) + timedelta(days=days)).isoformat() if days else None
    made = Client.here().ask("POST", "/me/keys", {"name": name, "scopes": scopes, "expires_at": until})
    if as_json:
        print(json.dumps(made))
    else:
        print(f"{made['key']}\nThat is the key, shown only this once. Use it as MUELLE_API_KEY or as a Bearer token.")


def revoke_key(text: str) -> None:
    client = Client.here()
    begins = text.rstrip("…")
    matching = [key for key in client.ask("GET", "/me/keys") if key["id"] == text or key["prefix"].startswith(begins)]
    if len(matching) != 1 or not begins:
        raise NoSuchKeyHere(key=text)
    client.ask("DELETE", f"/me/keys/{matching[0]['id']}")
    print(f"Revoked {matching[0]['prefix']}… ({matching[0]['name']}).")


def default_server() -> str:
    return config.load().url


def remember(server: str, tokens: dict[str, Any]) -> Remembered:
    good_until = datetime.now(UTC).timestamp() + tokens["expires_in"]
    remembered = Remembered(server, tokens["access_token"], tokens["refresh_token"], good_until)
    file = _file()
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    file.touch(mode=0o600)
    file.write_text(json.dumps(asdict(remembered)), "utf-8")
    return remembered


def _file() -> Path:
    base = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(base) / "muelle" / "session.json"


def _ask(prompt: str) -> str:
    if not sys.stdin.isatty():
        raise NoPassword
    return getpass.getpass(prompt)


def _refusal(answer: httpx.Response) -> ServerRefused:
    try:
        problem = answer.json()
        errors = "; ".join(f"{item['field']}: {item['message']}" for item in problem.get("errors") or [])
        detail = " ".join(part for part in (problem["detail"], errors) if part)
        return ServerRefused(detail=detail, next_step=problem.get("hint") or "", refusal=problem["code"])
    except (ValueError, KeyError, TypeError):
        return ServerRefused(detail=f"The server answered {answer.status_code}.", next_step="", refusal="")
