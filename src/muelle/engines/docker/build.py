"""Builds by the engine's own builder: one request, whose body is the source and whose answer is the log.

The older of Docker's two builders, which every engine has in its API, and which bounds memory and processor of each
command. The build lives as long as the request: when the task that waits for it is cancelled, or this process is
killed, the connection closes and the engine ends the build.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from muelle.engines.docker import context, dockerfile, own_dockerfile, prelude
from muelle.engines.docker.build_log import BuildLog
from muelle.engines.docker.daemon import Daemon, Refused, within
from muelle.engines.docker.ignore import FILE, Ignored, parse
from muelle.engines.docker.images import Images, image
from muelle.engines.docker.names import BUILD, Names
from muelle.engines.docker.networks import Networks
from muelle.engines.docker.specification import PERIOD_MICROS, quota
from muelle.engines.docker.streams import Messages
from muelle.engines.protocol import BuildFailed, BuildOrder, EngineUnavailable, Image, ImageMissing, Limits, Say
from muelle.engines.recipe import OwnDockerfile, Recipe

BUILD_SECONDS = 3600.0
"""At most: whoever orders a build bounds it more closely."""
SEND_SECONDS = 900.0
"""For the source to be sent, before the first word comes back."""
END_SECONDS = 1.5
"""For a build that was cancelled to be gone."""
LOOK_SECONDS = 0.05
SHARE = 256
"""Of the processor, where it is short: a fourth of what a running program gets."""


@dataclass(frozen=True)
class Plan:
    """What is sent, decided before anything is."""

    path: str
    """The Dockerfile's, in the context."""
    files: Mapping[str, bytes]
    ignored: Ignored = field(default_factory=Ignored)
    arguments: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    """Of the image alone: each is one more layer to be made, and takes its time."""
    bases: tuple[str, ...] = ()
    """Images to be looked at before."""


class Builds:
    def __init__(self, daemon: Daemon, ours: Names, networks: Networks, images: Images) -> None:
        self._daemon = daemon
        self._names = ours
        self._networks = networks
        self._images = images

    async def build(self, order: BuildOrder, say: Say) -> Image:
        carried = prelude.arguments(order.environment, order.trusted)
        plan = await asyncio.to_thread(planned, order, self._names, prelude.CALL if carried else "")
        for base in plan.bases:
            await self._check(base, say)
        log = BuildLog(say, prelude.CALL, order.limits.memory_bytes)
        try:
            async with asyncio.timeout(BUILD_SECONDS), self._networks.held(order.owner) as network:
                params = self._params(order, plan, network, {**plan.arguments, **carried})
                await self._run(params, order, plan, log)
                if network in log.failure and "not found" in log.failure:  # tidied away by another process of ours
                    await self._networks.of(order.owner, anew=True)
                    log.begin()
                    await self._run(params, order, plan, log)
        except TimeoutError:
            raise BuildFailed(reason=f"it took more than {BUILD_SECONDS / 60:.0f} minutes") from None
        if log.failure or not log.image:
            raise BuildFailed(reason=log.reason() or "the engine did not say which image it built")
        return image(await self._daemon.ask("look at an image", "GET", f"images/{within(log.image)}/json"))

    async def _check(self, base: str, say: Say) -> None:
        """Fetches it if need be. One that another owner built is as good as not there."""
        try:
            details = await self._images.found(base, None, say)
        except ImageMissing as missing:
            raise BuildFailed(reason=missing.message.removesuffix(".")) from None
        triggers = (details.get("Config") or {}).get("OnBuild") or []
        if any(own_dockerfile.copied_from(trigger) for trigger in triggers):
            raise BuildFailed(reason=f'the image "{base}" copies from other images when it is built upon')

    def _params(self, order: BuildOrder, plan: Plan, network: str, arguments: Mapping[str, str]) -> dict[str, Any]:
        repository, tag = self._names.image(order.name)
        return {
            "version": "1",
            "dockerfile": plan.path,
            "t": f"{repository}:{tag}",
            "labels": plan.labels,
            "buildargs": dict(arguments),
            "networkmode": network,
            "rm": True,
            "forcerm": True,
            **_bounds(order.limits),
        }

    async def _run(self, params: Mapping[str, Any], order: BuildOrder, plan: Plan, log: BuildLog) -> None:
        containers: list[str] = []
        try:
            await self._talk(params, order, plan, log, containers)
        except Refused as refused:
            raise BuildFailed(reason=refused.reason) from None
        except asyncio.CancelledError:
            await self._gone(containers)
            raise

    async def _talk(
        self, params: Mapping[str, Any], order: BuildOrder, plan: Plan, log: BuildLog, containers: list[str]
    ) -> None:
        source = context.stream(order.folder, plan.ignored, plan.files)
        headers = {"Content-Type": "application/x-tar"}
        async with self._daemon.stream(
            "build", "POST", "build", params=params, data=source, headers=headers, seconds=SEND_SECONDS
        ) as chunks:
            messages = Messages()
            async for chunk in chunks:
                for message in messages.feed(chunk):
                    for container in log.take(message):
                        containers[:] = [container]
                        await self._bound(container, order.limits)
        log.end()

    async def _bound(self, container: str, limits: Limits) -> None:
        """The number of processes is the one bound that the builder does not know: it is set as soon as there is
        something to set it on."""
        with suppress(Refused):  # the command has ended already
            asked = {"PidsLimit": limits.pids}
            await self._daemon.ask("bound a build", "POST", f"containers/{within(container)}/update", body=asked)

    async def _gone(self, containers: list[str]) -> None:
        """The engine ends what it was doing when the connection closes; this sees to it that it has."""
        with suppress(TimeoutError, EngineUnavailable):
            async with asyncio.timeout(END_SECONDS):
                while any([await self._there(container) for container in containers]):  # noqa: ASYNC110 - no event
                    await asyncio.sleep(LOOK_SECONDS)

    async def _there(self, container: str) -> bool:
        try:
            await self._daemon.ask("look at a container", "GET", f"containers/{within(container)}/json")
        except Refused:
            return False
        return True


