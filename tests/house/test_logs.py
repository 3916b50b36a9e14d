"""Logs: one line an event, valid JSON where it says so, and no secret in any of them."""

from __future__ import annotations

import io
import json
import logging
import string
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import structlog
from hypothesis import assume, example, given
from hypothesis import strategies as st

from muelle.identity import tokens
from muelle.kit import logs
from muelle.kit.logs import STRUCK_OUT, redact, redact_fields

URL_SAFE = string.ascii_letters + string.digits + "-_"
HEX = "0123456789abcdef"

words = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
jwts = st.builds(
    "eyJ{}.{}.{}".format, st.text(URL_SAFE, min_size=8), st.text(URL_SAFE, min_size=8), st.text(URL_SAFE, min_size=8)
)
our_keys = st.builds(
    "{}_{}_{}".format,
    st.sampled_from(["mk", "mr"]),
    st.text(HEX, min_size=8, max_size=24),
    st.text(URL_SAFE, min_size=16),
)
hashes = st.builds(
    "$argon2id$v=19$m=65536,t=3,p=4${}${}".format, st.text(URL_SAFE, min_size=8), st.text(URL_SAFE, min_size=8)
)
kept_secret = st.text(string.ascii_letters + string.digits, min_size=8, max_size=40)
names = st.sampled_from(
    [
        "password",
        "new_password",
        "MUELLE_SECRET_KEY",
        "client-secret",
        "accessToken",
        "refresh_token",
        "api_key",
        "cookie",
    ]
)


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    """What is logged meanwhile, as JSON; afterwards all is as it was."""
    root = logging.getLogger()
    handlers, level, before = root.handlers[:], root.level, structlog.get_config()
    stream = io.StringIO()
    logs.set_up("info", "json", stream)
    structlog.configure(cache_logger_on_first_use=False)
    try:
        yield stream
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
        structlog.configure(**before)


# --- what is struck out


@given(words, st.one_of(jwts, our_keys), words)
def test_a_token_is_struck_out_of_any_text(before: str, token: str, after: str) -> None:
    shown = redact(f"{before} {token} {after}")
    assert token not in shown
    assert STRUCK_OUT in shown


def test_what_we_give_out_is_struck_out() -> None:
    key = tokens.make_key()
    assert redact(f"GET /?k={key.text} failed") == f"GET /?k={STRUCK_OUT} failed"


@given(words, hashes)
def test_the_hash_of_a_password_is_struck_out(before: str, hash: str) -> None:
    salt_and_hash = hash.split("$", 4)[4]
    assert salt_and_hash not in redact(f"{before} {hash}")


@given(st.sampled_from(["postgresql", "amqp", "smtp", "https"]), kept_secret, kept_secret)
def test_credentials_are_struck_out_of_an_address(scheme: str, user: str, secret: str) -> None:
    shown = redact(f"cannot reach {scheme}://{user}:{secret}@db.example.com:5432/x: refused")
    assert secret not in shown
    assert "@db.example.com:5432/x: refused" in shown


@given(
    names,
    kept_secret,
    st.sampled_from(["{0}={1}", "{0}: {1}", '{{"{0}": "{1}"}}', "{{'{0}': '{1}'}}", '{0} = "{1} x"']),
)
def test_what_is_called_a_secret_is_struck_out_of_a_text(name: str, secret: str, form: str) -> None:
    assume(secret not in name)
    name = name.replace("-", "_").replace("accessToken", "access_token")
    assert secret not in redact(form.format(name, secret))


def quoted_again(text: str) -> str:
    return json.dumps({"body": text})


@given(
    names.filter(lambda name: name not in ("client-secret", "accessToken")),
    st.text(st.characters(codec="utf-8", exclude_characters="\\")).map("SECRET{}SECRET".format),
    st.lists(st.sampled_from([repr, ascii, json.dumps, quoted_again, repr]), min_size=1, max_size=3),
    st.sampled_from([repr, json.dumps, lambda text: repr(text.encode())]),
    st.booleans(),
)
@example("password", "SECRET'SECRET", [repr], repr, False)
@example("password", 'SECRET"SECRET', [json.dumps, repr], json.dumps, True)
def test_a_secret_in_a_text_within_a_text_is_struck_out(
    name: str, secret: str, around: list[Callable[[str], str]], quote: Callable[[str], str], as_object: bool
) -> None:
    text = f"{{{quote(name)[-len(name) - 2 :]}: {quote(secret)}, 'x': 1}}" if as_object else f"{name}={quote(secret)}"
    for again in around:
        text = again(text)
    assert "SECRET" not in redact(text).replace(name, "")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (r"refused: 'password=\'hush\''", r"refused: 'password=\'[secret]\''"),
        (r'{"body": "{\"password\": \"hu\\\"sh\", \"x\": 1}"}', r'{"body": "{\"password\": \"[secret]\", \"x\": 1}"}'),
        (r"'one line\npassword=hush'", r"'one line\npassword=[secret]'"),
        ("{'token': b'hush', 'x': 1}", "{'token': '[secret]', 'x': 1}"),
        ('cut off: {"secret": "hush and hu', 'cut off: {"secret": "[secret]"'),
        ('{"secret": "", "x": 1}', '{"secret": "[secret]", "x": 1}'),
    ],
)
def test_what_is_around_a_secret_stays(text: str, shown: str) -> None:
    assert redact(text) == shown
    assert redact(shown) == shown


