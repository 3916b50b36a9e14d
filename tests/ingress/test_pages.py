"""The pages of our own: for people, for programs, for the command line, in two languages."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muelle.events import Route
from muelle.ingress.pages import ENGLISH, SPANISH, STATUS, Reason, page, preferred
from tests.ingress.harbour import HOST, SHORT, Harbour, Line, harbour

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"


@pytest.mark.parametrize(
    ("route", "status", "error"),
    [
        (Route.STOPPED, 503, "stopped"),
        (Route.FAILED, 503, "failed"),
        (Route.STARTING, 503, "starting"),
        (Route.GONE, 404, "unknown_name"),
    ],
)
async def test_whoever_is_not_there_has_a_page(route: Route, status: int, error: str) -> None:
    async with harbour(replace(SHORT, starting_seconds=0.05)) as port:
        port.lead(route=route, why='It ended with 1: <script>alert("x")</script>')
        await looks_right(await port.line(), route, status, error)


async def looks_right(line: Line, route: Route, status: int, error: str) -> None:
    reply = await line.get(more=f"Accept: {BROWSER}\nAccept-Language: es-MX,es;q=0.9,en;q=0.8\n")
    assert (reply.status, reply.headers["content-type"]) == (status, "text/html; charset=utf-8")
    assert '<html lang="es">' in reply.body.decode()
    assert "<script" not in reply.body.decode()
    assert HOST in reply.body.decode()
    reply = await line.get(more="Accept: application/json\n")
    told = json.loads(reply.body)
    assert (told["error"], reply.headers["content-type"]) == (error, "application/json")
    if route is not Route.GONE:
        assert told["why"].startswith("It ended with 1")
    assert ("retry-after" in reply.headers) == (route is Route.STARTING)
    reply = await line.get(more="Accept: */*\n")
    assert reply.headers["content-type"] == "text/plain; charset=utf-8"
    assert (await line.get(more="", method="HEAD")).status == status
    assert (await line.get()).status == status, "the connection is good for more"


async def test_an_unknown_name_has_a_page_that_no_cache_keeps(port: Harbour) -> None:
    reply = await (await port.line()).get(host="nobody.localhost", more=f"Accept: {BROWSER}\n")
    assert reply.status == 404
    assert reply.headers["cache-control"] == "no-store"
    assert "default-src 'none'" in reply.headers["content-security-policy"]
    assert b"Nothing here" in reply.body
    assert port.proxy.counters.pages[Reason.UNKNOWN] == 1


def test_a_page_that_passes_by_itself_tries_again() -> None:
    assert b'http-equiv="refresh"' in page(Reason.STARTING, accept=BROWSER).body
    assert b'http-equiv="refresh"' not in page(Reason.FAILED, accept=BROWSER).body


def test_every_reason_has_words_in_both_languages() -> None:
    assert set(ENGLISH) == set(SPANISH) == set(STATUS) == set(Reason)


@given(st.sampled_from(Reason), st.text(), st.text(), st.text(), st.text())
def test_no_text_of_anybody_gets_into_the_page_as_it_is(
    reason: Reason, host: str, why: str, accept: str, language: str
) -> None:
    made = page(reason, host=host + "<i>", why=why + "<b>&", accept=BROWSER + accept, accept_language=language)
    text = made.body.decode()
    if made.content_type.startswith("text/html"):
        assert "<i>" not in text
        assert "<b>" not in text


@pytest.mark.parametrize(
    ("header", "best"),
    [
        ("", "text/html"),
        (BROWSER, "text/html"),
        ("application/json", "application/json"),
        ("text/html;q=0.5, application/json", "application/json"),
        ("application/json;q=0.5, text/html", "text/html"),
        ("text/*", "text/html"),
        ("text/plain", "text/plain"),
        ("application/json;q=nonsense, text/plain;q=0.1", "text/plain"),
        ("application/json; charset=utf-8; q=0.9, */*;q=0.1", "application/json"),
    ],
)
def test_the_form_is_the_one_that_is_liked_best(header: str, best: str) -> None:
    assert preferred(header, ("text/html", "application/json", "text/plain")) == best


@pytest.mark.parametrize(
    ("header", "best"), [("", "en"), ("de", "en"), ("es", "es"), ("en-GB,es;q=0.9", "en"), ("de,es-AR;q=0.3", "es")]
)
def test_the_language_is_the_one_that_is_liked_best(header: str, best: str) -> None:
    assert preferred(header, ("en", "es")) == best