def planned(order: BuildOrder, names: Names, call: str) -> Plan:
    """Reads what it has to of the source. Raises BuildFailed."""
    match order.recipe:
        case Recipe() as recipe:
            made = dockerfile.written(recipe, names.labels(), call)
            files = {**made.files, dockerfile.DOCKERFILE: made.dockerfile.encode()}
            ignored = parse(dockerfile.left_out(recipe))
            return Plan(dockerfile.DOCKERFILE, files, ignored, labels={BUILD: order.name})
        case OwnDockerfile() as own:
            return _own(order, own, names, call)


def _own(order: BuildOrder, own: OwnDockerfile, names: Names, call: str) -> Plan:
    folder, path = order.folder, _path(own.path)
    text = _read(folder, path, own_dockerfile.LONGEST_BYTES)
    if text is None:
        raise BuildFailed(reason=f"there is no Dockerfile at {own.path!r} in the source")
    patterns = _read(folder, FILE, own_dockerfile.LONGEST_BYTES)
    files = {path: own_dockerfile.labelled(text, names.labels(), call).encode()}
    if patterns is not None:
        files[FILE] = patterns.encode()  # the engine reads it, and takes it out itself if it says so
    return Plan(
        path,
        files,
        parse(patterns or ""),
        own.arguments,
        names.labels(build=order.name),  # both: a Dockerfile may have set either
        tuple(own_dockerfile.bases(text, own.arguments)),
    )


def _path(text: str) -> str:
    path = PurePosixPath(text)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise BuildFailed(reason=f"the Dockerfile's path {text!r} leads out of the source")
    return str(path)


def _read(folder: Path, path: str, longest: int) -> str | None:
    """A text of the source, or nothing. A link is followed as far as the source goes, and no further."""
    file = Path(os.path.realpath(folder / path))
    if not file.is_relative_to(os.path.realpath(folder)) or not file.is_file():
        return None
    with file.open("rb") as opened:
        content = opened.read(longest + 1)
    if len(content) > longest:
        raise BuildFailed(reason=f"{path} is longer than {longest} bytes")
    return content.decode(errors="replace")


def _bounds(limits: Limits) -> dict[str, int]:
    return {
        "memory": limits.memory_bytes,
        "memswap": limits.memory_bytes,
        "cpuperiod": PERIOD_MICROS,
        "cpuquota": quota(limits),
        "cpushares": SHARE,
    }
