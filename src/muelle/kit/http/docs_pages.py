"""The pages that show an application's API to people: Swagger UI at /docs and Redoc at /redoc, without the internet.

FastAPI's own pages load scripts from a CDN. These bring theirs along (`assets/`, fetched by scripts/renew_assets.py),
have no script within them, and forbid the browser to ask anybody but us. Redoc tries to show its makers' logo from
their server all the same: the policy stops it before anything is sent, and Redoc then leaves the logo out.

Every address in the pages is relative to the page, so it does not matter where the application is mounted or what a
proxy in front of it cuts off. Nothing is read or put together before somebody opens a page.
"""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import dataclass
from functools import cache
from html import escape
from importlib.resources import files

from fastapi import FastAPI
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

ASSETS = {
    "start.js": "text/javascript; charset=utf-8",
    "swagger-ui-bundle.js": "text/javascript; charset=utf-8",
    "swagger-ui.css": "text/css; charset=utf-8",
    "redoc.standalone.js": "text/javascript; charset=utf-8",
    "favicon.png": "image/png",
    "swagger-ui.LICENSE.txt": "text/plain; charset=utf-8",
    "swagger-ui.NOTICE.txt": "text/plain; charset=utf-8",
    "swagger-ui-bundle.js.LICENSE.txt": "text/plain; charset=utf-8",
    "redoc.LICENSE.txt": "text/plain; charset=utf-8",
    "redoc.standalone.js.LICENSE.txt": "text/plain; charset=utf-8",
    "redoc.worker.js.LICENSE.txt": "text/plain; charset=utf-8",
}
POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "worker-src blob:",
        "font-src 'self' data:",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    ]
)
_FOREVER = "public, max-age=31536000, immutable"
_ASK_AGAIN = "no-cache"


def add_docs_pages(app: FastAPI, *, title: str) -> None:
    """Adds /docs, /redoc and /docs/assets/{name}. Create the application with `docs_url=None, redoc_url=None`."""
    if app.docs_url or app.redoc_url or not app.openapi_url:
        raise ValueError("the documentation pages need an application with an openapi_url but no pages of its own")
    openapi = app.openapi_url.lstrip("/")

    async def docs(_: Request) -> Response:
        return await run_in_threadpool(_page, title, openapi, "swagger-ui")

    async def redoc(_: Request) -> Response:
        return await run_in_threadpool(_page, title, openapi, "redoc")

    async def asset(request: Request) -> Response:
        name = request.path_params["name"]
        if name not in ASSETS:
            raise HTTPException(404)
        return _asset_response(name, await run_in_threadpool(_asset, name), request)

    app.add_route("/docs", docs, include_in_schema=False)
    app.add_route("/redoc", redoc, include_in_schema=False)
    app.add_route("/docs/assets/{name}", asset, include_in_schema=False)


def _page(title: str, openapi: str, kind: str) -> Response:
    if kind == "swagger-ui":
        script = "swagger-ui-bundle.js"
        style = f'<link rel="stylesheet" href="{_address("swagger-ui.css")}">'
    else:
        script = "redoc.standalone.js"
        style = ""
    where = escape(openapi)
    html = f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<link rel="icon" type="image/png" href="{_address("favicon.png")}">
{style}
<style>body {{ margin: 0 }}</style>
</head>
<body>
<noscript>This page needs JavaScript. What it shows is in <a href="{where}">{where}</a>.</noscript>
<div id="{kind}" data-openapi="{where}"></div>
<script src="{_address(script)}"></script>
<script src="{_address("start.js")}"></script>
</body>
</html>
"""
    return HTMLResponse(html, headers={"Content-Security-Policy": POLICY, "Cache-Control": _ASK_AGAIN})


def _address(name: str) -> str:
    """Where a page finds an asset. The address changes with the content, so browsers may keep it for ever."""
    return f"docs/assets/{name}?v={_asset(name).version}"


@dataclass(frozen=True)
class _Asset:
    version: str
    packed: bytes  # gzipped; kept so, since the browsers that cannot unpack it are few


@cache
def _asset(name: str) -> _Asset:
    content = (files(__package__) / "assets" / name).read_bytes()
    return _Asset(hashlib.sha256(content).hexdigest()[:32], gzip.compress(content, mtime=0))


def _asset_response(name: str, asset: _Asset, request: Request) -> Response:
    headers = {
        "ETag": f'W/"{asset.version}"',
        "Cache-Control": _FOREVER if request.query_params.get("v") == asset.version else _ASK_AGAIN,
        "Vary": "Accept-Encoding",
    }
    if asset.version in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    if "gzip" not in request.headers.get("accept-encoding", ""):
        return Response(gzip.decompress(asset.packed), headers=headers, media_type=ASSETS[name])
    return Response(asset.packed, headers={**headers, "Content-Encoding": "gzip"}, media_type=ASSETS[name])