@given(st.sampled_from(["Bearer", "bearer", "Basic", "Muelle-Service"]), kept_secret)
def test_a_header_that_lets_in_is_struck_out(scheme: str, secret: str) -> None:
    assert secret not in redact(f"sent {scheme} {secret} and got 401")


@given(names, st.one_of(kept_secret, st.integers(), st.lists(kept_secret), st.binary()), words, words)
@example("password", 'a"b\\c', "x", "y")
@example("password", "correct horse battery staple", "x", "y")
def test_a_field_that_is_called_a_secret_is_never_shown(name: str, secret: Any, other: str, value: str) -> None:
    assume(not logs._is_secret(other))
    nested = {"event": "x", name: secret, "inner": [{name: secret, other: 1}]}
    shown = redact_fields(None, "info", nested)
    assert shown[name] == STRUCK_OUT
    assert shown["inner"][0][name] == STRUCK_OUT


def test_what_is_no_secret_stays() -> None:
    for text in (
        "GET /api/v1/me 200",
        "it took 3 s: fine",
        "password_reset_requested",
        "http://127.0.0.1:7070/docs",
        "None",
    ):
        assert redact(text) == text
    fields = {"event": "request", "status": 200, "ms": 1.5, "password": None, "secret": True, "rooms": ["identity"]}
    assert redact_fields(None, "info", dict(fields)) == fields


# --- the line


@given(
    st.recursive(
        st.one_of(words, st.integers(), st.floats(allow_nan=False), st.none(), st.binary(max_size=8)),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    ),
    words,
)
def test_every_line_is_valid_json(value: Any, name: str) -> None:
    shown = redact_fields(None, "info", {"event": "x", name: value})
    line = str(structlog.processors.JSONRenderer()(None, "info", shown))
    assert "\n" not in line
    assert isinstance(json.loads(line), dict)


def test_our_events_and_those_of_libraries_come_as_one_json_line_each(lines: io.StringIO) -> None:
    structlog.get_logger("muelle.test").info(
        "ours", path='/a "b"\n\\c', password="hush-hush", at={"token": "hush-hush"}
    )
    logging.getLogger("library").warning("theirs: postgresql://ana:hush-hush@db/x %s", {"password": "hush-hush"})
    try:
        raise ValueError("cannot log in with password='hush-hush \"quoted\"'")
    except ValueError:
        structlog.get_logger("muelle.test").error("broken", exc_info=True)
    ours, theirs, broken = (json.loads(line) for line in lines.getvalue().splitlines())
    assert (ours["event"], ours["level"], ours["logger"]) == ("ours", "info", "muelle.test")
    assert ours["path"] == '/a "b"\n\\c'
    assert theirs["event"].startswith("theirs: postgresql://[secret]@db/x")
    assert "Traceback" in broken["exception"]
    assert "hush-hush" not in lines.getvalue()


def test_the_chatter_of_libraries_is_not_logged(lines: io.StringIO) -> None:
    for name in ("uvicorn.error", "uvicorn.access", "alembic.runtime.migration", "httpx", "aiosqlite", "asyncio"):
        logging.getLogger(name).info("chatter")
    structlog.get_logger("muelle.test").debug("too fine")
    assert lines.getvalue() == ""


def test_text_is_for_people(lines: io.StringIO) -> None:
    stream = io.StringIO()
    logs.set_up("warning", "text", stream)
    structlog.configure(cache_logger_on_first_use=False)
    structlog.get_logger("muelle.test").info("too fine")
    structlog.get_logger("muelle.test").warning("mind this", secret="hush-hush")
    assert "mind this" in stream.getvalue()
    assert STRUCK_OUT in stream.getvalue()
    assert "hush-hush" not in stream.getvalue()
    assert "{" not in stream.getvalue()
