"""Who is asking, told by another process: the same answers as in one, and nothing left to chance between the two."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from muelle.app import Application
from muelle.kit.http.callers import REMEMBERED_SECONDS, RemoteCallers
from tests.world import Person, Shape, World, installation


@pytest.fixture
async def split(tmp_path: Path) -> AsyncIterator[World]:
    async with installation(Shape(split=True, postgres=False, rabbit=False), tmp_path / "home") as world:
        yield world


async def _told(person: Person, path: str) -> tuple[int, str]:
    answer = await person.get(path)
    return answer.status_code, answer.json().get("code", "")


async def test_a_token_is_refused_in_the_same_words_in_every_process(split: World) -> None:
    ana = await split.sign_up("ana@example.com")
    odd, long = Person(split, "", key="odd"), Person(split, "", key="x" * 5_000)
    for path in ("/me", "/me/history"):
        assert await _told(split.nobody(), path) == (401, "unrecognised")
        assert await _told(odd, path) == (401, "token_invalid")
        assert await _told(long, path) == (401, "token_invalid")
    split.clock.leap(minutes=16)
    for path in ("/me", "/me/history"):
        assert await _told(ana, path) == (401, "token_expired")


async def test_who_asks_is_remembered_for_a_moment_and_no_longer(split: World, monkeypatch: pytest.MonkeyPatch) -> None:
    ana = await split.sign_up("ana@example.com")
    assert (await ana.get("/me/history")).status_code == 200
    http = split.audit.http
    monkeypatch.setattr(http, "post", _no_answer)
    assert (await ana.get("/me/history")).status_code == 200
    split.clock.leap(seconds=REMEMBERED_SECONDS + 1)
    assert await _told(ana, "/me/history") == (503, "identity_silent")
    monkeypatch.undo()
    assert (await ana.get("/me/history")).status_code == 200


async def test_another_installation_is_not_believed(split: World) -> None:
    """With another secret nobody is let in, and nobody is told that it is their token's fault."""
    audit: Application = split.audit
    strangers = RemoteCallers(audit.http, "http://identity", "another installation's", split.clock)
    ana = await split.sign_up("ana@example.com")
    with pytest.raises(Exception, match="does not answer"):
        await strangers.identify(ana.credential)


async def _no_answer(*_: object, **__: object) -> httpx.Response:
    raise httpx.ConnectError("nobody is there")
