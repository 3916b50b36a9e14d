"""Commands that talk to a server: logging in and out, and what can be done in between."""

from __future__ import annotations

import base64
import http.server
import json
import stat
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime

import pytest

from muelle.identity import totp
from tests.cli.machine import Machine, Running
from tests.servers.private import free_port

PASSWORD = "correct horse"


@pytest.fixture
def email(server: Running, request: pytest.FixtureRequest) -> str:
    """A client's account, of this test alone."""
    email = f"{request.node.name.split('[')[0][-40:]}@example.com"
    assert server.ask("POST", "/api/v1/auth/signup", {"email": email, "password": PASSWORD, "name": "Ana"})[0] == 201
    return email


@pytest.fixture
def client(visitor: Machine, email: str) -> Machine:
    """A machine on which somebody has logged in."""
    logged_in = visitor.quick("login", email, "--password-stdin", typed=f"{PASSWORD}\n")
    assert logged_in.code == 0, logged_in.err
    return visitor


def test_a_log_in_is_remembered_for_its_owner_alone_until_the_log_out(
    visitor: Machine, shared_machine: Machine, email: str
) -> None:
    unknown = visitor.run("whoami")
    assert (unknown.code, unknown.err) == (1, "muelle: You are not logged in.\n        muelle login YOU@EXAMPLE.COM\n")
    logged_in = visitor.run("login", email, "--password-stdin", typed=f"{PASSWORD}\n")
    assert logged_in.out == f"Logged in at {shared_machine.url} as {email} (client).\n"
    assert PASSWORD not in visitor.session_file.read_text()
    assert stat.S_IMODE(visitor.session_file.stat().st_mode) == 0o600
    assert visitor.run("whoami").out == f"{email} (Ana), client, active\n"
    told = visitor.quick("whoami", "--json").json
    assert (told["email"], told["role"]) == (email, "client")
    old = visitor.session_file.read_text()
    assert visitor.run("logout").out == "Logged out.\n"
    assert not visitor.session_file.exists()
    assert visitor.quick("logout").code == 1
    visitor.session_file.write_text(old)
    assert "Your session is over" in visitor.quick("whoami").err


@pytest.mark.parametrize(
    ("words", "typed", "told"),
    [
        (["nobody@example.com", "--password-stdin"], "wrong\n", "The e-mail address or the password is wrong."),
        (["nobody@example.com", "--password-stdin"], "", "password"),
        (["no address", "--password-stdin"], "wrong\n", "email"),
        (["nobody@example.com"], "", "There is no terminal to ask for the password."),
        ([], "", "There is no terminal to ask for the e-mail."),
        (["a@example.com", "--server", "example.com"], "", 'No server can be at "example.com".'),
        (["a@example.com", "--server", "http://h:port"], "", 'No server can be at "http://h:port".'),
    ],
)
def test_a_log_in_that_fails_says_why(visitor: Machine, words: list[str], typed: str, told: str) -> None:
    refused = visitor.quick("login", *words, typed=typed)
    assert (refused.code, told in refused.err) == (1, True), refused.err
    assert not visitor.session_file.exists()


def test_a_server_that_is_silent_or_something_else_is_told(machine: Machine) -> None:
    nowhere = f"http://127.0.0.1:{free_port()}"
    silent = machine.quick("login", "a@example.com", "--password-stdin", "--server", nowhere, typed="x\n")
    assert (silent.code, f"Nothing answers at {nowhere}." in silent.err) == (1, True)
    with something_else() as address:
        other = machine.quick("login", "a@example.com", "--password-stdin", "--server", address, typed="x\n")
    assert (other.code, f"What answers at {address} is not Muelle." in other.err) == (1, True)


def test_a_session_is_renewed_by_itself_and_by_one_command_only(client: Machine, email: str) -> None:
    remembered = json.loads(client.session_file.read_text())
    client.session_file.write_text(json.dumps(remembered | {"access_token": "expired", "good_until": 0}))
    with ThreadPoolExecutor() as pool:
        both = list(pool.map(lambda _: client.run("whoami"), range(2)))
    assert [ended.code for ended in both] == [0, 0], both
    renewed = json.loads(client.session_file.read_text())
    assert renewed["refresh_token"] != remembered["refresh_token"]
    assert renewed["good_until"] > datetime.now(UTC).timestamp()
    client.session_file.write_text(json.dumps(remembered | {"good_until": 0}))
    stolen = client.quick("whoami")
    assert stolen.code == 1, "a refresh token that was used before closes the session"
    assert "Your session is over" in stolen.err
    assert "muelle login" in stolen.err


def test_a_session_file_that_is_broken_is_as_good_as_none(client: Machine) -> None:
    for content in (
        "",
        "[]",
        "{}",
        '{"server": "x", "access_token": 1, "refresh_token": 1, "good_until": "soon"}',
        "\xff",
    ):
        client.session_file.write_text(content, "latin-1")
        assert client.quick("whoami").err.startswith("muelle: You are not logged in.")


