"""The engine's side of its talk with the keeper: finds it, or starts it, and holds conversations with it."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from weakref import WeakSet

from muelle.engines.local.keeper import FILES_HANDED_OVER, SPEECH
from muelle.engines.local.processes import Identity, identity
from muelle.engines.protocol import EngineUnavailable

ENGINE = "local"
KEEPER_WITHIN_SECONDS = 10.0
BETWEEN_KNOCKS_SECONDS = 0.01
TRIES = 3
LONGEST_ANSWER_BYTES = 2**16


class Talk:
    """A conversation: said what was asked, it hears the answers."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @property
    def gone(self) -> bool:
        return self._reader.at_eof()

    async def hear(self) -> dict[str, Any] | None:
        """The next answer; None when the keeper has gone, or has nothing more to say."""
        try:
            line = await self._reader.readline()
        except (OSError, ValueError):
            return None
        return json.loads(line) if line.endswith(b"\n") else None

    def say(self, **words: Any) -> None:
        self._writer.write(json.dumps(words).encode() + b"\n")

    def close(self) -> None:
        self._writer.close()


class Link:
    def __init__(self, home: Path) -> None:
        self._home = home
        self._presence: Talk | None = None
        self._starting = asyncio.Lock()
        self._talks: WeakSet[Talk] = WeakSet()
        self.closed = False

    async def ask(self, do: str, **words: Any) -> dict[str, Any]:
        """Asks something that may be asked twice, and returns the answer; once more where the keeper goes meanwhile."""
        for _ in range(TRIES):
            async with self.talk(do, **words) as talk:
                if (answer := await talk.hear()) is not None:
                    return answer
        raise EngineUnavailable(engine=ENGINE, reason="its keeper ends again and again")

    @asynccontextmanager
    async def talk(self, do: str, files: Sequence[int] = (), **words: Any) -> AsyncIterator[Talk]:
        """A conversation, which ends with the block: with it a command that was asked for."""
        talk = await self.begin(do, files, **words)
        try:
            yield talk
        finally:
            talk.close()

    async def begin(self, do: str, files: Sequence[int] = (), **words: Any) -> Talk:
        """The same, ended by whoever has it."""
        for _ in range(TRIES):
            await self._see_to_it()
            try:
                return await self._begin({"do": do, **words}, files)
            except OSError:  # it has just ended: there will be another
                self._presence = None
        raise EngineUnavailable(engine=ENGINE, reason="its keeper ends again and again")

    def close(self) -> None:
        """Ends all conversations, and with them what only runs for us."""
        self.closed = True
        for talk in list(self._talks):
            talk.close()
        self._presence = None

    async def _see_to_it(self) -> None:
        """That there is a keeper: it stays as long as we are present, whether anything runs or not."""
        if self._presence and not self._presence.gone:
            return
        async with self._starting:
            if self._presence and not self._presence.gone:
                return
            async with asyncio.timeout(KEEPER_WITHIN_SECONDS):
                self._presence = await self._greet()

    async def _greet(self) -> Talk:
        started = False
        while True:
            with suppress(OSError):
                talk = await self._begin({"do": "greet"})
                match await talk.hear():
                    case {"speech": speech, "pid": int(pid)} if speech != SPEECH:
                        await _send_away(talk, identity(pid))
                    case {"speech": _}:
                        return talk
                    case _:
                        talk.close()
            if not started:
                started = await self._start()
            await asyncio.sleep(BETWEEN_KNOCKS_SECONDS)

    async def _start(self) -> bool:
        """Starts a keeper, with nothing of our environment. It is there when this returns, or there was one."""
        source = str(Path(__file__).parents[3])
        words = "import sys; sys.path.insert(0, sys.argv[1]); from pathlib import Path; "
        words += "from muelle.engines.local.keeper import main; main(Path(sys.argv[2]))"
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-S", "-c", words, source, str(self._home)),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            env={},
            cwd="/",
            start_new_session=True,
        )
        return await process.wait() == 0

    async def _begin(self, request: dict[str, Any], files: Sequence[int] = ()) -> Talk:
        if self.closed:
            raise EngineUnavailable(engine=ENGINE, reason="it has been closed")
        line = _connect(self._home)
        try:
            message = json.dumps(request).encode() + b"\n"
            sent = socket.send_fds(line, [message], list(files[:FILES_HANDED_OVER]))
            line.setblocking(False)
            reader, writer = await asyncio.open_unix_connection(sock=line, limit=LONGEST_ANSWER_BYTES)
        except BaseException:
            line.close()
            raise
        writer.write(message[sent:])
        talk = Talk(reader, writer)
        self._talks.add(talk)
        if self.closed:
            talk.close()
        return talk


def _connect(home: Path) -> socket.socket:
    """By way of the folder: a socket's path may only be a hundred characters long. It waits for nobody."""
    folder = os.open(home, os.O_RDONLY | os.O_DIRECTORY)
    line = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        line.connect(f"/proc/self/fd/{folder}/keeper.sock")
    except OSError:
        line.close()
        raise
    finally:
        os.close(folder)
    return line


async def _send_away(talk: Talk, keeper: Identity) -> None:
    """One of another version: programs stay, and are taken over by the next."""
    talk.say(do="leave")
    while await talk.hear() is not None:
        pass
    talk.close()
    while keeper.alive:  # noqa: ASYNC110  # another process, that tells nobody
        await asyncio.sleep(BETWEEN_KNOCKS_SECONDS)
