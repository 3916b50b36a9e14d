"""A small server of static sites, run as a program of its own: `python -m muelle.engines.local.site FOLDER PORT`.

It answers GET and HEAD with files below its folder and nothing else, whatever the path says and wherever links lead.
With `--fallback` a path that is not there gets the index, as single-page applications want it, unless it looks like a
file. Nothing but the standard library, and this file alone: it is started as often as there are sites.
"""

from __future__ import annotations

import sys

if __name__ == "__main__":
    sys.modules["ssl"] = None  # type: ignore[assignment]  # a third of the start, for something that is not used here

import argparse
import asyncio
import mimetypes
import os
import signal
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from email.utils import formatdate, parsedate_to_datetime
from http import HTTPStatus
from pathlib import Path
from urllib.parse import quote, unquote_to_bytes

HEAD_BYTES = 32_768
HEAD_SECONDS = 15.0
IDLE_SECONDS = 75.0
CHUNK_BYTES = 262_144
WRITE_SECONDS = 60.0
CONNECTIONS = 1024
INDEX = "index.html"
NOT_FOUND_PAGE = "404.html"
"""A site's own, where it has one."""
KINDS = {
    ".html": "text/html",
    ".js": "text/javascript",
    ".mjs": "text/javascript",
    ".css": "text/css",
    ".json": "application/json",
    ".map": "application/json",
    ".svg": "image/svg+xml",
    ".wasm": "application/wasm",
    ".webmanifest": "application/manifest+json",
    ".woff2": "font/woff2",
    ".webp": "image/webp",
    ".avif": "image/avif",
    ".ico": "image/x-icon",
    ".txt": "text/plain",
    ".md": "text/markdown",
}
"""What the web expects today, whatever the machine's own list says."""


@dataclass(frozen=True)
class Answer:
    status: HTTPStatus
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    file: int = -1
    """An open file, instead of a body."""
    size: int = 0


class Site:
    def __init__(self, folder: Path, fallback: bool = False) -> None:
        self._folder = folder.resolve()
        self._fallback = fallback
        self._open = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """A connection: requests one after the other."""
        self._open += 1
        try:
            while self._open <= CONNECTIONS and await self._one(reader, writer):
                pass
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # whoever asked has gone, or was too slow, or is no browser
        finally:
            self._open -= 1
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        async with asyncio.timeout(IDLE_SECONDS):
            first = await reader.readline()
        if not first.strip():
            return bool(first)
        async with asyncio.timeout(HEAD_SECONDS):
            rest = b"" if first.endswith(b"\n\n") else await _rest_of_head(reader)
        words = first.decode("latin-1").split()
        if len(words) != 3:
            await _send(writer, plain(HTTPStatus.BAD_REQUEST, "That is no request."), "GET", False)
            return False
        headers = _headers(rest)
        lasting = _lasts(words[2], headers)
        answer = self.answer(words[0], words[1], headers)
        await _send(writer, answer, words[0], lasting)
        return lasting

    def answer(self, method: str, target: str, headers: dict[str, str]) -> Answer:
        if method not in ("GET", "HEAD"):
            return plain(HTTPStatus.METHOD_NOT_ALLOWED, "This site can only be read.", ("Allow", "GET, HEAD"))
        if "content-length" in headers or "transfer-encoding" in headers:
            return plain(HTTPStatus.BAD_REQUEST, "There is nothing to send here.")
        path, _, query = target.partition("?")
        try:
            parts = _parts(path)
        except ValueError:
            return plain(HTTPStatus.BAD_REQUEST, "That is no path.")
        found = self._find(parts)
        if found is not None and found.is_dir():
            if not path.endswith("/"):
                to = quote("/" + "/".join(parts) + "/") + (f"?{query}" if query else "")
                return plain(HTTPStatus.MOVED_PERMANENTLY, "It is at another path.", ("Location", to))
            found = self._find([*parts, INDEX])
        if found is not None and found.is_file():
            return _file(found, headers)
        return self._missing(parts, headers)

    def _missing(self, parts: list[str], headers: dict[str, str]) -> Answer:
        like_a_file = bool(parts) and "." in parts[-1]
        if self._fallback and not like_a_file and (index := self._find([INDEX])) is not None and index.is_file():
            return _file(index, headers)
        own = self._find([NOT_FOUND_PAGE])
        if own is not None and own.is_file():
            return _file(own, {}, HTTPStatus.NOT_FOUND)
        return plain(HTTPStatus.NOT_FOUND, "There is no such page here.")

    def _find(self, parts: Iterable[str]) -> Path | None:
        """Where a path leads, if that is in the site."""
        try:
            path = self._folder.joinpath(*parts).resolve(strict=True)
        except (OSError, RuntimeError, ValueError):
            return None
        return path if path.is_relative_to(self._folder) else None


def plain(status: HTTPStatus, text: str, *headers: tuple[str, str]) -> Answer:
    body = (
        f"<!doctype html><meta charset=utf-8><title>{status.value} {status.phrase}</title>"
        f"<body style='font:16px system-ui;margin:15vh auto;max-width:32em'><h1>{status.value}</h1><p>{text}</p>"
    ).encode()
    kind = ("Content-Type", "text/html; charset=utf-8")
    return Answer(status, (kind, *headers), body, size=len(body))


