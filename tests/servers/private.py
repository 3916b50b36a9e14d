"""What every server of our own can do: start on a free loopback port, be killed, and start again on the same data."""

import random
import shutil
import signal
import socket
import subprocess
import time
from abc import ABC, abstractmethod
from contextlib import suppress
from pathlib import Path
from typing import ClassVar, NoReturn

from tests.servers import processes
from tests.servers.run import Command, Run, ServerFailed

# Below the ports that the kernel hands out by itself: nobody's outgoing connection takes ours while the server is
# down, and a client that tries again and again to reach it cannot end up connected to its own socket.
PORTS = range(15_000, 32_000)
STARTS_WITHIN_SECONDS = 90.0
STOPS_WITHIN_SECONDS = 20.0
LOOKS_EVERY_SECONDS = 0.02
LAST_WORDS_CHARACTERS = 2_000


class PrivateServer(ABC):
    """A server that tests may murder. Its address and its data outlive its process.

    The methods wait, for seconds: a test whose event loop has to go on meanwhile calls them by `asyncio.to_thread`.
    """

    name: ClassVar[str]
    stop_by: ClassVar[signal.Signals]
    drop_by: ClassVar[signal.Signals]  # where nobody wants its data any more

    def __init__(self, program: Path, folder: Path, run: Run) -> None:
        self.program = program
        self.folder = folder
        self.port = free_port()
        self._run = run
        self._process: subprocess.Popen[bytes] | None = None

    @property
    @abstractmethod
    def url(self) -> str:
        """Where it answers, with all that is needed to log in."""

    def start(self) -> None:
        """Starts it, or starts it again, and waits until it answers; one that is running stays so."""
        if self._process is not None and self._process.poll() is None:
            return
        if not self.folder.exists():
            self.folder.mkdir()
            self._prepare()
        self._process = self._run.spawn(self._command(), self._log, end_by=self.drop_by)
        self._wait_until_ready(self._process)

    def stop(self) -> None:
        """Ends it as an operator would; one that is not running stays so."""
        self._end(self.stop_by)

    def kill(self) -> None:
        """SIGKILL, for it and all its processes; one that is not running stays so."""
        self._end(signal.SIGKILL)

    def discard(self) -> None:
        """Takes it away with its data."""
        self._end(self.drop_by)
        shutil.rmtree(self.folder, ignore_errors=True)

    @abstractmethod
    def _prepare(self) -> None:
        """Fills the empty folder, once."""

    @abstractmethod
    def _command(self) -> Command: ...

    @abstractmethod
    def _is_ready(self, pid: int) -> bool: ...

    @property
    def _log(self) -> Path:
        return self.folder / "output.log"

    def _end(self, how: signal.Signals) -> None:
        if self._process is not None:
            processes.end(self._process.pid, how, STOPS_WITHIN_SECONDS)
            self._process.wait()
            self._run.forget(self._process.pid)
            self._process = None

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> None:
        until = time.monotonic() + STARTS_WITHIN_SECONDS
        while not self._is_ready(process.pid):
            if time.monotonic() > until:
                self._give_up(f"did not answer within {STARTS_WITHIN_SECONDS:.0f} s")
            with suppress(subprocess.TimeoutExpired):
                self._give_up(f"ended with {process.wait(LOOKS_EVERY_SECONDS)} while starting")

    def _give_up(self, what: str) -> NoReturn:
        last_words = self._log.read_text(errors="replace")[-LAST_WORDS_CHARACTERS:]
        self.kill()
        raise ServerFailed(f"{self.name} ({self.program}) {what}; its last words:\n{last_words}")


def free_port() -> int:
    """A loopback port that nobody listens on."""
    for port in random.sample(PORTS, 100):
        with socket.socket() as probe:
            # as a server binds it: connections of one that was just stopped here are no hindrance
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise ServerFailed(f"no free port among a hundred of {PORTS.start} to {PORTS.stop - 1}")
