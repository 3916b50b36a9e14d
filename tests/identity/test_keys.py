"""API keys: what a program may do with one, and what never."""

from __future__ import annotations

from datetime import datetime, timedelta

from muelle.identity.model import LARGEST_KEYRING
from tests.identity.doors import code_of, hold_still, key_of
from tests.world import PASSWORD, Person, World


async def test_a_key_is_shown_once_and_known_by_its_prefix_afterwards(one: World) -> None:
    ana = await one.sign_up("ana@example.com")
    made = (await ana.post("/me/keys", {"name": "deploy from CI", "scopes": ["identity:read", "audit:read"]})).json()
    text = made.pop("key")
    assert text.startswith(made["prefix"] + "_")
    assert len(text) > len(made["prefix"]) + 40
    listed = await ana.get("/me/keys")
    assert listed.json() == [made]
    assert made["scopes"] == ["audit:read", "identity:read"]
    assert made["last_used_at"] is None
    for path in ("/me/keys", "/me", "/me/account", "/me/history", "/me/sessions"):
        assert text not in (await ana.get(path)).text
        assert text.rpartition("_")[2] not in (await ana.get(path)).text


async def test_a_key_may_do_what_its_scopes_say_and_no_more(one: World) -> None:
    ana = await one.sign_up("ana@example.com")
    may = {
        ("identity:read",): {"read"},
        ("identity:write",): {"write"},
        ("identity:*",): {"read", "write"},
        ("audit:read",): {"history"},
        ("audit:*",): {"history"},
        ("identity:read", "audit:read"): {"read", "history"},
        ("*",): {"read", "write", "history"},
    }
    for scopes, expected in may.items():
        key = await key_of(ana, *scopes)
        answers = {
            "read": await key.get("/me/account"),
            "write": await key.ask("PATCH", "/me", {"name": "Ana"}),
            "history": await key.get("/me/history"),
        }
        assert {name for name, answer in answers.items() if answer.status_code == 200} == expected, scopes
        refused = [answer for name, answer in answers.items() if name not in expected]
        assert all(code_of(answer) == (403, "scope_missing") for answer in refused)


async def test_a_key_says_that_it_is_one(one: World) -> None:
    ana = await one.sign_up("ana@example.com")
    key = await key_of(ana, "identity:read")
    me = (await key.get("/me")).json()
    (listed,) = (await ana.get("/me/keys")).json()
    assert (me["id"], me["key_id"], me["session_id"], me["scopes"]) == (ana.id, listed["id"], None, ["identity:read"])
    assert (await ana.get("/me")).json()["key_id"] is None


async def test_a_key_can_touch_no_way_in(one: World) -> None:
    ana = await one.sign_up("ana@example.com")
    key = await key_of(ana, "*")
    session = (await ana.get("/me")).json()["session_id"]
    (listed,) = (await ana.get("/me/keys")).json()
    attempts = [
        ("POST", "/me/keys", {"name": "more", "scopes": ["*"]}),
        ("DELETE", f"/me/keys/{listed['id']}", None),
        ("POST", "/me/password", {"present": PASSWORD, "password": "another password"}),
        ("DELETE", "/me", {"password": PASSWORD}),
        ("POST", "/me/second-factor", None),
        ("POST", "/me/second-factor/confirm", {"code": "123456"}),
        ("DELETE", "/me/second-factor", {"code": "123456", "password": PASSWORD}),
        ("DELETE", "/me/sessions", None),
        ("DELETE", f"/me/sessions/{session}", None),
        ("POST", "/auth/logout", None),
        ("POST", "/auth/email/send", None),
        ("POST", "/auth/email/verify", {"token": "x"}),
    ]
    for method, path, body in attempts:
        assert code_of(await key.ask(method, path, body)) == (403, "session_only"), path
    assert (await ana.get("/me")).json()["session_id"] == session
    assert len((await ana.get("/me/keys")).json()) == 1


async def test_an_administrators_key_can_make_nobody_stronger(one: World) -> None:
    """Else a key with one scope could make its holder's own account an administrator's, with all of them."""
    root = await one.administrator()
    accomplice = await one.sign_up("eve@example.com")
    for scopes in (["identity:write"], ["*"]):
        key = await key_of(root, *scopes)
        answer = await key.ask("PUT", f"/accounts/{accomplice.id}/role", {"role": "admin"})
        assert code_of(answer) == (403, "session_only")
    assert (await root.get(f"/accounts/{accomplice.id}")).json()["role"] == "client"
    key = await key_of(root, "identity:write")
    assert (await key.post(f"/accounts/{accomplice.id}/suspend", {})).status_code == 200
    assert code_of(await key.get("/accounts")) == (403, "scope_missing")


async def test_a_clients_key_is_never_an_administrators(one: World) -> None:
    bea = await one.sign_up("bea@example.com")
    key = await key_of(await one.sign_up("ana@example.com"), "*")
    for method, path in (("GET", "/accounts"), ("GET", f"/accounts/{bea.id}"), ("GET", "/audit")):
        assert code_of(await key.ask(method, path)) == (403, "administrators_only")
    assert code_of(await key.post(f"/accounts/{bea.id}/suspend", {})) == (403, "administrators_only")


