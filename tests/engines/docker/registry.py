"""A registry with one small image, which asks for a password where it is told to: no other can be reached in tests."""

from __future__ import annotations

import asyncio
import base64
import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

USER, PASSWORD = "ana", "open sesame"
MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"


class Registry:
    def __init__(self, private: bool) -> None:
        self._private = private
        self.passwords: list[str] = []
        """Those that were told to it."""
        self.sends = asyncio.Event()
        """Set: it sends layers; until then it lets everybody wait."""
        self.sends.set()
        self.waiting = asyncio.Event()
        self.place = ""
        self._blobs: dict[str, bytes] = {}
        self._manifest = self._made()

    def _made(self) -> bytes:
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as archive:
            entry = tarfile.TarInfo(f"hello-{id(self)}")  # so that no other run has this layer already
            archive.addfile(entry, io.BytesIO())
        tar = packed.getvalue()
        rootfs = {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(tar).hexdigest()}"]}
        ports = {"ExposedPorts": {"9000/tcp": {}, "80/tcp": {}, "53/udp": {}}}
        config = json.dumps({"architecture": "amd64", "os": "linux", "config": ports, "rootfs": rootfs}).encode()
        layers = [self._kept(gzip.compress(tar), "application/vnd.docker.image.rootfs.diff.tar.gzip")]
        head = self._kept(config, "application/vnd.docker.container.image.v1+json")
        told = {"schemaVersion": 2, "mediaType": MANIFEST, "config": head, "layers": layers}
        return json.dumps(told).encode()

    def _kept(self, content: bytes, kind: str) -> dict[str, object]:
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        self._blobs[digest] = content
        return {"mediaType": kind, "size": len(content), "digest": digest}

    async def answer(self, request: web.Request) -> web.StreamResponse:
        sent = request.headers.get("Authorization", "")
        if sent.startswith("Basic "):
            self.passwords.append(base64.b64decode(sent.removeprefix("Basic ")).decode())
        if self._private and f"{USER}:{PASSWORD}" not in self.passwords[-1:]:
            return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="here"'})
        if "/manifests/" in request.path:
            if not request.path.startswith("/v2/team/hello/") or request.path.endswith("/none"):
                return web.json_response(
                    {"errors": [{"code": "MANIFEST_UNKNOWN", "message": "manifest unknown"}]}, status=404
                )
            digest = f"sha256:{hashlib.sha256(self._manifest).hexdigest()}"
            return web.Response(body=self._manifest, content_type=MANIFEST, headers={"Docker-Content-Digest": digest})
        if "/blobs/" in request.path:
            return await self._blob(request.path.rpartition("/")[2])
        return web.json_response({})

    async def _blob(self, digest: str) -> web.StreamResponse:
        self.waiting.set()
        await self.sends.wait()
        return web.Response(body=self._blobs[digest])


@asynccontextmanager
async def open_registry(private: bool = False) -> AsyncIterator[Registry]:
    registry = Registry(private)
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", registry.answer)
    runner = web.AppRunner(application, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        registry.place = f"127.0.0.1:{runner.addresses[0][1]}"
        yield registry
    finally:
        await runner.cleanup()
