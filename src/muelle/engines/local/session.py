"""A command in an instance, with its input and output: what `exec` opens."""

from __future__ import annotations

import asyncio
import fcntl
import os
import struct
import termios
from dataclasses import asdict, dataclass

from muelle.engines.local.launch import CANNOT_START, Program
from muelle.engines.local.link import Link, Talk
from muelle.engines.local.sandbox import Joining

READ_BYTES = 65_536
ROWS, COLUMNS = 24, 80
UNLOCK, FAR_END = 0x40045431, 0x5441
"""TIOCSPTLCK and TIOCGPTPEER, which Python's library does not name."""


class LocalSession:
    """Ours are one file of the terminal, or the far ends of two pipes."""

    def __init__(self, talk: Talk, reads: int, writes: int, joining: Joining | None, first: bytes) -> None:
        self._talk = talk
        self._reads = reads
        self._writes = writes
        self._joining = joining
        self._first = first
        self._code: asyncio.Task[int] = asyncio.create_task(_code(talk, first))
        self._closed = False
        self._waiting: set[asyncio.Future[None]] = set()
        for file in {reads, writes}:
            os.set_blocking(file, False)

    async def read(self) -> bytes:
        first, self._first = self._first, b""
        while not first and not self._closed:
            try:
                return os.read(self._reads, READ_BYTES)
            except BlockingIOError:
                await self._ready(self._reads, writing=False)
            except OSError:  # how a terminal says that nobody is there any more
                return b""
        return first

    async def write(self, data: bytes) -> None:
        """Nothing at all says that there will be no more."""
        while data and not self._closed:
            try:
                data = data[os.write(self._writes, data) :]
            except BlockingIOError:
                await self._ready(self._writes, writing=True)
            except OSError:  # it does not read any more: that is its own affair
                return

    async def resize(self, rows: int, columns: int) -> None:
        if self._reads == self._writes and not self._closed:
            resize(self._reads, rows, columns)

    async def exit_code(self) -> int:
        return await asyncio.shield(self._code)

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        for ready in self._waiting:
            _tell(ready)
        if not self._code.done():
            self._talk.say(do="kill")
            await asyncio.wait([self._code], timeout=2.0)
        self._talk.close()
        if self._joining:
            self._joining.let_go()
        await asyncio.sleep(0)  # who waited for these files lets go of them first
        for file in {self._reads, self._writes}:
            os.close(file)

    async def _ready(self, file: int, writing: bool) -> None:
        """Waits until a file can be read or written, or the session is closed."""
        loop = asyncio.get_running_loop()
        ready: asyncio.Future[None] = loop.create_future()
        watch, forget = (loop.add_writer, loop.remove_writer) if writing else (loop.add_reader, loop.remove_reader)
        watch(file, _tell, ready)
        self._waiting.add(ready)
        try:
            await ready
        finally:
            self._waiting.discard(ready)
            forget(file)


@dataclass(frozen=True)
class Command:
    program: Program
    terminal: bool
    terminals: str = ""
    """The sandbox's folder for them: it does not know those of the machine."""
    joining: Joining | None = None


async def open_session(link: Link, command: Command) -> LocalSession:
    """Starts a command. One that is not to be had is a session that says so and has ended."""
    program = command.program
    try:
        ours, theirs = _terminal(command.terminals) if command.terminal else _pipes()
    except OSError:
        if command.joining:
            command.joining.let_go()
        raise
    try:
        talk = await link.begin("run", theirs, program=asdict(program))
        answer = await talk.hear() or {"refused": "its keeper has ended"}
    except BaseException:
        _close(ours)
        if command.joining:
            command.joining.let_go()
        raise
    finally:
        _close(theirs)
    refused = answer.get("refused")
    return LocalSession(talk, ours[0], ours[-1], command.joining, f"{refused}\n".encode() if refused else b"")


def resize(terminal: int, rows: int, columns: int) -> None:
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


def _terminal(folder: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    if folder:
        ours = os.open(f"{folder}/ptmx", os.O_RDWR | os.O_NOCTTY)
        fcntl.ioctl(ours, UNLOCK, struct.pack("i", 0))
        theirs = fcntl.ioctl(ours, FAR_END, os.O_RDWR | os.O_NOCTTY)
        os.set_inheritable(theirs, False)
    else:
        ours, theirs = os.openpty()
    resize(ours, ROWS, COLUMNS)
    return (ours,), (theirs, os.dup(theirs), os.dup(theirs))


def _pipes() -> tuple[tuple[int, ...], tuple[int, ...]]:
    input_read, input_write = os.pipe()
    output_read, output_write = os.pipe()
    return (output_read, input_write), (input_read, output_write, os.dup(output_write))


def _close(files: tuple[int, ...]) -> None:
    for file in files:
        os.close(file)


async def _code(talk: Talk, refused: bytes) -> int:
    if refused:
        return CANNOT_START
    answer = await talk.hear() or {}
    code = answer.get("exit")
    return code if isinstance(code, int) else CANNOT_START


def _tell(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)
