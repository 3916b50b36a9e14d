"""Building: a folder of source and a recipe become an image.

The image's folder is where it will stay, from the first file on: what steps make may know its path. Until its manifest
is there it is no image, and whoever finds it may sweep it away.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from weakref import WeakValueDictionary

from muelle.engines.local import files, trees
from muelle.engines.local.cgroups import Groups
from muelle.engines.local.images import Images, Manifest, being_made, id_of, is_being_made
from muelle.engines.local.layers import Layers
from muelle.engines.local.link import Link
from muelle.engines.local.sandbox import Bubblewrap
from muelle.engines.local.steps import Site, prepare
from muelle.engines.local.tools import toolset
from muelle.engines.protocol import BuildFailed, BuildOrder, CannotDo, Image, Say
from muelle.engines.recipe import OwnDockerfile, Recipe, Tool
from muelle.kit.clock import Clock

ENGINE = "local"


class Builder:
    def __init__(
        self,
        home: Path,
        installation: str,
        images: Images,
        link: Link,
        bubblewrap: Bubblewrap | None,
        groups: Groups | None,
        clock: Clock,
    ) -> None:
        self._folder = home / "builds"
        self._trash = home / "trash"
        self._installation = installation
        self._images = images
        self._layers = Layers(home / "cache", self._trash)
        self._link = link
        self._bubblewrap = bubblewrap
        self._groups = groups
        self._clock = clock
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    @property
    def layers(self) -> Layers:
        return self._layers

    async def build(self, order: BuildOrder, say: Say) -> Image:
        recipe = order.recipe
        if isinstance(recipe, OwnDockerfile):
            raise CannotDo(engine=ENGINE, what="build a Dockerfile: that needs Docker")
        tools = toolset(recipe.tool)
        if not recipe.command and not recipe.site:
            raise BuildFailed(reason="the recipe says neither what to start nor what to serve")
        id = id_of(order, recipe, await asyncio.to_thread(trees.hash_tree, order.folder), self._installation)
        async with self._locks.setdefault(id, asyncio.Lock()):
            if there := self._images.find(id):
                return there.image
            work = self._folder / f"{id[-64:]}.{time.monotonic_ns()}"
            site = Site(order, tools, work, self._link, self._bubblewrap, self._groups, say, recipe.environment)
            return await self._make(id, recipe, site)

    def tidy(self) -> None:
        """Sweeps what a crash has left, and bounds the cache."""
        for folder in (*self._images.half_made(), *self._unwatched()):
            files.put_away(folder, self._trash)
        self._layers.tidy({manifest.layer for manifest in self._images.all()})

    async def _make(self, id: str, recipe: Recipe, site: Site) -> Image:
        folder = self._images.folder(id)
        files.put_away(folder, self._trash)
        try:
            with being_made(site.folder), being_made(folder):
                await asyncio.to_thread(prepare, site.folder, site.order.trusted)
                manifest = await self._fill(id, recipe, site, folder)
                await asyncio.to_thread(self._images.keep, manifest)
        except BaseException:
            self._clear(folder)
            raise
        finally:
            self._clear(site.folder)
        return manifest.image

    async def _fill(self, id: str, recipe: Recipe, site: Site, folder: Path) -> Manifest:
        app = folder / "app"
        await asyncio.to_thread(_bring, site.order.folder, recipe.files, app)
        layer, done = await self._layers.make(site, recipe, app)
        if layer:
            await asyncio.to_thread(trees.merge, self._layers.folder(layer) / "app", app, trees.shared)
        rest = recipe.steps[done:]
        private = bool(rest) and recipe.tool is Tool.PYTHON
        if private:
            await self._layers.private_python(layer, folder / "venv")
        for step in rest:
            await site.run(step.command, app, folder / "venv" if private else None)
        if recipe.site:
            _check_site(app, recipe.site)
        at = int(self._clock.now().timestamp() * 1_000_000)
        manifest = Manifest(
            id,
            site.order.name,
            recipe.tool,
            recipe.command,
            dict(recipe.environment),
            recipe.port,
            recipe.site,
            recipe.fallback,
            at,
            layer=layer,
            private=private,
        )
        return replace(manifest, size_bytes=await asyncio.to_thread(self._size, folder, layer))

    def _size(self, folder: Path, layer: str) -> int:
        python = self._layers.folder(layer) / "venv" if layer else None
        return files.size_of(folder) + (files.size_of(python) if python and python.exists() else 0)

    def _unwatched(self) -> list[Path]:
        return [folder for folder in self._folder.iterdir() if not is_being_made(folder)]

    def _clear(self, folder: Path) -> None:
        """Out of the way at once; emptied while nobody waits for it."""
        aside = files.set_aside(folder, self._trash)
        if aside:
            asyncio.get_running_loop().run_in_executor(None, files.empty, aside)


def _bring(source: Path, texts: Mapping[str, str], app: Path) -> None:
    trees.merge(source, app, trees.copied)
    for path, text in texts.items():
        trees.put(app, path, text)


def _check_site(app: Path, site: str) -> None:
    folder = (app / site).resolve()
    if not folder.is_dir() or not folder.is_relative_to(app.resolve()):
        raise BuildFailed(reason=f"there is no folder {site} to be served after the build")
