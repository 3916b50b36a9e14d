"""Completes the API's description: how to authenticate, the idempotency header, the shape of errors, examples."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fastapi import FastAPI

from muelle.kit.http.examples import example_of
from muelle.kit.http.problems import FieldError, Problem, examples_for
from muelle.kit.http.routes import RoomRoute

_REF = "#/components/schemas/{model}"
_JSON = "application/json"
_METHODS = ("get", "put", "post", "patch", "delete")

_IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "Makes it safe to send the request again: the same key and body have one effect and one answer, "
    "which is kept for 24 hours.",
    "schema": {
        "type": "string",
        "minLength": 1,
        "maxLength": 255,
        "pattern": "^[\\x21-\\x7e]+$",
        "examples": ["7d0cf3a2-5b1e-4f57-9a0e-1c8a3f6f2b11"],
    },
}
_BEARER = {
    "type": "http",
    "scheme": "bearer",
    "description": "An access token from logging in, or an API key.",
}


def complete(app: FastAPI) -> None:
    """Replaces the application's `openapi` by one that adds what FastAPI does not know of; made on demand."""
    plain = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = plain()
            _add_components(app, schema.setdefault("components", {}))
            for operation in _operations(schema):
                _add_examples(operation, schema["components"]["schemas"])
            app.openapi_schema = schema
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _add_components(app: FastAPI, components: dict[str, Any]) -> None:
    errors = {error.code: error for route in app.routes if isinstance(route, RoomRoute) for error in route.errors()}
    components["examples"] = examples_for(errors[code] for code in sorted(errors))
    components.setdefault("securitySchemes", {})["bearer"] = _BEARER
    components.setdefault("parameters", {})["IdempotencyKey"] = _IDEMPOTENCY_KEY
    schemas = components.setdefault("schemas", {})
    for model in (Problem, FieldError):
        schemas[model.__name__] = model.model_json_schema(ref_template=_REF)
        schemas[model.__name__].pop("$defs", None)
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)


def _operations(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for path in schema["paths"].values():
        yield from (path[method] for method in _METHODS if method in path)


def _add_examples(operation: dict[str, Any], schemas: dict[str, Any]) -> None:
    """One for each body; FastAPI leaves them to the reader to put together from the fields."""
    asked = operation.get("requestBody", {}).get("content", {}).get(_JSON)
    if asked is not None:
        asked.setdefault("example", example_of(asked["schema"], schemas, whole=False))
    for answer in operation["responses"].values():
        told = answer.get("content", {}).get(_JSON)
        if told is not None:
            told.setdefault("example", example_of(told["schema"], schemas, whole=True))
