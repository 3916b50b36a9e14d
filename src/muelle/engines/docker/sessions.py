"""A command in a running container, with its input and output.

Docker can start such a command and tell how it ended, but has no call to end it, and closing the connection does not.
It is therefore marked by a variable in its environment, which its children inherit, and ended by whatever works: by
this machine's kernel where we are root beside the daemon, else by a shell in the container.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiodocker
import aiohttp
from aiodocker.execs import Exec
from aiodocker.stream import Stream

from muelle.engines.docker.daemon import ANSWER_SECONDS, NAME, Daemon, Refused, within
from muelle.engines.protocol import EngineUnavailable, InstanceNotRunning, NoSuchInstance

MARK = "MUELLE_SESSION"
FIRST_LOOK_SECONDS = 0.01
LONGEST_LOOK_SECONDS = 0.5
CLOSE_SECONDS = 5.0
_PROCESSES = Path("/proc")
_SIGNALS = (signal.SIGSTOP, signal.SIGKILL)
"""First none of them may go on: a shell whose command was ended would begin its next one."""
_SWEEP = """for signal in STOP KILL; do for one in /proc/[0-9]*; do
case "$(cat "$one/environ" 2>/dev/null)" in *"$0"*) kill -"$signal" "${one#/proc/}" 2>/dev/null;; esac
done; done"""


async def execute(daemon: Daemon, name: str, container: str, command: Sequence[str], terminal: bool) -> DockerSession:
    """`container` is its id. Raises NoSuchInstance, InstanceNotRunning."""
    mark = f"{MARK}={secrets.token_hex(16)}"
    id = await _made(daemon, name, container, command, terminal, mark)
    session = DockerSession(daemon, Exec(daemon.client(), id, tty=terminal), container, mark)
    await session.begin()
    return session


async def _made(daemon: Daemon, name: str, container: str, command: Sequence[str], terminal: bool, mark: str) -> str:
    asked = {
        "AttachStdin": True,
        "AttachStdout": True,
        "AttachStderr": True,
        "Tty": terminal,
        "Cmd": list(command),
        "Env": [mark, *(["TERM=xterm-256color"] if terminal else [])],
    }
    try:
        made = await daemon.ask("run a command", "POST", f"containers/{within(container)}/exec", body=asked)
    except Refused as refused:
        if refused.status == 404:
            raise NoSuchInstance(name=name) from None
        if refused.status == 409:
            raise InstanceNotRunning(name=name) from None
        raise
    return str(made["Id"])


class DockerSession:
    def __init__(self, daemon: Daemon, command: Exec, container: str, mark: str) -> None:
        self._daemon = daemon
        self._exec = command
        self._container = container
        self._mark = mark
        self._stream: Stream = command.start()
        self._said = b""
        self._closed = False

    async def begin(self) -> None:
        """One that cannot be started has ended, and what Docker says of it is its output."""
        try:
            with self._daemon.reachable():
                async with asyncio.timeout(ANSWER_SECONDS):
                    await self._stream.__aenter__()
        except aiodocker.DockerError as error:
            if error.status == 900:  # the library's number for "no connection"
                raise EngineUnavailable(engine=NAME, reason=error.message) from None
            self._said = error.message.encode() + b"\n"
            self._closed = True

    async def read(self) -> bytes:
        if self._said:
            said, self._said = self._said, b""
            return said
        while not self._closed:
            try:
                message = await self._stream.read_out()
            except (aiohttp.ClientError, OSError):
                return b""
            if message is None:
                return b""
            if message.data:
                return bytes(message.data)
        return b""

    async def write(self, data: bytes) -> None:
        if self._closed:
            return
        with suppress(aiohttp.ClientError, OSError, AssertionError):  # it has ended, and takes no more input
            await self._stream.write_in(data)

    async def resize(self, rows: int, columns: int) -> None:
        params = {"h": rows, "w": columns}
        with suppress(Refused):  # it has ended
            await self._daemon.ask("resize a terminal", "POST", f"exec/{self._exec.id}/resize", params=params)

    async def exit_code(self) -> int:
        pause = FIRST_LOOK_SECONDS
        while (state := await self._state())["Running"] or state["ExitCode"] is None:
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_LOOK_SECONDS)
        return int(state["ExitCode"])

    async def _state(self) -> dict[str, Any]:
        """A container that is gone takes its commands with it."""
        try:
            state: dict[str, Any] = await self._daemon.ask("look at a command", "GET", f"exec/{self._exec.id}/json")
        except Refused as refused:
            if refused.status == 404:
                return {"Running": False, "ExitCode": 128 + signal.SIGKILL, "Pid": 0}
            raise
        return state

    async def close(self) -> None:
        if not self._closed:
            self._closed = True
            await self._stream.close()
        state = await self._state()
        if not state["Running"]:
            return
        if not (self._daemon.socket and _killed_here(int(state["Pid"]), self._mark)):
            await self._sweep()

    async def _sweep(self) -> None:
        asked = {"AttachStdout": True, "AttachStderr": True, "Cmd": ["sh", "-c", _SWEEP, self._mark]}
        with suppress(Refused):  # the container has ended
            made = await self._daemon.ask(
                "end a command", "POST", f"containers/{within(self._container)}/exec", body=asked
            )
            await self._daemon.ask("end a command", "POST", f"exec/{made['Id']}/start", body={"Detach": True})
            with suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_SECONDS):
                    await self.exit_code()


def _killed_here(pid: int, mark: str) -> bool:
    """Ends the command and all that bear its mark. A number may by now be another process's: only the mark counts."""
    if os.geteuid() != 0 or not _marked(pid, mark):
        return False
    for which in _SIGNALS:
        for process in _processes():
            if _marked(process, mark):
                with suppress(OSError):
                    os.kill(process, which)
    return True


def _processes() -> Iterator[int]:
    yield from (int(entry.name) for entry in _PROCESSES.iterdir() if entry.name.isdigit())


def _marked(pid: int, mark: str) -> bool:
    try:
        return mark.encode() in (_PROCESSES / str(pid) / "environ").read_bytes()
    except OSError:
        return False
