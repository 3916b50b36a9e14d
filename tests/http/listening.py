"""What a program logs while something happens, as its real log lines."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import structlog

from muelle.kit import logs


class Lines:
    def __init__(self) -> None:
        self._stream = io.StringIO()

    @property
    def text(self) -> str:
        return self._stream.getvalue()

    def all(self, event: str = "") -> list[dict[str, Any]]:
        """Every line, or those of one event. Each is JSON, whatever was in it."""
        lines = [json.loads(line) for line in self.text.splitlines()]
        return [line for line in lines if not event or line["event"] == event]

    def forget(self) -> None:
        self._stream.seek(0)
        self._stream.truncate()


@contextmanager
def listening(level: str = "info") -> Iterator[Lines]:
    """Sets logging up as the program does, and puts it back afterwards."""
    lines, root = Lines(), logging.getLogger()
    before = root.handlers, root.level, structlog.get_config()
    shortcut = logs._requests_to, logs._log_requests
    logs.set_up(level, "json", lines._stream)
    try:
        yield lines
    finally:
        root.handlers, root.level = before[:2]
        structlog.configure(**before[2])
        logs._requests_to, logs._log_requests = shortcut
