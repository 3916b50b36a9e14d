"""What a build is made of: a source fetched into a folder, and the recipe that it calls for."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from muelle.engines.protocol import Say
from muelle.engines.recipe import OwnDockerfile, Recipe
from muelle.workloads.sources import archives, git, inline
from muelle.workloads.sources.folder import look
from muelle.workloads.sources.limits import SourceLimits
from muelle.workloads.sources.model import FileSource, GitSource, ImageSource, Source, UploadSource
from muelle.workloads.sources.recipes import recipe_for

SHOWN_DIGITS = 12


@dataclass(frozen=True)
class Material:
    folder: Path
    recipe: Recipe | OwnDockerfile
    revision: str
    """A commit, or the digest of what was uploaded."""


@dataclass(frozen=True)
class Materials:
    uploaded: Callable[[str], Path]
    """Where an upload lies."""
    private_hosts: tuple[str, ...] = ()
    trusted: str = ""
    limits: SourceLimits = field(default_factory=SourceLimits)
    environment: Mapping[str, str] = field(default_factory=dict)
    """For builds alone, such as the address of a package index."""

    async def bring(self, source: Source, template: str, into: Path, say: Say) -> Material:
        """Fetches a source and decides how it is built. Raises what `sources.errors` knows."""
        revision = await self._fetch(source, into, say)
        choice = recipe_for(await asyncio.to_thread(look, into), template)
        say(f"Built as {choice.template}: {choice.reason}.")
        return Material(into, choice.recipe, revision)

    async def _fetch(self, source: Source, into: Path, say: Say) -> str:
        match source:
            case GitSource():
                say(f"Fetching {source.described}.")
                fetched = await git.fetch(
                    source, into, limits=self.limits, private_hosts=self.private_hosts, say=say, trusted=self.trusted
                )
                say(f"Commit {fetched.commit[:SHOWN_DIGITS]} of {fetched.author}: {fetched.subject}")
                return fetched.commit
            case UploadSource(upload):
                await archives.unpack(self.uploaded(upload), into, self.limits)
                return await asyncio.to_thread(_digest, self.uploaded(upload))
            case FileSource(text=text):
                await asyncio.to_thread(inline.place, source, into)
                return hashlib.sha256(text.encode()).hexdigest()
            case ImageSource():
                raise TypeError("an image is not built")


def _digest(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
