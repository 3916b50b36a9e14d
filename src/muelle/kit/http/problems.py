"""Errors as `application/problem+json` (RFC 9457): what happened, to which thing, what to do next, and a stable code."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

import structlog
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from muelle.kit.bus.facts import origin
from muelle.kit.errors import (
    Conflict,
    Denied,
    Failure,
    Invalid,
    Kind,
    Missing,
    MuelleError,
    TooOften,
    Unavailable,
    Unpaid,
    Unrecognised,
)

MEDIA_TYPE = "application/problem+json"
ERRORS_LISTED = 20


class BodyTooLarge(Invalid):
    """The request's body is larger than the {limit_bytes} bytes that are taken here."""


class BodyUnreadable(Invalid):
    """The request's body is not valid JSON in UTF-8."""

    hint = "Check quotes, commas and the encoding."


class FieldsInvalid(Invalid):
    """Some fields are missing or wrong: {fields}."""


class NoSuchRoute(Missing):
    """There is no such address here."""

    hint = "See /docs for what there is."


class MethodNotAllowed(Invalid):
    """That address does not take {method}."""


class Unexpected(Failure):
    """Something went wrong on our side."""

    hint = "Try again; if it stays, tell the operator the request id."


_STATUS: dict[type[MuelleError], int] = {
    BodyUnreadable: 400,
    Unrecognised: 401,
    MethodNotAllowed: 405,
    BodyTooLarge: 413,
    TooOften: 429,
    Invalid: 422,
    Missing: 404,
    Denied: 403,
    Conflict: 409,
    Unpaid: 402,
    Unavailable: 503,
    Failure: 500,
}

_TITLES = {
    Kind.INVALID: "Invalid",
    Kind.MISSING: "Not found",
    Kind.DENIED: "Not allowed",
    Kind.CONFLICT: "Conflict",
    Kind.UNPAID: "Payment needed",
    Kind.UNAVAILABLE: "Not available now",
    Kind.FAILURE: "Internal error",
}

_log = structlog.get_logger("muelle.http")


class FieldError(BaseModel):
    field: str = Field(examples=["body.email"])
    message: str = Field(examples=["Field required"])


class Problem(BaseModel):
    """What went wrong, in the words of RFC 9457. `code` is stable; programs should look at it and at the status."""

    type: str = Field(examples=["urn:muelle:email_taken"])
    title: str = Field(examples=["Conflict"])
    status: int = Field(examples=[409])
    detail: str = Field(examples=["An account with the e-mail address ana@example.com already exists."])
    code: str = Field(examples=["email_taken"])
    hint: str | None = Field(None, examples=["Log in, or reset the password."])
    instance: str | None = Field(None, examples=["/api/v1/auth/signup"])
    request_id: str | None = Field(None, examples=["019a2b3c4d5e6f708192a3b4"])
    errors: list[FieldError] | None = None


def status_of(kind: type[MuelleError]) -> int:
    return next(_STATUS[ancestor] for ancestor in kind.__mro__ if ancestor in _STATUS)


def problem(error: MuelleError, path: str = "", errors: Sequence[FieldError] = ()) -> Problem:
    return Problem(
        type=f"urn:muelle:{error.code}",
        title=_TITLES[error.kind],
        status=status_of(type(error)),
        detail=error.message,
        code=error.code,
        hint=error.advice or None,
        instance=path or None,
        request_id=origin.get().request_id or None,
        errors=list(errors) or None,
    )


def problem_response(error: Exception, path: str = "") -> Response:
    """The answer to whatever went wrong. What is not one of ours is logged and told as nobody's fault but ours."""
    ours, errors = _as_ours(error)
    body = problem(ours, path, errors)
    headers = {}
    if body.status == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="muelle"'
    if isinstance(ours, TooOften):
        headers["Retry-After"] = str(ours.facts["retry_seconds"])
    if isinstance(error, HTTPException) and error.headers:
        headers.update(error.headers)
    content = body.model_dump_json(exclude_none=True)
    return Response(content, body.status, headers, media_type=MEDIA_TYPE)


def _as_ours(error: Exception) -> tuple[MuelleError, list[FieldError]]:
    match error:
        case MuelleError():
            if error.kind is Kind.FAILURE:
                _log.error("failure", error=error.message, exc_info=error)
                return Unexpected(), []
            return error, []
        case RequestValidationError():
            return _as_field_errors(error)
        case HTTPException(status_code=404):
            return NoSuchRoute(), []
        case HTTPException(status_code=405):
            return MethodNotAllowed(method="that method"), []
        case HTTPException(status_code=status) if status < 500:
            return BodyUnreadable(), []
        case _:
            _log.error("unexpected error", error=repr(error), exc_info=error)
            return Unexpected(), []


def _as_field_errors(error: RequestValidationError) -> tuple[MuelleError, list[FieldError]]:
    raw = error.errors()
    if any(item["type"] == "json_invalid" for item in raw):
        return BodyUnreadable(), []
    found = [
        FieldError(field=".".join(str(part) for part in item["loc"]) or "body", message=item["msg"])
        for item in raw[:ERRORS_LISTED]
    ]
    names = ", ".join(dict.fromkeys(item.field.rpartition(".")[2] for item in found))
    return FieldsInvalid(fields=names[:200]), found


def add_problem_handlers(app: FastAPI) -> None:
    async def answer(request: Request, error: Exception) -> Response:
        return problem_response(error, request.url.path)

    for kind in (MuelleError, RequestValidationError, HTTPException):
        app.add_exception_handler(kind, answer)


def responses_for(kinds: Iterable[type[MuelleError]]) -> dict[int | str, dict[str, Any]]:
    """The API's description of these errors: a status each, with an example per error."""
    responses: dict[int | str, dict[str, Any]] = {}
    for kind in sorted(set(kinds), key=lambda kind: kind.code):
        status = status_of(kind)
        entry = responses.setdefault(
            status,
            {
                "description": "",
                "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}, "examples": {}}},
            },
        )
        sentence = (kind.__doc__ or "").strip().splitlines()[0]
        entry["description"] = f"{entry['description']} `{kind.code}`: {sentence}".strip()
        example = {
            "type": f"urn:muelle:{kind.code}",
            "title": _TITLES[kind.kind],
            "status": status,
            "detail": sentence,
            "code": kind.code,
        }
        entry["content"][MEDIA_TYPE]["examples"][kind.code] = {"value": json.loads(json.dumps(example))}
    return responses