async def test_a_key_ends_when_it_expires(one: World) -> None:
    hold_still(one)
    ana = await one.sign_up("ana@example.com")
    until = one.clock.now() + timedelta(days=20)
    key = await key_of(ana, expires_at=until.isoformat())
    one.clock.leap(days=19)
    assert (await key.get("/me")).status_code == 200
    one.clock.leap(seconds=86_399)
    assert (await key.get("/me")).status_code == 200  # and is remembered, but not for longer than it is good
    one.clock.leap(seconds=1)
    assert code_of(await key.get("/me")) == (401, "token_expired")


async def test_an_expiry_that_makes_no_sense_is_refused(one: World) -> None:
    ana = await one.sign_up("ana@example.com")
    without_zone, too_far = "2090-01-01T00:00:00", ["9999-12-31T23:59:59-23:00", "9999-12-31T23:59:59Z"]
    for expires_at in (without_zone, *too_far, "0001-01-01T00:00:00+23:00", "tomorrow", 1e300, True, []):
        answer = await ana.post("/me/keys", {"name": "k", "scopes": ["*"], "expires_at": expires_at})
        assert answer.status_code == 422, expires_at
    answer = await ana.post("/me/keys", {"name": "k", "scopes": ["*"], "expires_at": "2001-01-01T00:00:00Z"})
    assert code_of(answer) == (422, "not_in_the_past")
    assert (await ana.get("/me/keys")).json() == []


async def test_an_expiry_is_shown_as_it_was_given_in_utc(one: World) -> None:
    ana = await one.sign_up("ana@example.com")
    answer = await ana.post("/me/keys", {"name": "k", "scopes": ["*"], "expires_at": "2090-01-01T00:30:00+02:00"})
    assert answer.json()["expires_at"] == "2089-12-31T22:30:00.000Z"


async def test_a_scope_that_is_none_is_refused(one: World) -> None:
    ana = await one.sign_up("ana@example.com")
    for scopes in ([], ["identity:fly"], ["nowhere:*"], ["identity"], ["IDENTITY:read"], ["* "], ["*", "x:y"]):
        answer = await ana.post("/me/keys", {"name": "k", "scopes": scopes})
        assert answer.status_code == 422, scopes
        if answer.json()["code"] == "unknown_scope":
            assert "identity:read" in answer.json()["hint"]
    assert (await ana.get("/me/keys")).json() == []


async def test_a_revoked_key_is_worth_nothing_at_once(one: World) -> None:
    ana, bea = await one.sign_up("ana@example.com"), await one.sign_up("bea@example.com")
    key = await key_of(ana)
    assert (await key.get("/me")).status_code == 200
    (listed,) = (await ana.get("/me/keys")).json()
    assert code_of(await bea.delete(f"/me/keys/{listed['id']}")) == (404, "no_such_key")
    assert (await key.get("/me")).status_code == 200
    assert (await ana.delete(f"/me/keys/{listed['id']}")).status_code == 204
    assert code_of(await key.get("/me")) == (401, "token_invalid")
    assert code_of(await ana.delete(f"/me/keys/{listed['id']}")) == (404, "no_such_key")


async def test_its_last_use_is_noted_to_the_minute(one: World) -> None:
    ana = await one.sign_up("ana@example.com")
    key = await key_of(ana)

    async def last_used() -> datetime:
        (listed,) = (await ana.get("/me/keys")).json()
        return datetime.fromisoformat(listed["last_used_at"])

    await key.get("/me")
    first = await last_used()
    assert abs(first - one.clock.now()) < timedelta(seconds=5)
    one.clock.leap(seconds=30)
    await key.get("/me")
    assert await last_used() == first
    one.clock.leap(seconds=40)
    await key.get("/me")
    assert timedelta(seconds=65) < await last_used() - first < timedelta(seconds=80)


async def test_a_keyring_has_an_end(one: World) -> None:
    ana = await one.sign_up("ana@example.com")
    for number in range(LARGEST_KEYRING):
        answer = await ana.post("/me/keys", {"name": f"key {number}", "scopes": ["*"]})
        assert answer.status_code == 201
    assert code_of(await ana.post("/me/keys", {"name": "one more", "scopes": ["*"]})) == (409, "keyring_full")
    (first, *_) = (await ana.get("/me/keys")).json()
    await ana.delete(f"/me/keys/{first['id']}")
    assert (await ana.post("/me/keys", {"name": "one more", "scopes": ["*"]})).status_code == 201


async def test_a_key_with_a_wrong_secret_is_no_key(one: World) -> None:
    ana = await one.sign_up("ana@example.com")
    key, other = await key_of(ana), await key_of(await one.sign_up("bea@example.com"))
    prefix = key.key.rpartition("_")[0][:11]
    mixed = f"{prefix}_{other.key[12:]}"
    for text in (mixed, key.key[:-1], key.key + "A", key.key.upper(), f"mk_{'0' * 8}_{'A' * 43}", "mk_", "mk_x_y"):
        assert code_of(await Person(one, "", key=text).get("/me")) == (401, "token_invalid"), text
    assert (await key.get("/me")).json()["id"] == ana.id
