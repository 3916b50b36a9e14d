"""Logs: one line an event, JSON for machines or text for people, and no secret in any of them.

Secrets are struck out of the finished line, whoever wrote it and wherever they stand in it: that catches what a list of
field names would miss, such as a token in an exception's text.
"""

from __future__ import annotations

import logging
import re
import sys
from typing import Any, TextIO

import structlog
from structlog.typing import Processor

STRUCK_OUT = "[secret]"

_SECRETS = (
    re.compile(r"eyJ[A-Za-z0-9_-]{4,}\.[A-Za-z0-9_-]{4,}\.[A-Za-z0-9_-]*"),  # JWT
    re.compile(r"\bm[kr]_[0-9a-f]{8,24}_[A-Za-z0-9_-]{8,}"),  # our keys and refresh tokens
    re.compile(r"(?<=\$argon2id\$)[^\s\"']+"),
    re.compile(r"(?<=://)[^/\s:@\"']*:[^/\s@\"']+(?=@)"),  # credentials in an address
    re.compile(r"(?i)(?<=bearer )[A-Za-z0-9._~+/=-]{8,}"),
    re.compile(
        r"(?i)(?<![a-z])(?:password|passwd|secret|client_secret|id_token|access_token|refresh_token|api_key|code_verifier)"
        r"(?P<between>[\"']?\s*[=:]\s*[\"']?)(?P<value>[^\s\"',}&]{3,})"
    ),
)


def redact(line: str) -> str:
    for pattern in _SECRETS:
        line = pattern.sub(_strike, line)
    return line


def _strike(found: re.Match[str]) -> str:
    value = found.groupdict().get("value")
    return STRUCK_OUT if value is None else found[0].removesuffix(value) + STRUCK_OUT


class _RedactedStream:
    """A stream for finished lines."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        return self._stream.write(redact(text))

    def flush(self) -> None:
        self._stream.flush()


def set_up(level: str, format: str, stream: TextIO | None = None) -> None:
    """Sends structlog's events and everybody else's log records through the same last steps, to stderr."""
    out = stream or sys.stderr
    as_json = format == "json" or (format == "auto" and not out.isatty())
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    last: Processor = (
        structlog.processors.JSONRenderer() if as_json else structlog.dev.ConsoleRenderer(colors=out.isatty())
    )
    handler = logging.StreamHandler(_RedactedStream(out))  # type: ignore[arg-type]
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, last],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    for noisy in ("alembic", "aiosqlite", "asyncio", "aiormq", "aio_pika", "httpx", "httpcore", "uvicorn.access"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )


def quiet() -> None:
    """For one-shot commands: only what went wrong."""
    set_up("error", "text")


def logger(name: str) -> Any:
    return structlog.get_logger(name)
