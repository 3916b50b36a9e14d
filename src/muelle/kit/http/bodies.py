"""Reading a request's JSON: strictly, so that what is understood is what was meant.

Python's own reader takes more than JSON: NaN, UTF-16, and the last of two equal names. A body that needs such mercy is
more likely a mistake, or two programs that are meant to understand it differently.
"""

from __future__ import annotations

import json
from typing import Any

from starlette.requests import Request

from muelle.kit.errors import Invalid

MOST_FIELDS = 1000
"""In one object: more are a mistake, and each that is unknown costs an error message."""


class BodyTooLarge(Invalid):
    """The request's body is larger than the {limit_bytes} bytes that are taken here."""


class BodyUnreadable(Invalid):
    """The request's body is not valid JSON in UTF-8."""

    hint = "Check quotes, commas and the encoding."


class NotJson(Invalid):
    """The request's body has to be JSON; it says that it is {media_type}."""

    hint = "Send it with `Content-Type: application/json`."


class FieldRepeated(Invalid):
    """The field "{field}" is there twice in one object."""


class TooManyFields(Invalid):
    """An object in the request's body has more than {most} fields."""


READING_ERRORS = (BodyUnreadable, NotJson, FieldRepeated, TooManyFields)


class JsonRequest(Request):
    """A request whose `json` is read strictly."""

    async def json(self) -> Any:
        if not hasattr(self, "_json"):
            self._json = read_json(self.headers.get("content-type", ""), await self.body())
        return self._json


def read_json(content_type: str, body: bytes) -> Any:
    media_type = content_type.partition(";")[0].strip().lower()
    subtype = media_type.removeprefix("application/")
    if media_type and subtype != "json" and not subtype.endswith("+json"):
        raise NotJson(media_type=media_type[:100])
    try:
        return json.loads(body.decode("utf-8-sig"), object_pairs_hook=_object, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise BodyUnreadable from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(pairs) > MOST_FIELDS:
        raise TooManyFields(most=MOST_FIELDS)
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise FieldRepeated(field=name[:100])
        found[name] = value
    return found


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")
