"""What exactly is run for an instance: command line, environment, bounds and place, as a value for the keeper."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from muelle.engines.local import processes
from muelle.engines.local.cgroups import Bounds, Groups
from muelle.engines.local.images import Images, Manifest
from muelle.engines.local.instances import Instance
from muelle.engines.local.launch import Program
from muelle.engines.local.layers import Layers
from muelle.engines.local.sandbox import APP, OWN_PROCESSES, Bubblewrap, Place, base_environment, find_program
from muelle.engines.local.session import Command
from muelle.engines.local.tools import Toolset, base_python, toolset
from muelle.engines.local.volumes import Volumes
from muelle.engines.protocol import CannotDo
from muelle.engines.recipe import Tool

ENGINE = "local"
SITE_SERVER = Path(__file__).with_name("site.py")


class Unstartable(Exception):
    """Why an instance cannot be started, in words."""


class Running:
    def __init__(
        self,
        images: Images,
        layers: Layers,
        volumes: Volumes,
        bubblewrap: Bubblewrap | None,
        groups: Groups | None,
    ) -> None:
        self._images = images
        self._layers = layers
        self._volumes = volumes
        self._bubblewrap = bubblewrap
        self._groups = groups

    def program(self, instance: Instance) -> Program:
        """Raises Unstartable."""
        manifest = self._manifest(instance)
        place, environment = self._surroundings(instance, manifest)
        argv = self._argv(instance, manifest, place, environment)
        limits = instance.order.limits
        groups: Sequence[str] = ()
        if self._groups:
            bounds = Bounds(
                limits.memory_bytes, limits.cpu_millis, limits.pids + (OWN_PROCESSES if self._bubblewrap else 0)
            )
            try:
                groups = self._groups.make(f"{instance.order.name}.{os.urandom(3).hex()}", bounds)
            except OSError as problem:
                raise Unstartable(f"its limits could not be set: {problem.strerror}") from problem
        grouped = self._groups is not None and "memory" in self._groups.folders
        program = Program(argv, environment, str(place.folder), tuple(groups), mark=str(instance.folder), lasting=True)
        program = replace(program, memory_bytes=0 if grouped else limits.memory_bytes)
        if self._bubblewrap is None:
            return program
        argv, environment = self._bubblewrap.wrap(argv, environment, place)
        return replace(program, argv=argv, environment=environment, folder="/", sandboxed=True)

    def command(self, instance: Instance, argv: tuple[str, ...], terminal: bool) -> Command:
        """One beside the program, in its surroundings and within its limits. Raises Unstartable, OSError."""
        state = instance.state
        if state is None or not argv:
            raise CannotDo(engine=ENGINE, what="run nothing")
        place, environment = self._surroundings(instance, self._manifest(instance))
        if terminal:
            environment.setdefault("TERM", "xterm-256color")
        if not state.sandboxed:
            argv = (find_program(argv[0], environment["PATH"], place.folder) or argv[0], *argv[1:])
            folder = str(place.folder)
            program = Program(argv, environment, folder, state.groups, owns_groups=False, terminal=terminal)
            return Command(program, terminal)
        inner = processes.inside(state.pid)
        if self._bubblewrap is None or inner is None:
            raise Unstartable("its sandbox is not to be found")
        joining = self._bubblewrap.join(inner, argv, environment, terminal)
        program = Program(joining.argv, joining.environment, "/", state.groups, owns_groups=False)
        return Command(program, terminal, f"/proc/{inner}/somebody/dev/pts", joining)

    def _argv(
        self, instance: Instance, manifest: Manifest, place: Place, environment: dict[str, str]
    ) -> tuple[str, ...]:
        argv = instance.order.command or manifest.command
        if not argv:
            return self._serving(manifest, instance.port, place)
        found = find_program(argv[0], environment["PATH"], place.folder)
        if found is None:
            raise Unstartable(f'there is no program "{argv[0]}"')
        return argv if self._bubblewrap else (found, *argv[1:])

    def _serving(self, manifest: Manifest, port: int, place: Place) -> tuple[str, ...]:
        folder = Path(APP if self._bubblewrap else place.folder, manifest.site)
        words = (base_python(), "-I", "-S", str(SITE_SERVER), str(folder), str(port or manifest.port))
        return (*words, "--fallback") if manifest.fallback else words

    def _manifest(self, instance: Instance) -> Manifest:
        manifest = self._images.find(instance.order.image)
        if manifest is None:
            raise Unstartable(f"its image {instance.order.image} is not here any more")
        return manifest

    def _surroundings(self, instance: Instance, manifest: Manifest) -> tuple[Place, dict[str, str]]:
        tools = self._tools(manifest)
        serves = not instance.order.command and not manifest.command
        image = self._images.folder(manifest.id)
        venv = self._python(manifest, image)
        place = Place(
            folder=image / "app" if serves else instance.folder / "app",
            home=instance.folder / "home",
            scratch=instance.folder / "tmp",
            readable=(*tools.readable, *((venv,) if venv else ()), *self._behind(serves, image)),
            volumes={mount.path: self._volumes.data(mount.volume) for mount in instance.order.mounts},
            hostname=instance.order.name,
            folder_writable=not serves,
        )
        programs = ((str(venv / "bin"),) if venv else ()) + tools.programs
        environment = {
            **base_environment(place, self._bubblewrap is not None, programs),
            **manifest.environment,
            **instance.order.environment,
        }
        if instance.port:
            environment["PORT"] = str(instance.port)
        return place, environment

    def _tools(self, manifest: Manifest) -> Toolset:
        try:
            return toolset(Tool.PYTHON if not manifest.command and manifest.site else manifest.tool)
        except CannotDo as problem:
            raise Unstartable(problem.message) from problem

    def _python(self, manifest: Manifest, image: Path) -> Path | None:
        if manifest.tool is not Tool.PYTHON:
            return None
        return image / "venv" if manifest.private else self._layers.folder(manifest.layer) / "venv"

    def _behind(self, serves: bool, image: Path) -> tuple[Path, ...]:
        """What the instance's own folder leads to."""
        return (SITE_SERVER,) if serves else (image / "app",)
