"""The API's description is complete: whoever reads nothing else can use the API, and a program can make a client."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import jsonschema_rs
import pytest

from muelle.kit.http.problems import MEDIA_TYPE
from tests.world import World

METHODS = {"get", "put", "post", "patch", "delete"}
Operation = dict[str, Any]


@pytest.fixture
async def described(one: World) -> dict[str, Any]:
    answer = await one.ask("GET", "/openapi.json")
    assert answer.status_code == 200
    found: dict[str, Any] = answer.json()
    return found


async def test_it_says_what_it_is(described: dict[str, Any]) -> None:
    assert described["openapi"].startswith("3.1.")
    assert described["info"]["title"] == "Muelle"
    assert described["info"]["version"]
    assert described["info"]["description"]
    assert described["components"]["securitySchemes"]["bearer"]["scheme"] == "bearer"


async def test_every_operation_tells_its_name_its_part_and_what_it_does(described: dict[str, Any]) -> None:
    names = [operation["operationId"] for _, operation in _operations(described)]
    assert len(names) == len(set(names))
    parts = [tag["name"] for tag in described["tags"]]
    for where, operation in _operations(described):
        assert re.fullmatch(r"[a-z]+(_[a-z]+)*", operation["operationId"]), where
        assert operation["summary"], where
        assert operation["description"].endswith("."), where
        assert len(operation["tags"]) == 1, where
        assert operation["tags"][0] in parts, where
    assert all(tag["description"] for tag in described["tags"])
    assert {operation["tags"][0] for _, operation in _operations(described)} == set(parts)


async def test_every_operation_tells_who_may_call_it(described: dict[str, Any]) -> None:
    for where, operation in _operations(described):
        if operation["x-access"] == "anybody":
            assert "security" not in operation, where
            assert "401" not in operation["responses"] or "login" in where or "refresh" in where, where
        else:
            assert operation["security"] == [{"bearer": []}], where
            assert operation["x-scope"], where
            assert {"401", "403"} <= set(operation["responses"]), where


async def test_every_error_has_its_shape_and_an_example(described: dict[str, Any]) -> None:
    examples = described["components"]["examples"]
    problem = _validator(described, {"$ref": "#/components/schemas/Problem"})
    for where, operation in _operations(described):
        for status, answer in operation["responses"].items():
            if status < "400" or (where, status) == ("GET /health/ready", "503"):
                continue
            told = answer["content"][MEDIA_TYPE]
            assert told["schema"] == {"$ref": "#/components/schemas/Problem"}, where
            assert told["examples"], (where, status)
            for code in told["examples"]:
                assert f"`{code}`" in answer["description"], (where, status)
                assert examples[code]["value"]["code"] == code
                assert str(examples[code]["value"]["status"]) == status
                problem.validate(examples[code]["value"])
        assert "500" in operation["responses"], where


async def test_every_answer_and_every_body_has_an_example_that_is_valid(described: dict[str, Any]) -> None:
    for where, operation in _operations(described):
        for media in _json_of(operation):
            assert "…" not in json.dumps(media["example"], ensure_ascii=False), (where, media["example"])
            _validator(described, media["schema"]).validate(media["example"])


async def test_everything_that_is_sent_or_answered_is_explained(described: dict[str, Any]) -> None:
    for name, schema in described["components"]["schemas"].items():
        assert schema.get("description") or "enum" in schema, name
        for field, inner in schema.get("properties", {}).items():
            plain = inner.get("type") == "string" and not {"enum", "const", "examples", "format"} & inner.keys()
            assert not plain, f"{name}.{field} has no example"
    for where, operation in _operations(described):
        for parameter in operation.get("parameters", []):
            if "$ref" not in parameter and parameter["in"] == "query":
                assert parameter.get("description"), f"{where} ?{parameter['name']}"
            if parameter.get("in") == "path":
                assert parameter["schema"]["examples"], f"{where} {parameter['name']}"


UPLOAD = "POST /api/v1/uploads"
"""Sent again it makes another upload, which is nothing to anybody until it is deployed: it has no key."""


async def test_what_changes_something_may_be_sent_again(described: dict[str, Any]) -> None:
    key = {"$ref": "#/components/parameters/IdempotencyKey"}
    for where, operation in _operations(described):
        changes = not where.startswith("GET") and where != UPLOAD
        assert (key in operation.get("parameters", [])) == changes, where


async def test_nothing_is_declared_that_cannot_happen(described: dict[str, Any]) -> None:
    for where, operation in _operations(described):
        takes = set(operation["responses"])
        assert ("400" in takes) == ("requestBody" in operation), where
        assert ("415" in takes) == ("requestBody" in operation), where
        assert ("413" in takes) == (not where.startswith("GET")), where
        asks = "requestBody" in operation or any("$ref" not in one for one in operation.get("parameters", []))
        assert ("422" in takes) == (asks or not where.startswith("GET")), where


def _operations(described: dict[str, Any]) -> Iterator[tuple[str, Operation]]:
    for path, methods in described["paths"].items():
        yield from ((f"{method.upper()} {path}", methods[method]) for method in METHODS & methods.keys())


def _json_of(operation: Operation) -> Iterator[dict[str, Any]]:
    for message in (operation.get("requestBody", {}), *operation["responses"].values()):
        if "application/json" in message.get("content", {}):
            yield message["content"]["application/json"]


def _validator(described: dict[str, Any], schema: dict[str, Any]) -> Any:
    return jsonschema_rs.validator_for({**schema, "components": described["components"]})
