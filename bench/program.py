"""A process that figures are measured on: started, listened to, killed, and what it costs while it runs."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.servers import processes

ROOT = Path(__file__).parent.parent
STOPS_WITHIN_SECONDS = 10.0
LAST_WORDS_CHARACTERS = 3_000


class ProgramFailed(Exception):
    """It did not do what it was started for."""


class Program:
    """Runs from `with` to the end of the block. What it says on stderr goes to the log, on stdout to `hear`."""

    def __init__(self, words: Sequence[str], log: Path, environment: Mapping[str, str] | None = None) -> None:
        self.words = list(words)
        self.log = log
        self._environment = own_environment() | dict(environment or {})
        self._process: subprocess.Popen[bytes] | None = None
        self._heard = b""

    @classmethod
    def python(cls, log: Path, *words: str) -> Self:
        return cls([sys.executable, *words], log)

    @property
    def pid(self) -> int:
        return self._running().pid

    @property
    def ended(self) -> bool:
        """Whether it has ended by itself."""
        return self._running().poll() is not None

    def start(self) -> None:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.words,
                env=self._environment,
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
            )
        self._heard = b""

    def hear(self, word: str, within_seconds: float) -> None:
        """Waits until it says this word, in a line of its own."""
        until = time.monotonic() + within_seconds
        while f"{word}\n".encode() not in self._heard:
            more = self._read(until - time.monotonic())
            if not more:
                raise ProgramFailed(f"{self.words} did not say {word!r}; its last words:\n{self.last_words()}")
            self._heard += more

    def stop(self) -> None:
        """As an operator would. One that does not end by itself, or not well, has failed."""
        process = self._running()
        process.terminate()
        try:
            code = process.wait(STOPS_WITHIN_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            raise ProgramFailed(f"{self.words} did not stop within {STOPS_WITHIN_SECONDS} s") from None
        self._forget()
        if code:
            raise ProgramFailed(f"{self.words} ended with {code}; its last words:\n{self.last_words()}")

    def kill(self) -> None:
        process = self._running()
        process.send_signal(signal.SIGKILL)
        process.wait()
        self._forget()

    def last_words(self) -> str:
        return self.log.read_text(errors="replace")[-LAST_WORDS_CHARACTERS:]

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is None:
            return
        if problem is None:
            self.stop()
        else:
            self.kill()

    def _read(self, seconds: float) -> bytes:
        output = self._running().stdout
        assert output is not None
        readable, _, _ = select.select([output], [], [], max(0.0, seconds))
        return os.read(output.fileno(), 65_536) if readable else b""

    def _running(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "it is not running"
        return self._process

    def _forget(self) -> None:
        if self._process is not None and self._process.stdout is not None:
            self._process.stdout.close()
        self._process = None


@dataclass(frozen=True)
class Weight:
    """Memory of a process and those below it: resident, and with what is shared counted by share."""

    rss_mib: float
    pss_mib: float


def weight(pid: int) -> Weight:
    rolled = [_rollup(member) for member in _family(pid)]
    return Weight(sum(r.get("Rss", 0) for r in rolled) / 1024, sum(r.get("Pss", 0) for r in rolled) / 1024)


def cpu_seconds(pid: int) -> float:
    """What it has used of a processor so far, in the kernel's ticks of 10 ms, with those below it."""
    ticks = 0
    for member in _family(pid):
        with suppress(OSError):
            fields = Path(f"/proc/{member}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def own_environment() -> dict[str, str]:
    """Ours without settings of Muelle, so that a figure does not depend on whose shell it was."""
    return {name: value for name, value in os.environ.items() if not name.startswith("MUELLE_")}


def _family(pid: int) -> list[int]:
    return [pid, *processes.descendants(pid)]


def _rollup(pid: int) -> dict[str, int]:
    """KiB by name."""
    with suppress(OSError):
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
        return {line.split(":")[0]: int(line.split()[1]) for line in lines}
    return {}
