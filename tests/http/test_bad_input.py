"""Whatever is sent, the answer says what is wrong with it in the same shape, and nothing is left half written."""

from __future__ import annotations

import base64
import json
import time
from dataclasses import dataclass
from typing import Any

import jwt
import pytest

from muelle.kit.clock import SystemClock
from muelle.kit.vault import Vault
from tests.http.raw import Answer, Headers, send
from tests.http.rows import rows
from tests.world import PASSWORD, Person, World

JSON: Headers = [(b"content-type", b"application/json")]
LOG_IN = {"email": "ana@example.com", "password": PASSWORD}


@dataclass
class Desk:
    """An installation where nothing happens by itself, somebody to ask it, and what it had before."""

    world: World
    ana: Person
    before: dict[str, int]

    async def refuses(self, answer: Answer, status: int, code: str, what: object = "") -> None:
        assert (answer.status, answer.code) == (status, code), (what, answer.body)
        assert await rows(self.world) == self.before, what


@pytest.fixture
async def desk(one: World) -> Desk:
    ana = await one.sign_up("ana@example.com")
    await one.settled()
    for loop in one.identity.loops:
        await loop.stop()
    await one.log_in("ana@example.com")  # makes the row that counts attempts
    return Desk(one, ana, await rows(one))


UNREADABLE = {
    "cut off": b'{"email": "ana@exa',
    "two values": b"{}{}",
    "single quotes": b"{'email': 'ana@example.com'}",
    "a comma too many": b'{"email": "ana@example.com",}',
    "invalid UTF-8": b'{"email": "\xff\xfe@example.com"}',
    "overlong UTF-8": b'{"email": "\xc0\xaf"}',
    "UTF-16": json.dumps(LOG_IN).encode("utf-16"),
    "NaN": b'{"email": NaN}',
    "Infinity": b'{"email": -Infinity}',
    "a bare control character": b'{"email": "a\x00b@example.com"}',
    "10,000 brackets": b"[" * 10_000,
    "10,000 brackets and back": b"[" * 10_000 + b"]" * 10_000,
    "10,000 objects": b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
    "a number of 5,000 digits": b'{"email": ' + b"9" * 5_000 + b"}",
}
WRONG = {
    "nothing": b"",
    "null": b"null",
    "a number": b"17",
    "a text": b'"email"',
    "a list": b"[]",
    "no fields": b"{}",
    "wrong types": b'{"email": 1, "password": ["x"]}',
    "an object for a text": b'{"email": {"$ne": null}, "password": {"$gt": ""}}',
    "a boolean for a text": b'{"email": true, "password": false}',
    "infinite floats": b'{"email": 1e999, "password": -1e999}',
    "an escaped NUL": b'{"email": "ana@example.com", "password": "\\u0000123456789"}',
    "half a surrogate pair": b'{"email": "\\ud800@example.com", "password": "\\udfff12345678"}',
    "a field with half a surrogate pair": b'{"email": "ana@example.com", "password": "123456789", "\\ud800": 1}',
    "an unknown field": b'{"email": "ana@example.com", "password": "123456789", "role": "admin"}',
    "an unknown field of 10,000 letters": b'{"%s": 1}' % (b"x" * 10_000),
    "an address of 10,000 letters": b'{"email": "%s@example.com", "password": "123456789"}' % (b"x" * 10_000),
    "a password of 10,000 letters": b'{"email": "ana@example.com", "password": "%s"}' % (b"x" * 10_000),
    "no address": b'{"email": "nobody", "password": "123456789"}',
    "two lines": b'{"email": "ana@example.com\\nBcc: all@example.com", "password": "123456789"}',
}


async def test_what_cannot_be_read(desk: Desk) -> None:
    token = desk.ana.credential
    for what, body in UNREADABLE.items():
        answer = await send(desk.world, "POST", b"/auth/login", body, JSON)
        await desk.refuses(answer, 400, "body_unreadable", what)
        answer = await send(desk.world, "PATCH", b"/me", body, JSON, token=token)
        await desk.refuses(answer, 400, "body_unreadable", what)


async def test_what_can_be_read_and_is_wrong(desk: Desk) -> None:
    for what, body in WRONG.items():
        for path in (b"/auth/login", b"/auth/signup"):
            answer = await send(desk.world, "POST", path, body, JSON)
            await desk.refuses(answer, 422, "fields_invalid", what)
            assert answer.json()["errors"], what
            assert len(answer.body) < 10_000, what


async def test_a_field_that_comes_twice(desk: Desk) -> None:
    body = b'{"email": "ana@example.com", "password": "123456789", "email": "root@example.com"}'
    answer = await send(desk.world, "POST", b"/auth/login", body, JSON)
    await desk.refuses(answer, 422, "field_repeated")
    assert '"email"' in answer.json()["detail"]


