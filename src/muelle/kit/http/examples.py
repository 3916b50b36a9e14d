"""Examples for the API's description, put together from those of the fields: what is shown is what would be taken."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Schema = Mapping[str, Any]
_PLAIN: dict[str, Any] = {"string": "…", "integer": 1, "number": 1.5, "boolean": True, "null": None}


def example_of(schema: Schema, schemas: Schema, *, whole: bool) -> Any:
    """An example of a schema. `whole`: with its optional fields, as in an answer; else only what has to be sent."""
    match schema:
        case {"$ref": str(name)}:
            return example_of(schemas[name.rpartition("/")[2]], schemas, whole=whole)
        case {"examples": [first, *_]} | {"const": first} | {"enum": [first, *_]}:
            return first
        case {"anyOf": [first, *_]} | {"oneOf": [first, *_]}:
            return example_of(first, schemas, whole=whole)
        case {"type": "object"}:
            return _object(schema, schemas, whole=whole)
        case {"type": "array"}:
            return [example_of(schema.get("items", {}), schemas, whole=whole)]
    return schema.get("default", _PLAIN.get(schema.get("type", "null")))


def _object(schema: Schema, schemas: Schema, *, whole: bool) -> dict[str, Any]:
    needed = schema.get("required", ())
    properties = schema.get("properties", {})
    found = {
        name: example_of(inner, schemas, whole=whole) for name, inner in properties.items() if whole or name in needed
    }
    inner = schema.get("additionalProperties")
    return found if found or not isinstance(inner, Mapping) else {"name": example_of(inner, schemas, whole=whole)}