def kind_of(name: str) -> str:
    kind = KINDS.get(os.path.splitext(name)[1].lower()) or mimetypes.guess_type(name)[0] or "application/octet-stream"
    text = kind.startswith("text/") or kind in ("application/json", "application/manifest+json")
    return f"{kind}; charset=utf-8" if text else kind


def _parts(path: str) -> list[str]:
    """The names in a path; refuses those that no file of a site has."""
    parts = [part for part in unquote_to_bytes(path).decode("utf-8").split("/") if part]
    if not path.startswith("/") or any(part in (".", "..") or "\0" in part or "\\" in part for part in parts):
        raise ValueError(path)
    return parts


def _file(path: Path, headers: dict[str, str], status: HTTPStatus = HTTPStatus.OK) -> Answer:
    try:
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return plain(HTTPStatus.NOT_FOUND, "There is no such page here.")
    about = os.fstat(file)
    if not stat.S_ISREG(about.st_mode):
        os.close(file)
        return plain(HTTPStatus.NOT_FOUND, "There is no such page here.")
    tag = f'"{about.st_mtime_ns:x}-{about.st_size:x}"'
    said = (("ETag", tag), ("Last-Modified", formatdate(about.st_mtime, usegmt=True)), ("Cache-Control", "no-cache"))
    if status is HTTPStatus.OK and _known(headers, tag, about.st_mtime):
        os.close(file)
        return Answer(HTTPStatus.NOT_MODIFIED, said)
    return Answer(status, (("Content-Type", kind_of(path.name)), *said), file=file, size=about.st_size)


def _known(headers: dict[str, str], tag: str, changed_at: float) -> bool:
    """Whether the one who asks has it already. A tag, where one is sent, says all."""
    if tags := headers.get("if-none-match"):
        return tags.strip() == "*" or tag in [one.strip().removeprefix("W/") for one in tags.split(",")]
    try:
        return int(changed_at) <= parsedate_to_datetime(headers.get("if-modified-since", "")).timestamp()
    except (ValueError, TypeError):
        return False


async def _rest_of_head(reader: asyncio.StreamReader) -> bytes:
    head = b""
    while not head.endswith((b"\r\n\r\n", b"\n\n")) and head not in (b"\r\n", b"\n"):
        line = await reader.readline()
        head += line
        if not line or len(head) > HEAD_BYTES:
            raise asyncio.IncompleteReadError(head, None)
    return head


def _headers(head: bytes) -> dict[str, str]:
    pairs = (line.partition(":") for line in head.decode("latin-1").splitlines())
    return {name.strip().lower(): value.strip() for name, colon, value in pairs if colon}


def _lasts(version: str, headers: dict[str, str]) -> bool:
    wish = headers.get("connection", "").lower()
    sends = "transfer-encoding" in headers or headers.get("content-length", "0") != "0"
    return not sends and ("keep-alive" in wish if version == "HTTP/1.0" else "close" not in wish)


async def _send(writer: asyncio.StreamWriter, answer: Answer, method: str, lasting: bool) -> None:
    headers = [*answer.headers, ("Date", formatdate(usegmt=True)), ("X-Content-Type-Options", "nosniff")]
    if answer.status is not HTTPStatus.NOT_MODIFIED:
        headers.append(("Content-Length", str(answer.size)))
    headers.append(("Connection", "keep-alive" if lasting else "close"))
    lines = [f"HTTP/1.1 {answer.status.value} {answer.status.phrase}", *(f"{name}: {value}" for name, value in headers)]
    writer.write("\r\n".join([*lines, "", ""]).encode("latin-1"))
    try:
        if method != "HEAD":
            writer.write(answer.body)
            await _send_file(writer, answer)
        async with asyncio.timeout(WRITE_SECONDS):
            await writer.drain()
    finally:
        if answer.file >= 0:
            os.close(answer.file)


async def _send_file(writer: asyncio.StreamWriter, answer: Answer) -> None:
    """As many bytes as were announced: one that becomes shorter meanwhile ends the connection."""
    left = answer.size if answer.file >= 0 else 0
    while left:
        data = os.read(answer.file, min(left, CHUNK_BYTES))
        if not data:
            raise OSError("the file has become shorter")
        left -= len(data)
        writer.write(data)
        async with asyncio.timeout(WRITE_SECONDS):
            await writer.drain()


async def _main(folder: Path, port: int, fallback: bool) -> None:
    site = Site(folder, fallback)
    server = await asyncio.start_server(site.serve, "0.0.0.0", port, limit=HEAD_BYTES)  # noqa: S104  # as any program here
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    await ended.wait()
    server.close()


if __name__ == "__main__":
    said = argparse.ArgumentParser(description="Serves a folder as a static site.")
    said.add_argument("folder", type=Path)
    said.add_argument("port", type=int)
    said.add_argument("--fallback", action="store_true", help="answer paths that are not there with the index")
    words = said.parse_args()
    asyncio.run(_main(words.folder, words.port, words.fallback))
