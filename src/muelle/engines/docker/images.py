"""Images: found or fetched by name, kept by digest, removed when nobody needs them."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from muelle.engines.docker import names
from muelle.engines.docker.daemon import Daemon, Refused, within
from muelle.engines.docker.names import Names
from muelle.engines.docker.references import HUB, full, split
from muelle.engines.docker.streams import Messages
from muelle.engines.protocol import Credentials, Image, ImageMissing, KeptImage, Say
from muelle.kit.clock import Clock

PULL_BEGINS_SECONDS = 120.0
"""For the daemon to have found the registry and the image there."""
PULL_SECONDS = 1800.0
REMOVE_SECONDS = 60.0
KEPT_STAGES = 100
STAGES_KEPT_FOR = timedelta(days=7)
"""What builds left on the way to their images: the next build goes on from there, for so long and so many."""
SETTLING = timedelta(hours=1)
"""So young, it may belong to a build that is still under way."""
_QUIET = {"Waiting", "Downloading", "Extracting", "Verifying Checksum", "Download complete"}


class Images:
    def __init__(self, daemon: Daemon, ours: Names, clock: Clock) -> None:
        self._daemon = daemon
        self._names = ours
        self._clock = clock

    async def resolve(self, reference: str, credentials: Credentials | None, say: Say) -> Image:
        return image(await self.found(reference, credentials, say))

    async def found(self, reference: str, credentials: Credentials | None, say: Say) -> dict[str, Any]:
        """What the engine tells of it. Raises ImageMissing; so does one that an installation built for an owner."""
        name = full(reference)
        details = await self._here(name)
        if details is None:
            await self._pull(name, reference, credentials, say)
            details = await self._here(name)
        if details is None or names.INSTALLATION in ((details.get("Config") or {}).get("Labels") or {}):
            raise ImageMissing(reference=reference, reason="there is none of that name")
        return details

    async def _here(self, name: str) -> dict[str, Any] | None:
        try:
            details: dict[str, Any] = await self._daemon.ask("look at an image", "GET", f"images/{name}/json")
        except Refused as refused:
            if refused.status in {400, 404}:
                return None
            raise
        return details

    async def _pull(self, name: str, reference: str, credentials: Credentials | None, say: Say) -> None:
        source, version = split(name)
        params = {"fromImage": source, "tag": version}
        headers = {"X-Registry-Auth": _log_in(credentials)} if credentials and _is_for(source, credentials) else {}
        say(f"Fetching {name}")
        try:
            async with (
                asyncio.timeout(PULL_SECONDS),
                self._daemon.stream(
                    "fetch an image",
                    "POST",
                    "images/create",
                    params=params,
                    headers=headers,
                    seconds=PULL_BEGINS_SECONDS,
                ) as chunks,
            ):
                messages = Messages()
                async for chunk in chunks:
                    for message in messages.feed(chunk):
                        _tell(message, reference, say)
        except TimeoutError:
            raise ImageMissing(reference=reference, reason=f"fetching took over {PULL_SECONDS:.0f} s") from None
        except Refused as refused:
            raise ImageMissing(reference=reference, reason=short(refused.reason)) from None

    async def has(self, id: str) -> bool:
        return await self._here(within(id)) is not None

    async def all(self) -> Sequence[KeptImage]:
        params = self._names.filters(names.BUILD)
        listed = await self._daemon.ask("list its images", "GET", "images/json", params=params)
        return [_kept(one) for one in listed]

    async def remove(self, id: str) -> None:
        details = await self._here(within(id))
        if details is None or not self._names.ours((details.get("Config") or {}).get("Labels")):
            return
        await self._remove(details["Id"])

    async def _remove(self, id: str) -> None:
        """Never by force: Docker then leaves what a container needs, and what somebody gave a name of their own."""
        try:
            await self._daemon.ask("remove an image", "DELETE", f"images/{within(id)}", seconds=REMOVE_SECONDS)
        except Refused as refused:
            if refused.status not in {404, 409}:
                raise

    async def tidy(self) -> None:
        """Bounds what builds left behind: stages, and layers of builds that failed."""
        params = self._names.filters(dangling=["true"])
        listed = await self._daemon.ask("list its images", "GET", "images/json", params=params)
        left = sorted((one for one in listed if names.BUILD not in one["Labels"]), key=_made_at, reverse=True)
        now = self._clock.now()
        for place, one in enumerate(left):
            age = now - _made_at(one)
            if age > STAGES_KEPT_FOR or (place >= KEPT_STAGES and age > SETTLING):
                await self._remove(one["Id"])


def image(details: dict[str, Any]) -> Image:
    ports = (details.get("Config") or {}).get("ExposedPorts") or {}
    numbers = sorted(int(port.partition("/")[0]) for port in ports if not port.endswith(("/udp", "/sctp")))
    return Image(details["Id"], int(details.get("Size", 0)), tuple(numbers))


def short(reason: str) -> str:
    """A registry's words, without the addresses that were tried on the way."""
    lowered = reason.lower()
    if any(word in lowered for word in ("unauthorized", "access denied", "authentication required", "credentials")):
        return "there is none, or it needs a log-in"
    if "manifest unknown" in lowered or "not found" in lowered:
        return "the registry has none of that name and tag"
    if any(
        word in lowered for word in ("no such host", "dial tcp", "timeout", "deadline", "connection refused", "tls")
    ):
        return "it is not here, and its registry does not answer"
    return reason.strip().splitlines()[0][:200] if reason.strip() else "the registry gave no reason"


def _is_for(source: str, credentials: Credentials) -> bool:
    """A password is told to the registry that it is for, and to no other that somebody names."""
    registry = credentials.registry.removeprefix("https://").partition("/")[0] or HUB
    return source.partition("/")[0] == (HUB if registry == f"index.{HUB}" else registry)


def _log_in(credentials: Credentials) -> str:
    asked = {
        "username": credentials.user,
        "password": credentials.password,
        "serveraddress": credentials.registry,
    }
    return base64.urlsafe_b64encode(json.dumps(asked).encode()).decode()


def _tell(message: dict[str, Any], reference: str, say: Say) -> None:
    if "error" in message:
        raise ImageMissing(reference=reference, reason=short(str(message["error"])))
    status = str(message.get("status", ""))
    if status and status not in _QUIET:
        say(f"{message['id']}: {status}" if message.get("id") else status)


def _kept(listed: dict[str, Any]) -> KeptImage:
    return KeptImage(listed["Id"], listed["Labels"][names.BUILD], listed["Size"], _made_at(listed))


def _made_at(listed: dict[str, Any]) -> datetime:
    return datetime.fromtimestamp(listed["Created"], UTC)
