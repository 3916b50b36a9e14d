"""Errors as `application/problem+json` (RFC 9457): what happened, to which thing, what to do next, a stable code."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

import structlog
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
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
from muelle.kit.http.bodies import BodyTooLarge, BodyUnreadable, NotJson

MEDIA_TYPE = "application/problem+json"
ERRORS_LISTED = 20
LONGEST_ECHO = 200
"""How much of what a caller sent is repeated to them."""


class FieldsInvalid(Invalid):
    """Some fields are missing or wrong: {fields}."""


class NoSuchRoute(Missing):
    """There is no such address here."""

    hint = "See /docs for what there is."


class MethodNotAllowed(Invalid):
    """That address does not take {method}, but {allowed}."""


class Refused(Invalid):
    """That is not a request that can be answered."""


class DependencySilent(Unavailable):
    """Something that is needed for this, such as a database, does not answer now."""

    hint = "Try again in a moment; `/health/ready` tells what it is."


class Unexpected(Failure):
    """Something went wrong on our side."""

    hint = "Try again; if it stays, tell the operator the request id."


_STATUS: dict[type[MuelleError], int] = {
    BodyUnreadable: 400,
    Refused: 400,
    Unrecognised: 401,
    MethodNotAllowed: 405,
    BodyTooLarge: 413,
    NotJson: 415,
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
    """What is wrong with one field."""

    field: str = Field(description="Where it stands in the request.", examples=["body.email"])
    message: str = Field(examples=["Field required"])


class Problem(BaseModel):
    """The body of every error."""

    type: str = Field(description="The code, as a URN.", examples=["urn:muelle:email_taken"])
    title: str = Field(description="The kind of error.", examples=["Conflict"])
    status: int = Field(description="The HTTP status, once more.", examples=[409])
    detail: str = Field(
        description="What happened, for people.", examples=["An account with that e-mail address already exists."]
    )
    code: str = Field(
        description="What happened, for programs: it stays the same from version to version.", examples=["email_taken"]
    )
    hint: str | None = Field(
        None, description="What to do next, where that is known.", examples=["Log in, or reset the password."]
    )
    instance: str | None = Field(None, description="What was asked for.", examples=["/api/v1/auth/signup"])
    request_id: str | None = Field(
        None,
        description="The request, as logs and the audit log know it; also in the header `X-Request-Id`.",
        examples=["019a2b3c4d5e6f708192a3b4"],
    )
    errors: list[FieldError] | None = Field(
        None, description=f"Where fields are wrong, which ones: the first {ERRORS_LISTED}."
    )


def status_of(kind: type[MuelleError]) -> int:
    return next(_STATUS[ancestor] for ancestor in kind.__mro__ if ancestor in _STATUS)


def problem(error: MuelleError, path: str = "", errors: Sequence[FieldError] = ()) -> Problem:
    return Problem(
        type=f"urn:muelle:{error.code}",
        title=_TITLES[error.kind],
        status=status_of(type(error)),
        detail=_clean(error.message),
        code=error.code,
        hint=error.advice or None,
        instance=_clean(path)[:LONGEST_ECHO] or None,
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
    return Response(body.model_dump_json(exclude_none=True), body.status, headers, media_type=MEDIA_TYPE)


def add_problem_handlers(app: FastAPI) -> None:
    """Tells in the same way what the framework itself has to say, such as that there is no such address."""
    app.router.redirect_slashes = False  # a redirect to whatever the client called us, with their token

    async def answer(request: Request, error: Exception) -> Response:
        return problem_response(error, request.url.path)

    async def not_that_method(request: Request, _: Exception) -> Response:
        allowed = ", ".join(_methods(app, request.scope["path"]))
        if request.method == "OPTIONS":
            return Response(status_code=204, headers={"Allow": allowed})
        response = problem_response(MethodNotAllowed(method=request.method[:20], allowed=allowed), request.url.path)
        response.headers["Allow"] = allowed
        return response

    for kind in (MuelleError, RequestValidationError, HTTPException, Exception):
        app.add_exception_handler(kind, answer)
    app.add_exception_handler(405, not_that_method)


def responses_for(kinds: Iterable[type[MuelleError]]) -> dict[int | str, dict[str, Any]]:
    """The API's description of these errors: a status each, with an example per error (see `examples_for`)."""
    responses: dict[int | str, dict[str, Any]] = {}
    for kind in sorted(set(kinds), key=lambda kind: (status_of(kind), kind.code)):
        content = {"schema": {"$ref": "#/components/schemas/Problem"}, "examples": {}}
        response = responses.setdefault(status_of(kind), {"description": "", "content": {MEDIA_TYPE: content}})
        response["description"] = f"{response['description']}\n- `{kind.code}`: {_sentence(kind)}".strip()
        response["content"][MEDIA_TYPE]["examples"][kind.code] = {"$ref": f"#/components/examples/{kind.code}"}
        if issubclass(kind, TooOften):
            response["headers"] = {"Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer"}}}
    return responses


