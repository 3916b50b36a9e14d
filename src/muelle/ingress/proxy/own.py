"""Answers of our own, as bytes: pages, and a line of text for what is no proper request."""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus

from muelle.ingress.pages import Reason, page

COMMON = b"Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\nVary: Accept, Accept-Language\r\n"
POLICY = b"Content-Security-Policy: default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'\r\n"


@dataclass(frozen=True, slots=True)
class Form:
    """How an answer has to look."""

    host: str
    accept: str
    accept_language: str
    bodiless: bool
    connection: bytes


def answer(reason: Reason, why: str, form: Form) -> tuple[int, bytes]:
    """The status, and everything that is sent."""
    shown = page(reason, host=form.host, why=why, accept=form.accept, accept_language=form.accept_language)
    retry = b"Retry-After: %d\r\n" % shown.retry_seconds if shown.retry_seconds else b""
    head = b"%bContent-Type: %b\r\nContent-Length: %d\r\n%b%b%b%b\r\n" % (
        first_line(shown.status),
        shown.content_type.encode(),
        len(shown.body),
        retry,
        COMMON,
        POLICY,
        form.connection,
    )
    return shown.status, head if form.bodiless else head + shown.body


def refusal(status: int, why: str) -> bytes:
    """For a request that was not understood: nothing that it asked for is heeded."""
    body = f"{HTTPStatus(status).phrase}: {why}\n".encode()
    return b"%bContent-Type: text/plain; charset=utf-8\r\nContent-Length: %d\r\nConnection: close\r\n%b\r\n%b" % (
        first_line(status),
        len(body),
        COMMON,
        body,
    )


def first_line(status: int) -> bytes:
    return b"HTTP/1.1 %d %b\r\n" % (status, HTTPStatus(status).phrase.encode())
