"""Logs: one line an event, JSON for machines or text for people, and no secret in any of them.

Secrets are struck out of everything that goes into a line, whoever wrote it and wherever they stand in it: what a field
called "password" holds, and in all texts, an exception's included, what looks like a secret. It is done before the line
is put together, so that JSON stays JSON.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from muelle.kit.bus.facts import origin

STRUCK_OUT = "[secret]"
DEEPEST = 8
"""How far into nested values secrets are looked for; what lies deeper is not shown."""

_NAMES = (
    "password|passwd|passphrase|secret|secret_key|client_secret|id_token|access_token|refresh_token|token|api_key|apikey"
    "|authorization|cookie|credential|credentials|code_verifier|private_key"
)
_SECRET_NAMES = tuple(_NAMES.replace("_", "").split("|"))
_LOOKS_SECRET = (
    re.compile(r"eyJ[A-Za-z0-9_-]{4,}\.[A-Za-z0-9_-]{4,}\.[A-Za-z0-9_-]*"),  # JWT
    re.compile(r"(?<![A-Za-z0-9])m[kr]_[0-9a-f]{8,24}_[A-Za-z0-9_-]{8,}"),  # our keys and refresh tokens
    re.compile(r"(?<=\$argon2id\$)[^\s\"'\\]+"),
    re.compile(r"(?<=://)[^/\s\"']*:[^/\s\"']*(?=@)"),  # credentials in an address
    re.compile(r"(?i)(?:(?<=bearer )|(?<=basic )|(?<=muelle-service ))[A-Za-z0-9._~+/=-]{8,}"),
    re.compile(  # password=…, "password": "…", 'password': b'…', and \"password\": \"…\" in a text within a text
        rf"(?is)(?:(?<![a-z])|(?<=\\[nrt]))(?:{_NAMES})(?:\\*[\"'])?\s*[=:]\s*"
        r"(?P<value>[bru]{0,2}(?P<quote>\\*[\"']).*?(?:(?<!\\)(?P=quote)|\Z)"
        r"|(?!\[secret\]|None\b|null\b)[^\s\"',;&}\])]+)"
    ),
)


_requests_to: TextIO | None = None
_log_requests = True

_MAY_HOLD_A_SECRET = re.compile(r"eyJ|m[kr]_|\$a|://|[=:]|[cCrReE] ")
"""Quickly tells of most texts that they do not."""


def redact(text: str) -> str:
    if _MAY_HOLD_A_SECRET.search(text) is None:
        return text
    for pattern in _LOOKS_SECRET:
        text = pattern.sub(_strike, text)
    return text


def _strike(found: re.Match[str]) -> str:
    groups = found.groupdict()
    value, quote = groups.get("value"), groups.get("quote") or ""
    if value is None:
        return STRUCK_OUT
    return f"{found[0].removesuffix(value)}{quote}{STRUCK_OUT}{quote}"


def redact_fields(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """A step of structlog's: strikes secrets out of all that an event holds."""
    return {name: _redacted(name, value, DEEPEST) for name, value in event.items()}


def _redacted(name: str, value: Any, deeper: int) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if _is_secret(name):
        return STRUCK_OUT
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, int | float):
        return value
    return _inside(value, deeper - 1) if deeper else "…"


def _inside(value: Any, deeper: int) -> Any:
    match value:
        case Mapping():
            return {redact(str(key)): _redacted(str(key), inner, deeper) for key, inner in value.items()}
        case list() | tuple() | set() | frozenset():
            return [_redacted("", inner, deeper) for inner in value]
        case _:
            return redact(str(value))


@lru_cache(1024)
def _is_secret(name: str) -> bool:
    return re.sub("[^a-z]", "", name.lower()).endswith(_SECRET_NAMES)


def set_up(level: str, format: str, stream: TextIO | None = None) -> None:
    """Sends structlog's events and everybody else's log records through the same last steps, to stderr."""
    global _requests_to, _log_requests  # logging is one for the whole process, and so is this shortcut of it
    out = stream or sys.stderr
    as_json = format == "json" or (format == "auto" and not out.isatty())
    _requests_to, _log_requests = (out if as_json else None), level in ("debug", "info")
    shared: list[Processor] = [
        _add_request_id,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    last: Processor = (
        structlog.processors.JSONRenderer() if as_json else structlog.dev.ConsoleRenderer(colors=out.isatty())
    )
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, redact_fields, last],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    for noisy in ("alembic", "aiosqlite", "asyncio", "aiormq", "aio_pika", "httpx", "httpcore", "uvicorn"):
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


def request_line(path: str, fields: dict[str, str | int | float]) -> None:
    """Logs one answered request; the path alone may hold what others chose.

    As JSON the line is put together at once: the long way costs more than many a request.
    """
    if _requests_to is None:
        structlog.get_logger("muelle.access").info("request", path=path, **fields)
    elif _log_requests:
        line = {"event": "request", "level": "info", "logger": "muelle.access", **fields, "path": redact(path)}
        line |= {"request_id": origin.get().request_id, "timestamp": datetime.now(UTC).isoformat()}
        _requests_to.write(json.dumps(line) + "\n")


def _add_request_id(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """A step of structlog's: in which request it happened."""
    request_id = origin.get().request_id
    return {**event, "request_id": request_id} if request_id else event


def quiet() -> None:
    """For one-shot commands: only what went wrong."""
    set_up("error", "text")