def examples_for(kinds: Iterable[type[MuelleError]]) -> dict[str, dict[str, Any]]:
    """The examples that `responses_for` refers to, by their codes."""
    return {kind.code: {"summary": _sentence(kind), "value": _example(kind)} for kind in kinds}


def _as_ours(error: Exception) -> tuple[MuelleError, list[FieldError]]:
    fields: list[FieldError] = []
    told: MuelleError = Unexpected()
    match error:
        case MuelleError(kind=Kind.FAILURE):
            _log.error("failure", error=error.message, exc_info=error)
        case MuelleError(kind=Kind.UNAVAILABLE):
            _log.warning("unavailable", error=error.message, cause=_words(error.__cause__))
            told = error
        case MuelleError():
            told = error
        case RequestValidationError():
            told, fields = _as_field_errors(error)
        case HTTPException(status_code=status) if status < 500:
            told = NoSuchRoute() if status == 404 else Refused()
        case ConnectionError() | TimeoutError() | PoolTimeout() | DBAPIError(connection_invalidated=True):
            _log.warning("dependency silent", error=_words(error))
            told = DependencySilent()
        case _:
            _log.error("unexpected error", error=_words(error), exc_info=error)
    return told, fields


def _words(error: BaseException | None) -> str:
    """As it is, not as `repr` quotes it: secrets are found in the one and may be missed in the other."""
    return "" if error is None else f"{type(error).__name__}: {error}"


def _as_field_errors(error: RequestValidationError) -> tuple[MuelleError, list[FieldError]]:
    found = [
        FieldError(
            field=_clean(".".join(str(part) for part in item["loc"]))[:LONGEST_ECHO] or "body",
            message=item["msg"].removeprefix("Value error, "),
        )
        for item in error.errors()[:ERRORS_LISTED]
    ]
    names = ", ".join(dict.fromkeys(item.field.rpartition(".")[2] for item in found))
    return FieldsInvalid(fields=names[:LONGEST_ECHO]), found


def _clean(text: str) -> str:
    """Half a surrogate pair can stand in a JSON string that was sent to us, but in no answer."""
    return text.encode(errors="replace").decode()


def _methods(app: FastAPI, path: str) -> list[str]:
    """What an address takes: several routes may share it."""
    here = [route for route in app.routes if (regex := getattr(route, "path_regex", None)) and regex.match(path)]
    taken = {method for route in here for method in getattr(route, "methods", None) or ()}
    return sorted(taken | {"OPTIONS"} | ({"HEAD"} if "GET" in taken else set()))


def _example(kind: type[MuelleError]) -> dict[str, Any]:
    example = {
        "type": f"urn:muelle:{kind.code}",
        "title": _TITLES[kind.kind],
        "status": status_of(kind),
        "detail": _sentence(kind),
        "code": kind.code,
        "hint": re.sub(r"\{\w+\}", "…", kind.hint),
        "request_id": "019a2b3c4d5e6f708192a3b4",
    }
    return {name: value for name, value in example.items() if value}


def _sentence(kind: type[MuelleError]) -> str:
    """What an error says, before it is known about what."""
    return re.sub(r"\{\w+\}", "…", (kind.__doc__ or "").strip().splitlines()[0])
