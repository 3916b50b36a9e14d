"""A command run in a pretended instance: `cat` and `sh` answer what is written to them, others run and end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from muelle.engines.fake.shell import KILLED, Pause, Play, Say, Shell
from muelle.kit.clock import Clock

MOST_WAITING_BYTES = 2**20
"""Of output that nobody reads; then who writes has to wait."""
INTERRUPT, END_OF_INPUT = b"\x03", b"\x04"
INTERRUPTED = 130


class FakeSession:
    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        terminal: bool,
        clock: Clock,
        forget: Callable[[FakeSession], None],
    ) -> None:
        self._shell = Shell(environment, terminal)
        self._clock = clock
        self._forget = forget
        self._output = bytearray()
        self._typed = b""
        self._changed = asyncio.Event()
        self._code: int | None = None
        self._takes = command[0].rpartition("/")[2] if len(command) == 1 and command[0].endswith(("cat", "sh")) else ""
        self._running: asyncio.Task[None] | None = None
        if self._takes == "sh":
            self._prompt()
        elif not self._takes:
            self._running = asyncio.get_running_loop().create_task(self._run_to_its_end(command))

    async def read(self) -> bytes:
        while not self._output and self._code is None:
            await self._next_change()
        data = bytes(self._output)
        self._output.clear()
        self._change()
        return data

    async def write(self, data: bytes) -> None:
        while len(self._output) > MOST_WAITING_BYTES and self._code is None:
            await self._next_change()
        if self._code is not None or not self._takes:
            return None
        if self._shell.terminal:
            if INTERRUPT in data:
                return self._end(INTERRUPTED)
            self._put(data.replace(END_OF_INPUT, b""))
        self._typed += data
        await self._take_lines()
        return None

    async def resize(self, rows: int, columns: int) -> None:
        self._shell = replace(self._shell, size=(rows, columns))

    async def exit_code(self) -> int:
        while self._code is None:
            await self._next_change()
        return self._code

    async def close(self) -> None:
        self.kill()

    def kill(self) -> None:
        """Also what happens when its instance ends."""
        if self._running is not None:
            self._running.cancel()
        self._end(KILLED)

    async def _take_lines(self) -> None:
        while b"\n" in self._typed and self._code is None:
            line, _, self._typed = self._typed.partition(b"\n")
            if self._takes == "cat":
                self._put(line + b"\n")
            else:
                text = line.decode("utf-8", "replace").strip()
                code = await self._run(self._shell.script(text))
                if text.split(" ", 1)[0] == "exit":
                    self._end(code)
                self._prompt()
        if self._shell.terminal and END_OF_INPUT in self._typed:
            self._end(0)

    async def _run_to_its_end(self, command: Sequence[str]) -> None:
        self._end(await self._run(self._shell.run(command)))

    async def _run(self, play: Play) -> int:
        while True:
            try:
                event = next(play)
            except StopIteration as end:
                return int(end.value)
            if isinstance(event, Pause):
                await self._clock.sleep(event.seconds)
            elif isinstance(event, Say):
                self._put(event.text.encode() + b"\n")

    def _prompt(self) -> None:
        if self._shell.terminal:
            self._put(b"$ ")

    def _put(self, data: bytes) -> None:
        """A terminal ends its lines in its own way."""
        self._output += data.replace(b"\n", b"\r\n") if self._shell.terminal else data
        self._change()

    def _end(self, code: int) -> None:
        if self._code is None:
            self._code = code
            self._forget(self)
            self._change()

    def _change(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def _next_change(self) -> None:
        await self._changed.wait()
