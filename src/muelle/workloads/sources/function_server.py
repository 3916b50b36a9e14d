"""Serves the function `microservicio(request)` of the app.py beside it. A program of its own: it is put beside that
file and runs on the Python of its image, with the standard library alone and nothing of Muelle.

POST / and POST /<MICROSERVICIO_NAME> call it with {"headers": {...}, "body": <the JSON, or {"raw": <the text>}>} and
answer with what it returns, as JSON. GET / says that it is there. What it raises goes to the log, not to the caller.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

NAME = os.environ.get("MICROSERVICIO_NAME", "").strip("/")
PORT = int(os.environ.get("PORT") or "8000")
LARGEST_BODY_BYTES = 20 * 2**20
SILENT_SECONDS = 60
DRAIN_SECONDS = 8


class Refused(Exception):
    """What was sent is not HTTP as it should be, or too much of it."""

    def __init__(self, status: int, words: str) -> None:
        super().__init__(words)
        self.status = status


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = SILENT_SECONDS
    function: Callable[[Any], Any]
    running = 0
    lock = threading.Lock()

    def do_GET(self) -> None:
        if self._path() in ("", NAME):
            self._answer(200, {"status": "ok", "name": NAME})
        else:
            self._answer(404, self._wrong_path())

    do_HEAD = do_GET

    def do_POST(self) -> None:
        try:
            body = self._body()
        except (Refused, ValueError) as refused:
            self.close_connection = True
            self._answer(getattr(refused, "status", 400), {"error": str(refused)})
            return
        if self._path() not in ("", NAME):
            self._answer(404, self._wrong_path())
            return
        with Handler.lock:
            Handler.running += 1
        try:
            self._answer(*called({"headers": dict(self.headers.items()), "body": understood(body)}))
        finally:
            with Handler.lock:
                Handler.running -= 1

    def do_OTHER(self) -> None:
        self.close_connection = True  # there may be a body that nobody reads
        self._answer(405, {"error": "Solo se admite POST"})

    do_PUT = do_PATCH = do_DELETE = do_OPTIONS = do_OTHER

    def _path(self) -> str:
        return self.path.partition("?")[0].strip("/")

    def _wrong_path(self) -> dict[str, str]:
        return {"error": f"Ruta no valida. Use /{NAME}"}

    def _body(self) -> bytes:
        if "chunked" in self.headers.get("Transfer-Encoding", "").lower():
            return self._chunks()
        length = self.headers.get("Content-Length", "0")
        if not length.isdigit():
            raise Refused(400, "Content-Length no es un numero")
        if int(length) > LARGEST_BODY_BYTES:
            raise Refused(413, "El cuerpo es demasiado grande")
        body = self.rfile.read(int(length))
        if len(body) < int(length):
            raise Refused(400, "El cuerpo no llego completo")
        return body

    def _chunks(self) -> bytes:
        body = b""
        while True:
            size = int(self.rfile.readline(100).partition(b";")[0].strip() or b"x", 16)
            if not 0 <= size <= LARGEST_BODY_BYTES - len(body):
                raise Refused(413, "El cuerpo es demasiado grande")
            if size == 0:
                while self.rfile.readline(8192).strip():
                    pass
                return body
            body += self.rfile.read(size)
            self.rfile.readline(100)

    def _answer(self, status: int, document: object) -> None:
        try:
            text = json.dumps(document, ensure_ascii=False, allow_nan=False).encode()
        except (TypeError, ValueError):
            traceback.print_exc()
            status, text = 500, b'{"error": "El microservicio no devolvio JSON"}'
        self.send_response(status)
        self.send_header("Content-Type", "application/json; charset=utf-8")
        self.send_header("Content-Length", str(len(text)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(text)

    def log_message(self, format: str, *args: object) -> None:
        """Health checks come every few seconds: what is logged is what the function writes."""


def understood(body: bytes) -> Any:
    text = body.decode("utf-8", "replace")
    if not text.strip():
        return {}
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return {"raw": text}


def called(request: dict[str, Any]) -> tuple[int, Any]:
    try:
        answer = Handler.function(request)
        return 200, asyncio.run(answer) if inspect.iscoroutine(answer) else answer
    except BaseException:  # also `sys.exit()`: it is this request's end and not everybody's
        traceback.print_exc()
        return 500, {"error": "Error interno del microservicio"}


def main() -> None:
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    app = importlib.import_module("app")
    if not callable(getattr(app, "microservicio", None)):
        sys.exit("app.py has no function microservicio(request)")
    Handler.function = staticmethod(app.microservicio)
    server = Server(("0.0.0.0", PORT), Handler)  # noqa: S104 - a container is reached from outside of it
    # The first process of a container is not ended by a signal that it does not ask for.
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    sys.stdout.write(f"listening on port {PORT}\n")
    sys.stdout.flush()
    server.serve_forever(poll_interval=0.1)
    server.server_close()
    drain()


def drain() -> None:
    """Lets the requests that are being answered come to their end, within bounds."""
    waiting = threading.Event()
    for _ in range(DRAIN_SECONDS * 50):
        with Handler.lock:
            if not Handler.running:
                return
        waiting.wait(0.02)


if __name__ == "__main__":
    main()
