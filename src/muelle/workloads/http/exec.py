"""A command in a running workload, over a WebSocket: see decision 12 for what is said in it.

Binary messages are bytes of input and output, as they are. Texts are JSON, and about the command: `{"resize":[24,80]}`
or `{"token":"…"}` from the client, `{"exit":0}` from us before the socket is closed with 1000.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Annotated, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.websockets import WebSocket

from muelle.engines.protocol import CannotDo, EngineUnavailable, InstanceNotRunning, NoSuchInstance, Session
from muelle.kit.errors import Conflict, Invalid
from muelle.kit.http import Access, Id, RoomRouter
from muelle.kit.http.problems import FieldsInvalid
from muelle.kit.http.sockets import asked, caller_of, renew, socket
from muelle.workloads.executing import Errand, NothingRuns, TooManySessions
from muelle.workloads.model import IsBeingDeleted, NoSuchWorkload
from muelle.workloads.verbs import Verbs

PROTOCOL = "muelle.exec.v1"
PIECE_BYTES = 32 * 1024
WAITING_MESSAGES = 16
"""That came and that the command has not taken: while there are so many, no more are read."""
MOST_WORDS = 100
LONGEST_WORD = 8192
MOST_ROWS = 1000
LONGEST_TOKEN = 4096

router = RoomRouter("workloads", tags=["Workloads"])

Word = Annotated[str, Field(max_length=LONGEST_WORD, pattern=r"^[^\x00]*$")]
Size = Annotated[int, Field(ge=1, le=MOST_ROWS)]


class MessageUnreadable(Invalid):
    """A text in this socket is JSON such as {{"resize": [24, 80]}}; bytes are sent as bytes."""


class SessionIdle(Conflict):
    """Nothing was said for {minutes} minutes, so the command was ended."""


class Wanted(BaseModel):
    """What the address says."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    workload_id: Id
    command: list[Word] = Field(min_length=1, max_length=MOST_WORDS)
    terminal: bool = False
    rows: Size = 24
    columns: Size = 80


class Told(BaseModel):
    """A text from the client."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    resize: tuple[Size, Size] | None = None
    token: str = Field("", max_length=LONGEST_TOKEN)
    """A fresh access token of the same account: without it a session is over with its token."""


@socket(
    router,
    "/workloads/{workload_id}/exec",
    Access.owner_or_admin("workloads:write"),
    protocol=PROTOCOL,
    raises=[
        NoSuchWorkload,
        IsBeingDeleted,
        NothingRuns,
        TooManySessions,
        NoSuchInstance,
        InstanceNotRunning,
        CannotDo,
        EngineUnavailable,
        SessionIdle,
        MessageUnreadable,
        FieldsInvalid,
    ],
)
async def execute(socket: WebSocket) -> None:
    """Runs a command in what serves, until it or its client ends."""
    wanted = asked(socket, Wanted)
    verbs = cast(Verbs, socket.app.state.desk.verbs["workloads"])
    errand = Errand(wanted.command, wanted.terminal, wanted.rows, wanted.columns)
    async with verbs.executing.session(caller_of(socket), wanted.workload_id, errand) as session:
        code = await Conversation(socket, session, verbs.executing.idle_seconds).hold()
    if code is not None:
        await socket.send_json({"exit": code})


class Conversation:
    """Passes on what is said, both ways, each no faster than the other side takes it."""

    def __init__(self, socket: WebSocket, session: Session, idle_seconds: float) -> None:
        self._socket = socket
        self._session = session
        self._idle_seconds = idle_seconds
        self._now = asyncio.get_running_loop().time
        self._said_at = self._now()
        self._came: asyncio.Queue[bytes | Told] = asyncio.Queue(WAITING_MESSAGES)

    async def hold(self) -> int | None:
        """Until the command ends, and then its exit code; None where the client has left."""
        parts: list[asyncio.Task[int | None]] = [
            asyncio.create_task(part) for part in (self._output(), self._listen(), self._input(), self._idle())
        ]
        try:
            await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
            return next(part.result() for part in parts if part.done())
        finally:
            for part in parts:
                part.cancel()
            await asyncio.gather(*parts, return_exceptions=True)

    async def _output(self) -> int:
        while data := await self._session.read():
            for start in range(0, len(data), PIECE_BYTES):
                await self._socket.send_bytes(data[start : start + PIECE_BYTES])
            self._said_at = self._now()
        return await self._session.exit_code()

    async def _listen(self) -> None:
        """Reads ahead a little, so that it is seen that the client leaves while the command takes nothing."""
        while (message := await self._socket.receive())["type"] != "websocket.disconnect":
            data = message.get("bytes")
            told = _told(message.get("text") or "") if data is None else None
            if told is not None and told.token:
                renew(self._socket, told.token)  # by itself, and no sign that somebody is there
                continue
            self._said_at = self._now()
            await self._came.put(told or data or b"")

    async def _input(self) -> None:
        while True:
            came = await self._came.get()
            if isinstance(came, Told):
                if came.resize is not None:
                    await self._session.resize(*came.resize)
            elif came:
                await self._session.write(came)

    async def _idle(self) -> None:
        while True:
            left = self._said_at + self._idle_seconds - self._now()
            if left <= 0:
                break
            await asyncio.sleep(left)
        raise SessionIdle(minutes=round(self._idle_seconds / 60))


def _told(text: str) -> Told:
    with suppress(ValidationError):
        told = Told.model_validate_json(text)
        if told.token or told.resize is not None:
            return told
    raise MessageUnreadable
