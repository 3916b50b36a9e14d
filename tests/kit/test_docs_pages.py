from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import socket
from collections.abc import AsyncIterator
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

import httpx
import pytest
import uvicorn
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.routing import Mount

from muelle.kit.http import docs_pages
from muelle.kit.http.docs_pages import ASSETS, POLICY, add_docs_pages

BROWSER_SECONDS = 120
PAGES = ["docs", "redoc"]
PREFIXES = ["/", "/deep/prefix/"]
FOLDER = files("muelle.kit.http") / "assets"


@pytest.fixture
def app() -> Starlette:
    """A harbour's API, alone at the root and again under a prefix."""
    harbour = FastAPI(title="Harbour", docs_url=None, redoc_url=None)
    add_docs_pages(harbour, title="Harbour & <Sons>")

    @harbour.get("/moorings/{mooring_id}", summary="Look up a mooring", tags=["Moorings"])
    async def look_up_a_mooring(mooring_id: str) -> dict[str, str]:
        return {"id": mooring_id}

    return Starlette(routes=[Mount("/deep/prefix", harbour), Mount("/", harbour)])


@pytest.fixture
async def client(app: Starlette) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://harbour.test") as client:
        yield client


class Tags(HTMLParser):
    """The tags of a page, and the scripts and handlers written within it."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.within: list[str] = []
        self._in_script = False
        self.feed(html)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self._in_script = tag == "script"
        self.addresses += [value or "" for name, value in attributes if name in {"src", "href", "data-openapi"}]
        self.within += [name for name, _ in attributes if name.startswith("on")]

    def handle_data(self, data: str) -> None:
        if self._in_script and data.strip():
            self.within.append(data)

    def handle_endtag(self, tag: str) -> None:
        self._in_script = False


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("page", PAGES)
async def test_a_page_finds_all_it_needs_where_it_is(client: httpx.AsyncClient, page: str, prefix: str) -> None:
    answer = await client.get(prefix + page)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "<title>Harbour &amp; &lt;Sons&gt;</title>" in answer.text
    found = Tags(answer.text)
    assert len(found.addresses) >= 4
    for address in found.addresses:
        there = await client.get(urljoin(prefix + page, address))
        assert there.status_code == 200, address
        assert there.request.url.path.startswith(prefix)


@pytest.mark.parametrize("page", PAGES)
async def test_a_page_asks_nobody_else_and_holds_no_script(client: httpx.AsyncClient, page: str) -> None:
    answer = await client.get(f"/{page}")
    assert answer.headers["content-security-policy"] == POLICY
    assert "script-src 'self';" in POLICY
    assert "unsafe-eval" not in POLICY
    found = Tags(answer.text)
    assert found.within == []
    assert all(not urlsplit(address).scheme and not urlsplit(address).netloc for address in found.addresses)
    assert "//" not in answer.text


async def test_the_assets_are_those_that_were_written_down(client: httpx.AsyncClient) -> None:
    packages: list[dict[str, Any]] = json.loads((FOLDER / "VERSIONS.json").read_text())["packages"]
    written_down = {name: digest for package in packages for name, digest in package["files"].items()}
    for name, digest in written_down.items():
        answer = await client.get(f"/docs/assets/{name}")
        assert hashlib.sha256(answer.content).hexdigest() == digest, name
    assert all(package["name"] and package["version"] and package["licence"] for package in packages)
    assert written_down.keys() | {"start.js"} == ASSETS.keys()
    assert {entry.name for entry in FOLDER.iterdir()} == {*ASSETS, "VERSIONS.json"}


@pytest.mark.parametrize(("name", "kind"), ASSETS.items())
async def test_an_asset_comes_packed_or_plain_and_says_what_it_is(
    client: httpx.AsyncClient, name: str, kind: str
) -> None:
    plain = await client.get(f"/docs/assets/{name}", headers={"accept-encoding": "identity"})
    packed = await client.get(f"/docs/assets/{name}", headers={"accept-encoding": "br, gzip"})
    assert "content-encoding" not in plain.headers
    assert packed.headers["content-encoding"] == "gzip"
    assert plain.content == packed.content == (FOLDER / name).read_bytes()
    assert plain.headers["content-type"] == packed.headers["content-type"] == kind
    assert plain.headers["vary"] == packed.headers["vary"] == "Accept-Encoding"


async def test_a_browser_keeps_an_asset_for_ever_under_the_address_that_changes_with_it(
    client: httpx.AsyncClient,
) -> None:
    (address,) = (each for each in Tags((await client.get("/redoc")).text).addresses if "redoc.standalone" in each)
    assert "immutable" in (await client.get(f"/{address}")).headers["cache-control"]
    for other in ("/docs/assets/redoc.standalone.js", "/docs/assets/redoc.standalone.js?v=older"):
        assert (await client.get(other)).headers["cache-control"] == "no-cache"
    assert (await client.get("/redoc")).headers["cache-control"] == "no-cache"


async def test_an_asset_that_the_browser_has_is_not_sent_again(client: httpx.AsyncClient) -> None:
    first = await client.get("/docs/assets/swagger-ui.css")
    again = await client.get("/docs/assets/swagger-ui.css", headers={"if-none-match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["etag"] == first.headers["etag"]
    changed = await client.get("/docs/assets/swagger-ui.css", headers={"if-none-match": 'W/"another"'})
    assert changed.status_code == 200


@pytest.mark.parametrize(
    "name",
    [
        *("nothing.js", "VERSIONS.json", "START.JS", "", "%2e%2e", "../docs_pages.py", "..%2Fdocs_pages.py"),
        *("%2e%2e/docs_pages.py", "..%5Cdocs_pages.py", "%2Fetc%2Fpasswd", "start.js%00", "start.js%2F.."),
    ],
)
async def test_there_is_nothing_else_among_the_assets(client: httpx.AsyncClient, name: str) -> None:
    assert (await client.get(f"/docs/assets/{name}")).status_code == 404


def test_nothing_is_read_before_somebody_opens_a_page(monkeypatch: pytest.MonkeyPatch) -> None:
    def reads(package: str) -> None:
        raise AssertionError(f"something of {package} was read")

    monkeypatch.setattr(docs_pages, "files", reads)
    add_docs_pages(FastAPI(docs_url=None, redoc_url=None), title="Harbour")


def test_an_application_that_has_pages_of_its_own_is_refused() -> None:
    for app in (FastAPI(), FastAPI(docs_url=None), FastAPI(docs_url=None, redoc_url=None, openapi_url=None)):
        with pytest.raises(ValueError, match="openapi_url"):
            add_docs_pages(app, title="Harbour")


def test_the_pages_are_no_part_of_the_api() -> None:
    harbour = FastAPI(docs_url=None, redoc_url=None)
    add_docs_pages(harbour, title="Harbour")
    assert harbour.openapi()["paths"] == {}


@pytest.mark.needs("chromium")
@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("page", PAGES)
async def test_a_browser_shows_the_operations_and_asks_nobody_else(
    app: Starlette, chromium_program: str, tmp_path: Path, page: str, prefix: str
) -> None:
    async with served(app) as origin, bystander() as (proxy, asked):
        shown = await browse(chromium_program, tmp_path, origin + prefix + page, proxy)
    assert "Look up a mooring" in shown
    assert "{mooring_id}" in shown
    strangers = ("redoc", "swagger", "fonts.", "jsdelivr", "unpkg")  # Chromium asks after itself: those are not ours
    assert [line for line in asked if any(stranger in line for stranger in strangers)] == []


@contextlib.asynccontextmanager
async def served(app: Starlette) -> AsyncIterator[str]:
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off"))
    serving = asyncio.create_task(server.serve([listener]))
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        await serving


@contextlib.asynccontextmanager
async def bystander() -> AsyncIterator[tuple[str, list[str]]]:
    """A proxy that lets nothing through and remembers what it was asked: the first lines, lower case."""
    asked: list[str] = []

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append((await reader.readline()).decode("latin-1").lower())
        writer.close()

    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}", asked


async def browse(chromium: str, folder: Path, address: str, proxy: str) -> str:
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
    options += ["--disable-component-update", "--disable-sync", f"--user-data-dir={folder}", f"--proxy-server={proxy}"]
    options += ["--virtual-time-budget=8000", "--dump-dom", address]
    quiet, piped = asyncio.subprocess.DEVNULL, asyncio.subprocess.PIPE
    browser = await asyncio.create_subprocess_exec(chromium, *options, stdout=piped, stderr=quiet)
    try:
        async with asyncio.timeout(BROWSER_SECONDS):
            shown, _ = await browser.communicate()
    finally:
        if browser.returncode is None:
            browser.kill()
            await browser.wait()
    return shown.decode()