def test_a_session_is_for_the_server_where_it_was_opened(client: Machine) -> None:
    elsewhere = client.quick("whoami", MUELLE_SERVER="http://127.0.0.1:1/")
    assert "You are not logged in at http://127.0.0.1:1." in elsewhere.err


def test_a_key_is_shown_once_and_works_until_it_is_revoked(client: Machine, email: str) -> None:
    assert client.quick("keys", "list").out == "You have no API keys.\n"
    made = client.quick("keys", "create", "deploy from CI", "--scope", "identity:read", "--days", "30")
    key = made.out.splitlines()[0]
    assert key.startswith("mk_")
    listed = client.quick("keys", "list")
    assert "deploy from CI  [identity:read]  until 20" in listed.out
    assert key not in listed.out

    program = Machine(client.folder / "program", settings=client.settings | {"MUELLE_API_KEY": key})
    program.folder.mkdir()
    assert program.quick("whoami").out == f"{email} (Ana), client, active\n"
    assert program.quick("keys", "create", "another").code == 1, "a key makes no keys"
    assert "MUELLE_API_KEY" in program.quick("logout").err

    assert f"Revoked {key[:11]}…" in client.quick("keys", "revoke", key).out
    refused = program.quick("whoami")
    assert refused.code == 1
    assert "does not take the API key in MUELLE_API_KEY" in refused.err
    assert "does not take" in program.quick("whoami", MUELLE_API_KEY="no key, ünd not even ASCII").err


def test_keys_are_named_by_how_they_begin(client: Machine) -> None:
    made = [client.quick("keys", "create", name, "--json").json for name in ("one", "two")]
    assert [key["name"] for key in client.quick("keys", "list", "--json").json] == ["one", "two"]
    assert "Several of your keys" in client.quick("keys", "revoke", "mk_").err
    assert "None of your keys" in client.quick("keys", "revoke", "mk_zz").err
    assert "None of your keys" in client.quick("keys", "revoke", "").err
    assert client.quick("keys", "revoke", made[0]["prefix"]).code == 0
    assert client.quick("keys", "revoke", made[1]["id"]).code == 0
    wrong = client.quick("keys", "create", "x", "--scope", "no:such")
    assert (wrong.code, 'There is no scope "no:such".' in wrong.err) == (1, True)


def test_the_second_factor_is_asked_for(visitor: Machine, server: Running, email: str) -> None:
    codes = turn_on_second_factor(server, email)
    typed = f"{PASSWORD}\n"
    unasked = visitor.quick("login", email, "--password-stdin", typed=typed)
    assert (unasked.code, "Give it with --code" in unasked.err) == (1, True), unasked.err
    wrong = visitor.quick("login", email, "--password-stdin", "--code", "ffffff-ffffff", typed=typed)
    assert (wrong.code, "The code is wrong" in wrong.err) == (1, True), wrong.err
    assert visitor.quick("login", email, "--password-stdin", "--code", codes[0], typed=typed).code == 0

    terminal = visitor.type_at("login", email)
    terminal.until("Password: ")
    terminal.type(f"{PASSWORD}\n")
    terminal.until("Code: ")
    terminal.type(f"{codes[1]}\n")
    ended = terminal.end()
    assert (ended.code, f"as {email}" in ended.out) == (0, True), ended.out
    assert PASSWORD not in ended.out, "a password is not echoed"


def test_ctrl_c_at_a_prompt_ends_it_quietly(visitor: Machine) -> None:
    terminal = visitor.type_at("login", "ana@example.com")
    terminal.until("Password: ")
    terminal.type("\x03")
    assert terminal.end().code == 130


def test_a_log_out_forgets_the_session_even_where_the_server_cannot_be_told(client: Machine) -> None:
    remembered = json.loads(client.session_file.read_text())
    nowhere = f"http://127.0.0.1:{free_port()}"
    client.session_file.write_text(json.dumps(remembered | {"server": nowhere}))
    ended = client.quick("logout", MUELLE_SERVER=nowhere)
    assert (ended.code, f"Nothing answers at {nowhere}" in ended.err) == (0, True)
    assert not client.session_file.exists()


def turn_on_second_factor(server: Running, email: str) -> list[str]:
    """Returns the recovery codes."""
    token = server.log_in(email, PASSWORD)[1]["access_token"]
    status, setup = server.ask("POST", "/api/v1/me/second-factor", token=token)
    assert status == 201
    secret = base64.b32decode(setup["secret"] + "=" * (-len(setup["secret"]) % 8))
    code = totp.code_at(secret, totp.step_at(datetime.now(UTC)))
    status, shown = server.ask("POST", "/api/v1/me/second-factor/confirm", {"code": code}, token=token)
    assert status == 200
    codes: list[str] = shown["recovery_codes"]
    return codes


@contextmanager
def something_else() -> Iterator[str]:
    """A web server, but not ours."""

    class Page(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<html>hello</html>")

        def log_message(self, *_: object) -> None: ...

    with http.server.HTTPServer(("127.0.0.1", 0), Page) as web:
        threading.Thread(target=web.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{web.server_port}"
        web.shutdown()
