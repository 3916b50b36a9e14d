"""Commands that talk to a server, as the person who logged in, or with an API key."""

from __future__ import annotations

import getpass
import json
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

from muelle import config
from muelle.cli import session
from muelle.cli.client import ApiKeyInForce, Client, ServerRefused, ServerSilent, address, request
from muelle.kit.errors import Invalid, Missing

CODE_NEEDED = "second_factor_needed"


class NoTerminal(Invalid):
    """There is no terminal to ask for the {what}."""

    hint = "{instead}"


class NoSuchKeyHere(Missing):
    """None of your keys is, or begins with, "{key}"."""

    hint = "`muelle keys list` shows them."


class SeveralKeys(Invalid):
    """Several of your keys begin with "{key}"."""

    hint = "Give more of it; `muelle keys list` shows them."


def log_in(email: str, server: str, *, password_stdin: bool, code: str) -> None:
    server = address(server or default_server())
    if not email:
        email = _ask("E-mail", "Give the address: muelle login YOU@EXAMPLE.COM.", secret=False)
    if password_stdin:
        password = sys.stdin.readline().rstrip("\r\n")
    else:
        password = _ask("Password", "Pipe it in with --password-stdin.")
    body = {"email": email, "password": password}
    try:
        tokens = request(server, "POST", "/auth/login", body | ({"code": code} if code else {}))
    except ServerRefused as refused:
        if refused.refusal != CODE_NEEDED:
            raise
        code = _ask("Code", "Give it with --code: six digits from the authenticator, or a recovery code.")
        tokens = request(server, "POST", "/auth/login", body | {"code": code})
    session.remember(server, tokens)
    print(f"Logged in at {server} as {tokens['account']['email']} ({tokens['account']['role']}).")


def log_out() -> None:
    """Forgets the session here in any case; says where the server could not be told."""
    if session.key_in_force():
        raise ApiKeyInForce
    client = Client.logged_in()
    try:
        client.ask("POST", "/auth/logout")
    except ServerSilent as silent:
        session.forget()
        print(f"Logged out here. {silent.message} So it could not be told: there the session expires.", file=sys.stderr)
        return
    except ServerRefused:
        print("The session was over already.", file=sys.stderr)
    session.forget()
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
    """By id, by how it begins, or by the whole key itself."""
    client = Client.here()
    begins = text.rstrip("…")
    keys = client.ask("GET", "/me/keys")
    found = [key for key in keys if key["id"] == text or key["prefix"].startswith(begins) or _is(text, key)]
    if not found or not begins:
        raise NoSuchKeyHere(key=text[:20])
    if len(found) > 1:
        raise SeveralKeys(key=begins)
    client.ask("DELETE", f"/me/keys/{found[0]['id']}")
    print(f"Revoked {found[0]['prefix']}… ({found[0]['name']}).")


def default_server() -> str:
    return config.load().url


def _is(text: str, key: dict[str, Any]) -> bool:
    return text.startswith(f"{key['prefix']}_")


def _ask(what: str, instead: str, *, secret: bool = True) -> str:
    if not sys.stdin.isatty():
        raise NoTerminal(what=what.lower(), instead=instead)
    return getpass.getpass(f"{what}: ") if secret else input(f"{what}: ").strip()
