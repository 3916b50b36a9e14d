"""The server of static sites: what it gives, and what it never does."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from email.utils import formatdate
from pathlib import Path

import httpx
import pytest

from muelle.engines.local.site import Site, kind_of
from muelle.engines.protocol import Address, Condition
from muelle.engines.recipe import Tool
from tests.engines.local.conftest import Workshop, in_each_manner
from tests.waiting import eventually


class Served:
    def __init__(self, folder: Path, port: int) -> None:
        self.folder = folder
        self.port = port
        self.client = httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=5)

    async def raw(self, request: bytes) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(request)
        answer = await asyncio.wait_for(reader.read(), 5)
        writer.close()
        return answer


@pytest.fixture(params=[False])
async def served(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Served]:
    folder = tmp_path / "site"
    (folder / "docs").mkdir(parents=True)
    (folder / "index.html").write_text("the index")
    (folder / "docs" / "index.html").write_text("the documents")
    (folder / "ñandú file.txt").write_text("odd")
    (tmp_path / "secret").write_text("secret")
    (folder / "out").symlink_to(tmp_path / "secret")
    (folder / "outer").symlink_to(tmp_path)
    (folder / "in").symlink_to(folder / "index.html")
    server = await asyncio.start_server(Site(folder, request.param).serve, "127.0.0.1", 0)
    served = Served(folder, server.sockets[0].getsockname()[1])
    yield served
    await served.client.aclose()
    server.close()


async def test_a_path_gives_its_file_and_a_folder_its_index(served: Served) -> None:
    for path, text in {
        "/": "the index",
        "/docs/": "the documents",
        "/in": "the index",
        "/docs/index.html?v=1": "the documents",
    }.items():
        answer = await served.client.get(path)
        assert (answer.status_code, answer.text) == (200, text)
    assert (await served.client.get("/%C3%B1and%C3%BA%20file.txt")).text == "odd"


async def test_a_folder_without_its_slash_is_told_apart(served: Served) -> None:
    answer = await served.client.get("/docs?v=1")
    assert (answer.status_code, answer.headers["location"]) == (301, "/docs/?v=1")


@pytest.mark.parametrize(
    "path",
    [
        "/../secret",
        "/docs/../../secret",
        "/%2e%2e/secret",
        "/..%2fsecret",
        "/docs/..%5c..%5csecret",
        "/out",
        "/outer/secret",
        "//../secret",
        "/index.html%00.txt",
        "/%ff%fe",
        "secret",
        "/" + "a" * 5000,
    ],
)
async def test_nothing_outside_of_the_site_is_given(served: Served, path: str) -> None:
    answer = await served.raw(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    assert answer.split(b" ")[1] in (b"400", b"404")
    assert b"\r\n\r\nsecret" not in answer


async def test_a_redirect_never_leads_to_another_host_or_into_a_header(served: Served) -> None:
    (served.folder / "evil.example").mkdir()
    answer = await served.raw(b"GET //evil.example HTTP/1.1\r\nConnection: close\r\n\r\n")
    assert b"Location: /evil.example/\r\n" in answer
    answer = await served.raw(b"GET /docs%0d%0aSet-Cookie:%20a HTTP/1.1\r\nConnection: close\r\n\r\n")
    assert b"\r\nSet-Cookie" not in answer


async def test_head_has_the_headers_alone(served: Served) -> None:
    answer = await served.client.head("/")
    assert (answer.status_code, answer.content, answer.headers["content-length"]) == (200, b"", "9")


async def test_what_is_known_already_is_not_sent_again(served: Served) -> None:
    first = await served.client.get("/")
    for headers in (
        {"If-None-Match": first.headers["etag"]},
        {"If-None-Match": f'"other", W/{first.headers["etag"]}'},
        {"If-Modified-Since": first.headers["last-modified"]},
    ):
        again = await served.client.get("/", headers=headers)
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"] == first.headers["etag"]
    (served.folder / "index.html").write_text("another")
    assert (await served.client.get("/", headers={"If-None-Match": first.headers["etag"]})).text == "another"
    old = {"If-Modified-Since": formatdate(0, usegmt=True)}
    assert (await served.client.get("/", headers=old)).status_code == 200
    assert (await served.client.get("/", headers={"If-Modified-Since": "no date"})).status_code == 200


async def test_it_can_only_be_read(served: Served) -> None:
    answer = await served.client.post("/", content=b"x")
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD")


async def test_what_is_missing_is_said_so_in_the_sites_own_words(served: Served) -> None:
    assert (await served.client.get("/none")).status_code == 404
    (served.folder / "404.html").write_text("not ours")
    answer = await served.client.get("/none")
    assert (answer.status_code, answer.text) == (404, "not ours")


@pytest.mark.parametrize("served", [True], indirect=True)
async def test_with_a_fallback_paths_that_are_not_there_get_the_index_and_files_do_not(served: Served) -> None:
    answer = await served.client.get("/users/7")
    assert (answer.status_code, answer.text) == (200, "the index")
    assert (await served.client.get("/assets/gone.js")).status_code == 404


async def test_kinds_are_those_that_browsers_want() -> None:
    assert kind_of("a.html") == "text/html; charset=utf-8"
    assert kind_of("a.mjs") == "text/javascript; charset=utf-8"
    assert kind_of("a.WASM") == "application/wasm"
    assert kind_of("a.png") == "image/png"
    assert kind_of("unknown") == "application/octet-stream"


async def test_a_pipe_is_no_file_and_a_big_file_comes_whole(served: Served) -> None:
    os.mkfifo(served.folder / "pipe")
    assert (await served.client.get("/pipe")).status_code == 404
    (served.folder / "big.bin").write_bytes(os.urandom(3_000_001))
    assert (await served.client.get("/big.bin")).content == (served.folder / "big.bin").read_bytes()


@pytest.mark.parametrize(
    "request_", [b"no request\r\n\r\n", b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 20_000, b"\x16\x03\x01\r\n"]
)
async def test_nonsense_is_answered_or_hung_up_on_and_the_next_is_served(served: Served, request_: bytes) -> None:
    try:
        answer = await served.raw(request_ + b"\r\n\r\n")
        assert answer == b"" or answer.startswith(b"HTTP/1.1 400")
    except ConnectionError:
        pass
    assert (await served.client.get("/")).status_code == 200


@in_each_manner
async def test_a_site_is_run_as_any_program(workshop: Workshop) -> None:
    files = {"public/index.html": "hello", "hidden": "hidden"}
    image = await workshop.built(site="public", fallback=True, command=(), files=files, tool=Tool.NOTHING)
    name = await workshop.started("", image=image.id, port=8000)
    address = (await workshop.sighting(name)).address
    assert isinstance(address, Address)
    async with httpx.AsyncClient(trust_env=False) as client:
        url = f"http://{address.host}:{address.port}"
        assert (await eventually(lambda: client.get(f"{url}/any/path"))).text == "hello"
        assert (await client.get(f"{url}/../hidden")).text == "hello"
    await workshop.engine.stop(name)
    sighting = await workshop.sighting(name)
    assert (sighting.condition, sighting.exit_code) == (Condition.EXITED, 0)
