"""`python behaves.py HOW`, in a container: a program that is well, or ill in one of the ways that programs are.

It needs nothing beside Python, and says who it is: what it was made as, and a digest of its environment. One that
takes memory stops at a bound of its own, so that a limit which does not hold costs a figure and not the machine.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

WRONG_PORT = 9999
CRASHES_AFTER_SECONDS = 3.0
MOST_MIB = 256
PIECE_MIB = 8
NOT_TOLD = frozenset({"HOSTNAME"})
"""Docker's, and another for each container."""


class Page(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    status = 200
    body = b""

    def do_GET(self) -> None:
        self.send_response(self.status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(self.body)))
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, format: str, *args: object) -> None:
        """A line for each request is not what is measured."""


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def server_bind(self) -> None:
        """Without looking up its own name, which may take long where there is no name service."""
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = "", self.server_address[1]


def main() -> None:
    how = sys.argv[1]
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    if how == "crashes-at-once":
        sys.exit(3)
    if how == "never-listens":
        threading.Event().wait()
    port = WRONG_PORT if how == "wrong-port" else int(os.environ.get("PORT", "8000"))
    Page.status = 500 if how == "answers-500" else 200
    Page.body = _who(how)
    if how == "crashes-after-a-while":
        threading.Timer(CRASHES_AFTER_SECONDS, os._exit, [4]).start()
    if how == "eats-memory":
        threading.Thread(target=_eat, daemon=True).start()
    Server(("0.0.0.0", port), Page).serve_forever()  # noqa: S104 - all of its container's


def _who(how: str) -> bytes:
    told = sorted(item for item in os.environ.items() if item[0] not in NOT_TOLD)
    digest = hashlib.sha256(json.dumps(told).encode()).hexdigest()
    return json.dumps({"how": how, "turn": os.environ.get("TURN", ""), "environment": digest}).encode()


def _eat() -> None:
    eaten: list[bytes] = []
    while len(eaten) * PIECE_MIB < MOST_MIB:
        eaten.append(b"x" * (PIECE_MIB * 2**20))
        time.sleep(0.02)
    os._exit(9)


if __name__ == "__main__":
    main()
