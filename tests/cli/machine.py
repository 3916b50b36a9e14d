"""A machine to type commands at: a home, a port and a folder for log-ins of its own, and nothing of the real one's.

`run` and `start` start the program as a user does. `quick` runs a command in a process that has everything imported
already, which is all that differs: a command that looks at databases takes a second or two to load, and there are many.
"""

from __future__ import annotations

import http.client
import json
import multiprocessing
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.servers.private import free_port

ENDS_WITHIN_SECONDS = 60.0
READY_WITHIN_SECONDS = 45.0
"""On two busy cores; how fast it is on a free machine is for the bench to say."""
LOADED = ["muelle.cli.commands", "muelle.cli.run", "muelle.cli.upkeep", "muelle.cli.doctor", "muelle.cli.remote"]


@dataclass(frozen=True)
class Ended:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclass
class Machine:
    folder: Path
    port: int = field(default_factory=free_port)
    apps_port: int = field(default_factory=free_port)
    settings: dict[str, str] = field(default_factory=dict)

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def session_file(self) -> Path:
        return self.folder / "config" / "muelle" / "session.json"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def environment(self, more: Mapping[str, str]) -> dict[str, str]:
        ours = {name: value for name, value in os.environ.items() if not name.startswith(("MUELLE_", "XDG_"))}
        own = {
            "HOME": str(self.folder),
            "XDG_CONFIG_HOME": str(self.folder / "config"),
            "MUELLE_HOME": str(self.home),
            "MUELLE_PORT": str(self.port),
            "MUELLE_APPS_PORT": str(self.apps_port),
            "MUELLE_INGRESS": "builtin",
            "DOCKER_HOST": "unix:///nowhere",
            "COLUMNS": "120",
        }
        return {**ours, **own, **self.settings, **more}

    def run(self, *words: str, typed: str = "", **settings: str) -> Ended:
        """Types a command and waits for its end."""
        done = subprocess.run(
            [sys.executable, "-m", "muelle", *words],
            env=self.environment(settings),
            cwd=self.folder,
            input=typed,
            capture_output=True,
            text=True,
            timeout=ENDS_WITHIN_SECONDS,
            check=False,
        )
        return without_a_trace(Ended(done.returncode, done.stdout, done.stderr))

    def quick(self, *words: str, typed: str = "", **settings: str) -> Ended:
        """The same, without the time to load it."""
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(LOADED)
        paths = [self.folder / f"{os.getpid()}.{name}" for name in ("in", "out", "err")]
        paths[0].write_text(typed)
        process = context.Process(target=run_here, args=(words, self.environment(settings), self.folder, *paths))
        process.start()
        process.join(ENDS_WITHIN_SECONDS)
        if process.exitcode is None:
            process.kill()
            raise AssertionError(f"muelle {' '.join(words)} does not end")
        return without_a_trace(Ended(process.exitcode, paths[1].read_text(), paths[2].read_text()))

    def start(self, *words: str, **settings: str) -> Running:
        out, err = self.folder / f"{'-'.join(words)}.out", self.folder / f"{'-'.join(words)}.err"
        with out.open("w") as out_file, err.open("w") as err_file:
            process = subprocess.Popen(
                [sys.executable, "-m", "muelle", *words],
                env=self.environment(settings),
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=out_file,
                stderr=err_file,
            )
        return Running(process, int(settings.get("MUELLE_PORT", self.port)), out, err)

    @contextmanager
    def running(self, *words: str, **settings: str) -> Iterator[Running]:
        running = self.start(*(words or ("up",)), **settings)
        try:
            running.wait_ready()
            yield running
        finally:
            running.discard()

    def type_at(self, *words: str, **settings: str) -> Terminal:
        """Types a command at a terminal, to talk with it."""
        mine, its = pty.openpty()
        process = subprocess.Popen(
            [sys.executable, "-m", "muelle", *words],
            env=self.environment(settings),
            cwd=self.folder,
            stdin=its,
            stdout=its,
            stderr=its,
            start_new_session=True,
            preexec_fn=_take_the_terminal,  # noqa: PLW1509 - this process has no threads that matter
        )
        os.close(its)
        return Terminal(process, mine)


