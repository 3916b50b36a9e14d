"""Completes the API's description: how to authenticate, the idempotency header, the shape of errors."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI

from muelle.kit.http.problems import FieldError, Problem

_REF = "#/components/schemas/{model}"

_IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "Makes it safe to send the request again: the same key and body have one effect and one answer.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[\\x21-\\x7e]+$"},
}
_BEARER = {
    "type": "http",
    "scheme": "bearer",
    "description": "An access token from logging in, or an API key.",
}


def complete(app: FastAPI) -> None:
    """Replaces the application's `openapi` by one that adds the parts that FastAPI does not know of. Made on demand."""
    plain = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = plain()
            components = schema.setdefault("components", {})
            components.setdefault("securitySchemes", {})["bearer"] = _BEARER
            components.setdefault("parameters", {})["IdempotencyKey"] = _IDEMPOTENCY_KEY
            schemas = components.setdefault("schemas", {})
            for model in (Problem, FieldError):
                schemas[model.__name__] = model.model_json_schema(ref_template=_REF) | {}
                schemas[model.__name__].pop("$defs", None)
            for unused in ("HTTPValidationError", "ValidationError"):
                schemas.pop(unused, None)
            app.openapi_schema = schema
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]
