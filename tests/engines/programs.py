"""The programs of the conformance suite, each in two forms: Python source for engines that run it, and what it does in
the words of `muelle.engines.fake.Program` for the one that pretends.

All of them need the standard library only, and each is bounded in itself: none lives longer than `LONGEST_SECONDS`,
takes more memory than `MOST_MEMORY_BYTES` or starts more than `MOST_PROCESSES`, so that an engine that fails to hold it
costs a test and not the machine.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from muelle.engines.recipe import Recipe, Tool

LONGEST_SECONDS = 300
MOST_MEMORY_BYTES = 300 * 2**20
MOST_PROCESSES = 60

_BOUND = f"import signal\nsignal.alarm({LONGEST_SECONDS})\n"


@dataclass(frozen=True)
class Known:
    name: str
    source: str
    pretended: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    """Of the image."""

    def recipe(self) -> Recipe:
        source = _BOUND + textwrap.dedent(self.source).lstrip("\n")
        return Recipe(
            name="python",
            tool=Tool.PYTHON,
            command=("python", "app.py"),
            environment=self.environment,
            files={"app.py": source, "program.json": json.dumps(dict(self.pretended))},
        )


WEB = Known(
    "web",
    """
    import json, os, sys
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

    class Answer(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            body = json.dumps({"path": self.path, "environment": dict(os.environ)}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *words):
            pass

    def end(*_):
        os.write(1, b"ending\\n")  # whoever is asked to end may be in the middle of a print
        os._exit(0)

    signal.signal(signal.SIGTERM, end)
    server = ThreadingHTTPServer(("0.0.0.0", int(os.environ.get("PORT") or 0)), Answer)
    print("listening", flush=True)
    server.serve_forever()
    """,
    {"lines": ["listening"], "says_on_stop": "ending"},
    {"FROM_THE_IMAGE": "yes", "OF_BOTH": "image"},
)
"""Answers every path with a description of itself; says so when it is asked to end."""

CRASH = Known(
    "crash",
    """
    import sys
    print("crashed", file=sys.stderr, flush=True)
    sys.exit(3)
    """,
    {"listens": False, "exits_after_seconds": 0, "exit_code": 3, "error_lines": ["crashed"]},
)

JOB = Known(
    "job",
    """
    print("done", flush=True)
    """,
    {"listens": False, "exits_after_seconds": 0, "lines": ["done"]},
)

LATE_CRASH = Known(
    "late-crash",
    """
    import sys, time
    print("started", flush=True)
    time.sleep(1)
    sys.exit(4)
    """,
    {"listens": False, "exits_after_seconds": 0.25, "exit_code": 4, "lines": ["started"]},
)
"""Long enough to be seen running on a busy machine; the one that pretends is never late, so it takes less."""

STUBBORN = Known(
    "stubborn",
    """
    import time
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    print("deaf to you", flush=True)
    while True:
        time.sleep(1)
    """,
    {"listens": False, "heeds_stop": False, "lines": ["deaf to you"]},
)

SLOW_STOP = Known(
    "slow-stop",
    """
    import os, time

    def end(*_):
        time.sleep(0.5)
        os.write(1, b"ended well\\n")
        os._exit(0)

    signal.signal(signal.SIGTERM, end)
    print("ready", flush=True)
    while True:
        signal.pause()
    """,
    {"listens": False, "stops_after_seconds": 0.25, "lines": ["ready"], "says_on_stop": "ended well"},
)
"""Takes half a second to end when it is asked to."""

MEMORY_HOG = Known(
    "memory-hog",
    f"""
    import time
    print("hungry", flush=True)
    kept = []
    for _ in range({MOST_MEMORY_BYTES // 2**20 // 10}):
        kept.append(bytearray(b"x") * (10 * 2**20))
        time.sleep(0.01)
    print("full", flush=True)
    time.sleep(60)
    """,
    {"listens": False, "hogs_memory": True, "exits_after_seconds": 0.2, "lines": ["hungry"]},
)

FORKER = Known(
    "forker",
    f"""
    import os, time
    children = []
    for _ in range({MOST_PROCESSES}):
        try:
            child = os.fork()
        except OSError:
            break
        if not child:
            time.sleep(20)
            os._exit(0)
        children.append(child)
    print(f"started {{len(children)}} processes", flush=True)
    for child in children:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    """,
    {"listens": False, "exits_after_seconds": 0, "forks": MOST_PROCESSES},
)
"""Starts processes until it may not, at most `MOST_PROCESSES`, and prints how many it got."""

BUSY = Known(
    "busy",
    """
    import time
    print("busy", flush=True)
    end = time.monotonic() + 20
    while time.monotonic() < end:
        pass
    time.sleep(60)
    """,
    {"listens": False, "cores": 1.0, "lines": ["busy"]},
)
"""Keeps a processor busy for twenty seconds."""

TALKER = Known(
    "talker",
    """
    import sys
    for number in range(1, 6):
        print(f"out {number}", flush=True)
        print(f"err {number}", file=sys.stderr, flush=True)
    """,
    {
        "listens": False,
        "exits_after_seconds": 0,
        "lines": [f"out {number}" for number in range(1, 6)],
        "error_lines": [f"err {number}" for number in range(1, 6)],
    },
)
"""Five lines to each stream, and ends."""

MANY_LINES = 50_000

COUNTER = Known(
    "counter",
    f"""
    import sys
    sys.stdout.write("".join(f"line {{number}}\\n" for number in range({MANY_LINES})))
    sys.stdout.flush()
    """,
    {"listens": False, "exits_after_seconds": 0, "counts_to": MANY_LINES},
)

TICKER = Known(
    "ticker",
    """
    import itertools, time
    for number in itertools.count(1):
        time.sleep(0.02)
        print(f"tick {number}", flush=True)
    """,
    {"listens": False, "ticks_every_seconds": 0.02},
)

LONG_LINE = 40_000

ODD_LINES = Known(
    "odd-lines",
    f"""
    import sys
    out = sys.stdout.buffer
    out.write(b"a" * {LONG_LINE} + b"\\n")
    out.write(b"before \\xff after\\n")
    out.write("\\u00a1ol\\u00e9! \\U0001f6a2\\n".encode())
    out.write(b"\\n")
    out.write(b"no end")
    out.flush()
    """,
    {
        "listens": False,
        "exits_after_seconds": 0,
        "lines": ["a" * LONG_LINE, "before \ufffd after", "¡olé! 🚢", "", "no end"],
    },
)

VOLUME_PATH = "/data"

KEEPER = Known(
    "keeper",
    f"""
    from pathlib import Path
    place = Path("{VOLUME_PATH}/count")
    count = int(place.read_text()) + 1 if place.exists() else 1
    place.write_text(str(count))
    print(f"count {{count}}", flush=True)
    """,
    {"listens": False, "exits_after_seconds": 0, "counts_in": f"{VOLUME_PATH}/count"},
)
"""Counts in a volume how often it was started, prints it and ends."""

CALLER = Known(
    "caller",
    """
    import os, socket, time
    host, _, port = os.environ["TARGET"].rpartition(":")
    end = time.monotonic() + float(os.environ["TRIES_SECONDS"])
    found = "not reached"
    while found == "not reached" and time.monotonic() < end:
        try:
            socket.create_connection((host, int(port)), timeout=1).close()
            found = "reached"
        except OSError:
            time.sleep(0.1)
    print(found, flush=True)
    """,
    {"listens": False, "exits_after_seconds": 0, "calls": "TARGET"},
)
"""Tries to connect to the `TARGET` that its environment names, for `TRIES_SECONDS`, and prints whether it could."""