@dataclass
class Running:
    process: subprocess.Popen[bytes]
    port: int
    out_file: Path
    err_file: Path

    @property
    def out(self) -> str:
        return self.out_file.read_text()

    @property
    def err(self) -> str:
        return self.err_file.read_text()

    @property
    def events(self) -> list[dict[str, Any]]:
        """What it has logged."""
        return [json.loads(line) for line in self.err.splitlines()]

    @property
    def first_log_in(self) -> tuple[str, str]:
        found = re.search(r"e-mail +(\S+)\n +password +(\S+)\n", self.out)
        assert found, self.out
        return found[1], found[2]

    def wait_ready(self) -> float:
        began = time.monotonic()
        while time.monotonic() - began < READY_WITHIN_SECONDS:
            assert self.process.poll() is None, f"it ended: {self.out}{self.err}"
            with suppress(OSError, http.client.HTTPException):
                if self.ask("GET", "/health/ready")[0] == 200 and "Muelle is up" in self.out:
                    return time.monotonic() - began
            time.sleep(0.02)
        raise AssertionError(f"not ready: {self.out}{self.err}")

    def ask(self, method: str, path: str, body: object = None, token: str = "") -> tuple[int, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
        try:
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            answer = connection.getresponse()
            content = answer.read()
            return answer.status, json.loads(content) if content else None
        finally:
            connection.close()

    def log_in(self, email: str, password: str, **more: str) -> tuple[int, Any]:
        return self.ask("POST", "/api/v1/auth/login", {"email": email, "password": password, **more})

    def end(self, how: signal.Signals) -> tuple[int, float]:
        """Its exit code, and how long it took."""
        began = time.monotonic()
        self.process.send_signal(how)
        return self.process.wait(ENDS_WITHIN_SECONDS), time.monotonic() - began

    def discard(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(10)
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        assert "Traceback" not in self.err, self.err


@dataclass
class Terminal:
    process: subprocess.Popen[bytes]
    side: int
    seen: str = ""

    def until(self, text: str) -> None:
        """Reads on until it shows this."""
        until = time.monotonic() + ENDS_WITHIN_SECONDS
        while text not in self.seen:
            ready, _, _ = select.select([self.side], [], [], max(0.0, until - time.monotonic()))
            assert ready, f"it does not show {text!r}: {self.seen}"
            try:
                part = os.read(self.side, 4096)
            except OSError:
                part = b""
            assert part, f"it ended without {text!r}: {self.seen}"
            self.seen += part.decode()

    def type(self, text: str) -> None:
        os.write(self.side, text.encode())

    def end(self) -> Ended:
        until = time.monotonic() + ENDS_WITHIN_SECONDS
        with suppress(OSError):  # a terminal whose last program has ended
            while select.select([self.side], [], [], max(0.0, until - time.monotonic()))[0]:
                part = os.read(self.side, 4096)
                if not part:
                    break
                self.seen += part.decode()
        code = self.process.wait(ENDS_WITHIN_SECONDS)
        os.close(self.side)
        return without_a_trace(Ended(code, self.seen, ""))


def run_here(words: tuple[str, ...], environment: dict[str, str], folder: Path, *paths: Path) -> None:
    """In a process of its own: becomes the program."""
    for number, path in enumerate(paths):
        mode = os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        os.dup2(os.open(path, mode, 0o600), number)
    sys.stdin, sys.stdout, sys.stderr = (os.fdopen(number, "rw"[number > 0]) for number in range(3))
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["muelle", *words]
    from muelle.cli import main

    try:
        main()
    finally:
        sys.stdout.flush()


def without_a_trace(ended: Ended) -> Ended:
    assert "Traceback" not in ended.out + ended.err, ended.out + ended.err
    return ended


def _take_the_terminal() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # who runs the tests in the background has it ignored
    import fcntl
    import termios

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