async def test_very_many_fields_and_values_do_not_take_long(desk: Desk) -> None:
    fields = b"{" + b",".join(b'"f%d":1' % number for number in range(80_000)) + b"}"
    scopes = b'{"name":"x","scopes":[' + b",".join(b'"x"' for _ in range(250_000)) + b"]}"
    token = desk.ana.credential
    began = time.process_time()
    await desk.refuses(await send(desk.world, "POST", b"/auth/login", fields, JSON), 422, "too_many_fields")
    await desk.refuses(await send(desk.world, "POST", b"/me/keys", scopes, JSON, token=token), 422, "fields_invalid")
    assert time.process_time() - began < 1.0


@pytest.mark.parametrize("path", [b"/auth/login", b"/auth/logout"], ids=["with a body", "without a body"])
async def test_a_body_that_is_too_large(desk: Desk, path: bytes) -> None:
    limit = desk.world.identity.settings.body_limit_bytes
    token = desk.ana.credential
    declared = await send(
        desk.world, "POST", path, b"{}", [*JSON, (b"content-length", b"%d" % (limit + 1))], token=token
    )
    await desk.refuses(declared, 413, "body_too_large")
    chunked = await send(desk.world, "POST", path, [b" " * 65_536] * (limit // 65_536 + 1), JSON, token=token)
    await desk.refuses(chunked, 413, "body_too_large")
    lying = await send(desk.world, "POST", path, b" " * (limit + 1), [(b"content-length", b"2")], token=token)
    await desk.refuses(lying, 413, "body_too_large")


async def test_a_large_body_does_not_get_a_stranger_past_the_door(desk: Desk) -> None:
    answer = await send(desk.world, "PATCH", b"/me", b"{}", [(b"content-length", b"999999999999")])
    await desk.refuses(answer, 401, "unrecognised")


async def test_somebody_who_leaves_in_the_middle_of_a_request(desk: Desk) -> None:
    answer = await send(desk.world, "POST", b"/auth/signup", b'{"email": "bob@', JSON, leaves=True)
    assert answer.status == 499  # which nobody sees but the log
    assert await rows(desk.world) == desk.before


async def test_a_body_of_another_kind(desk: Desk) -> None:
    body = json.dumps(LOG_IN).encode()
    for kind in (b"multipart/form-data; boundary=x", b"application/xml", b"text/html", b"image/png", b"\xff"):
        answer = await send(desk.world, "POST", b"/auth/login", body, [(b"content-type", kind)])
        await desk.refuses(answer, 415, "not_json", kind)


async def test_json_is_taken_whatever_it_is_called(desk: Desk) -> None:
    body = b"\xef\xbb\xbf" + json.dumps(LOG_IN).encode()
    careless = b"application/x-www-form-urlencoded", b"Text/Plain; charset=UTF-8"  # as `curl -d` says, not meaning it
    for kind in (b"", *careless, b"application/json; charset=utf-8", b"application/problem+json", b"APPLICATION/JSON"):
        answer = await send(desk.world, "POST", b"/auth/login", body, [(b"content-type", kind)] if kind else [])
        assert answer.status == 200, (kind, answer.body)


IDS = b"1 %00 Z -1 {} null %0a %ff%fe '%20OR%201=1-- ..%2f..%2fetc %ED%A0%80 01a1fc61a5f0009eefe9fe98%0a".split()
LONG_IDS = [b"0" * 23, b"0" * 25, b"0" * 100_000, b"Z" * 24, b"A" * 24, "é".encode() * 12]


async def test_an_id_that_is_none(desk: Desk) -> None:
    for id in IDS + LONG_IDS:
        for path in (b"/me/keys/", b"/me/sessions/"):
            answer = await send(desk.world, "DELETE", path + id, token=desk.ana.credential)
            codes = {404: "no_such_route", 422: "fields_invalid"}
            await desk.refuses(answer, answer.status, codes[answer.status], id)
            assert len(answer.body) < 10_000, id


async def test_an_id_that_nobody_has(desk: Desk) -> None:
    answer = await send(desk.world, "DELETE", b"/me/keys/" + b"0" * 24, token=desk.ana.credential)
    await desk.refuses(answer, 404, "no_such_key")


QUERIES = b"limit=0 limit=-1 limit=201 limit=1e9 limit=NaN limit=%00 limit= cursor= cursor=%00 cursor=;DROP cursor=%ff"
LONG_QUERIES = [b"limit=" + b"9" * 5_000, b"cursor=" + b"x" * 100_000]


async def test_a_query_that_is_wrong(desk: Desk) -> None:
    for query in QUERIES.split() + LONG_QUERIES:
        answer = await send(desk.world, "GET", b"/me/history?" + query, token=desk.ana.credential)
        await desk.refuses(answer, 422, "fields_invalid", query)
        assert len(answer.body) < 10_000, query


NO_CURSORS = rb"""null {} [] [1] ["a","b"] [null] ["-1"] ["1.5"] ["\ud800"] ["\u0000"] ["1"]x {"a":"1"} NaN""".split()
ODD_CURSORS = [b'["' + b"9" * 100 + b'"]', b"[" * 100, b'["\xff"]', '["٣"]'.encode()]


async def test_a_cursor_that_no_list_gave(desk: Desk) -> None:
    for inside in NO_CURSORS + ODD_CURSORS:
        cursor = base64.urlsafe_b64encode(inside)
        answer = await send(desk.world, "GET", b"/me/history?cursor=" + cursor, token=desk.ana.credential)
        await desk.refuses(answer, 422, "bad_cursor", inside)


async def test_a_query_that_is_very_long(desk: Desk) -> None:
    answer = await send(desk.world, "GET", b"/me/history?" + b"x=1&" * 50_000, token=desk.ana.credential)
    assert answer.status == 200


async def test_searching_for_what_means_something_to_a_database(desk: Desk) -> None:
    root = await desk.world.administrator()
    for search in (b"%25", b"_", b"'", b"%5C", b"%22", b"%25%27--"):
        answer = await send(desk.world, "GET", b"/accounts?search=" + search, token=root.credential)
        assert (answer.status, answer.json()["items"]) == (200, []), search
    for search in (b"%00", b"a%0ab", b"%7f", b"x" * 101):
        answer = await send(desk.world, "GET", b"/accounts?search=" + search, token=root.credential)
        assert (answer.status, answer.code) == (422, "fields_invalid"), search


async def test_headers_that_are_odd(desk: Desk) -> None:
    token = desk.ana.credential
    odd: list[tuple[bytes, bytes]] = [
        (b"x-request-id", b"1\r\nSet-Cookie: a=b"),
        (b"x-request-id", b"x" * 10_000),
        (b"content-length", b"-1"),
        (b"content-length", b"0x10"),
        (b"content-length", b"9" * 5_000),
        (b"user-agent", bytes(range(1, 256))),
        (b"accept", b"image/png"),
        (b"range", b"bytes=0-1"),
        (b"transfer-encoding", b"chunked"),
        (b"x-http-method-override", b"DELETE"),
        (b"host", b"evil.example"),
        (b"cookie", b"muelle_provider=\xff; =; ;;"),
        (b"if-none-match", b"*"),
    ]
    for header in odd:
        answer = await send(desk.world, "GET", b"/me", headers=[header], token=token)
        assert answer.status == 200, header
        assert len(answer.headers["x-request-id"]) == 24, header
        assert not {"set-cookie", "location"} & answer.headers.keys()
    assert await rows(desk.world) == desk.before


async def test_any_user_agent_may_log_in(desk: Desk) -> None:
    agent = [*JSON, (b"user-agent", bytes(range(1, 256)) * 40)]
    answer = await send(desk.world, "POST", b"/auth/login", json.dumps(LOG_IN).encode(), agent)
    assert answer.status == 200
    assert len((await desk.ana.get("/me/sessions")).json()) == 3


async def test_an_idempotency_key_that_is_none(desk: Desk) -> None:
    for key in (b"", b"x" * 256, b"two words", b"\xff", b"tab\t"):
        header = [*JSON, (b"idempotency-key", key)]
        answer = await send(desk.world, "PATCH", b"/me", b'{"name": "Anna"}', header, token=desk.ana.credential)
        await desk.refuses(answer, 422, "bad_idempotency_key")


async def test_a_method_that_is_not_for_that(desk: Desk) -> None:
    for method in ("FOO", "TRACE", "CONNECT", "PROPFIND", "get", "PUT"):
        answer = await send(desk.world, method, b"/me", token=desk.ana.credential)
        await desk.refuses(answer, 405, "method_not_allowed", method)
        assert answer.headers["allow"] == "DELETE, GET, HEAD, OPTIONS, PATCH"


def _claims(token: str) -> dict[str, Any]:
    return dict(jwt.decode(token, options={"verify_signature": False}))


def _forged(desk: Desk) -> dict[str, str]:
    real = desk.ana.credential
    head, body, tail = real.split(".")
    claims = _claims(real)
    key = Vault(b"x" * 32).key("access tokens")
    flipped = base64.urlsafe_b64decode(body + "==").replace(desk.ana.id.encode(), b"0" * 24)
    none = base64.urlsafe_b64encode(b'{"alg":"none","typ":"JWT"}').decode().rstrip("=")
    return {
        "without a signature": f"{head}.{body}.",
        "that says there is none": f"{none}.{body}.",
        "that says None": jwt.encode(claims, None, "none"),
        "signed with another key": jwt.encode(claims, key, "HS256"),
        "signed in another way": jwt.encode(claims, key * 2, "HS512"),
        "with another's name": f"{head}.{base64.urlsafe_b64encode(flipped).decode().rstrip('=')}.{tail}",
        "with one letter changed": f"{head}.{body}.{'A' if tail[0] != 'A' else 'B'}{tail[1:]}",
        "cut off": real[:-5],
        "twice": f"{real}.{real}",
        "for a refresh": str(desk.ana.tokens["refresh_token"]),
        "that is no key": "mk_",
        "that is nobody's key": f"mk_{'0' * 8}_{'x' * 43}",
        "of 10,000 letters": "x" * 10_000,
        "of dots": "...",
        "with a NUL": "a\0b",
        "not in ASCII": "ñ" * 20,
    }


async def test_a_token_that_is_not_ours(desk: Desk) -> None:
    for what, token in _forged(desk).items():
        answer = await send(desk.world, "GET", b"/me", token=token)
        assert (answer.status, answer.code) == (401, "token_invalid"), what
        assert answer.headers["www-authenticate"].startswith("Bearer")
    assert await rows(desk.world) == desk.before


async def test_an_authorization_that_is_none(desk: Desk) -> None:
    bare = desk.ana.credential.encode()
    for value in (b"", b"Bearer", b"Bearer ", b"Basic YTpi", bare, b"\xff\xfe", b"Muelle-Service x"):
        answer = await send(desk.world, "GET", b"/me", headers=[(b"authorization", value)])
        await desk.refuses(answer, 401, "unrecognised", value)


async def test_the_scheme_may_be_written_in_any_case(desk: Desk) -> None:
    header = b"authorization", b"bEARER " + desk.ana.credential.encode()
    assert (await send(desk.world, "GET", b"/me", headers=[header])).status == 200


async def test_a_token_is_good_for_its_time_and_no_longer(desk: Desk) -> None:
    desk.world.clock.leap(minutes=14, seconds=50)
    assert (await desk.ana.get("/me")).status_code == 200
    desk.world.clock.leap(seconds=20)
    answer = await send(desk.world, "GET", b"/me", token=desk.ana.credential)
    await desk.refuses(answer, 401, "token_expired")


async def test_clocks_may_differ_a_little_and_not_much(desk: Desk) -> None:
    desk.world.clock.leap(minutes=-5)  # who issued the token was five minutes ahead
    answer = await send(desk.world, "GET", b"/me", token=desk.ana.credential)
    await desk.refuses(answer, 401, "token_invalid")
    desk.world.clock.leap(minutes=4, seconds=40)
    assert (await desk.ana.get("/me")).status_code == 200


async def test_a_refresh_token_that_is_none(desk: Desk) -> None:
    real = str(desk.ana.tokens["refresh_token"])
    head, _, tail = real.rpartition("_")
    later, mirrored = real.replace("_1_", "_2_"), f"{head}_{tail[::-1]}"
    for token in (desk.ana.credential, real[:-1], later, mirrored, "mr_", real + "\n"):
        body = json.dumps({"refresh_token": token}).encode()
        answer = await send(desk.world, "POST", b"/auth/refresh", body, JSON)
        expected = (422, "fields_invalid") if token.endswith("\n") else (401, "token_invalid")
        await desk.refuses(answer, *expected)


async def test_a_replayed_refresh_token_closes_the_session(desk: Desk) -> None:
    body = json.dumps({"refresh_token": desk.ana.tokens["refresh_token"]}).encode()
    assert (await send(desk.world, "POST", b"/auth/refresh", body, JSON)).status == 200
    answer = await send(desk.world, "POST", b"/auth/refresh", body, JSON)
    assert (answer.status, answer.code) == (401, "refresh_reused")
    assert (await send(desk.world, "GET", b"/me", token=desk.ana.credential)).code == "token_invalid"


async def test_an_expiry_that_is_none(desk: Desk) -> None:
    moments: list[Any] = [0, 1e400, "soon", "2099-01-01", "2099-01-01T00:00:00", "9999-12-31T23:59:59-23:59"]
    moments += ["0001-01-01T00:00:00+14:00", "2099-02-30T00:00:00Z", "32503680000", True, [], "٢٠٩٩-01-01T00:00:00Z"]
    for moment in moments:
        body = json.dumps({"name": "x", "scopes": ["*"], "expires_at": moment}).replace("Infinity", "1e400").encode()
        answer = await send(desk.world, "POST", b"/me/keys", body, JSON, token=desk.ana.credential)
        await desk.refuses(answer, 422, "fields_invalid")
    past = SystemClock().now().isoformat()
    body = json.dumps({"name": "x", "scopes": ["*"], "expires_at": past}).encode()
    answer = await send(desk.world, "POST", b"/me/keys", body, JSON, token=desk.ana.credential)
    await desk.refuses(answer, 422, "not_in_the_past")
