"""Requests byte by byte, as a server hands them on: for what no decent client would send."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from muelle.kit.http.problems import MEDIA_TYPE
from tests.world import PREFIX, PUBLIC_ADDRESS, World

Headers = Sequence[tuple[bytes, bytes]]


@dataclass
class Answer:
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """What went wrong. Every error says so in the same way, whatever it is, and tells nothing of our insides."""
        assert self.headers["content-type"] == MEDIA_TYPE, (self.status, self.headers, self.body[:200])
        problem = self.json()
        assert problem["status"] == self.status
        assert problem["detail"]
        assert problem["request_id"] == self.headers["x-request-id"]
        for inside in (b"Traceback", b".py", b"sqlalchemy", b"pydantic", b"SELECT"):
            assert inside not in self.body, self.body
        return str(problem["code"])


async def send(
    world: World,
    method: str,
    target: bytes,
    body: bytes | Sequence[bytes] = b"",
    headers: Headers = (),
    *,
    token: str = "",
    leaves: bool = False,
) -> Answer:
    """`target`: path and query, without the API's prefix. `body`: in one piece or several. `leaves`: before its end."""
    path, _, query = (PREFIX.encode() + target).partition(b"?")
    given = [(b"host", b"muelle"), *headers]
    if token:
        given.append((b"authorization", b"Bearer " + token.encode()))
    pieces = [body] if isinstance(body, bytes) else list(body)
    messages = [{"type": "http.request", "body": piece, "more_body": True} for piece in pieces]
    messages.append(
        {"type": "http.disconnect"} if leaves else {"type": "http.request", "body": b"", "more_body": False}
    )
    answer = Answer()

    async def receive() -> Any:
        return messages.pop(0) if messages else {"type": "http.disconnect"}

    async def tell(message: Any) -> None:
        if message["type"] == "http.response.start":
            answer.status = message["status"]
            answer.headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in message["headers"]}
        else:
            answer.body += message.get("body", b"")

    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": unquote(path.decode("ascii", "replace")),
        "raw_path": path,
        "query_string": query,
        "root_path": "",
        "headers": given,
        "server": ("muelle", 80),
        "client": (PUBLIC_ADDRESS, 4711),
        "state": {},
    }
    app = world.app_for(target.decode("ascii", "replace"))
    await app.asgi(scope, receive, tell)
    return answer
