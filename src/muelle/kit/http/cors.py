"""Which web pages may call the API from a browser: those of a list of origins, and no others."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from muelle.kit.errors import Denied
from muelle.kit.http.problems import problem_response

REMEMBERED_SECONDS = 600
ORIGIN_ALLOWED = "muelle.origin_allowed"
"""In the scope of a socket that a page of one of these origins wants to open."""
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
_ASKED_WITH = ("authorization", "content-type", "idempotency-key", "x-request-id")
_ANSWERED_WITH = ("x-request-id", "retry-after", "idempotency-replayed")


class OriginNotAllowed(Denied):
    """Pages of that origin may not call this API from a browser, or not like that."""

    hint = "The operator allows origins with MUELLE_CORS_ORIGINS."


class Cors(CORSMiddleware):
    def __init__(self, app: ASGIApp, origins: Sequence[str]) -> None:
        super().__init__(
            app,
            allow_origins=origins,
            allow_methods=_METHODS,
            allow_headers=_ASKED_WITH,
            expose_headers=_ANSWERED_WITH,
            max_age=REMEMBERED_SECONDS,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Browsers leave it to the server whether a page may open a socket."""
        if scope["type"] == "websocket":
            scope[ORIGIN_ALLOWED] = self.is_allowed_origin(Headers(scope=scope).get("origin", ""))
        await super().__call__(scope, receive, send)

    def preflight_response(self, request_headers: Headers) -> Response:
        response = super().preflight_response(request_headers)
        if response.status_code < 400:
            return response
        refused = problem_response(OriginNotAllowed())
        refused.headers["Vary"] = "Origin"
        return refused
