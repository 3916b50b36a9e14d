"""How a pretended engine builds: it says what it would do, runs the words it understands, and reads `program.json`."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from muelle.engines.fake.image import KnownImage, Site, known_image
from muelle.engines.fake.program import PROGRAM_FILE, WELL_BEHAVED, Program, program_from
from muelle.engines.fake.shell import Pause, Shell, Write
from muelle.engines.protocol import BuildFailed, BuildOrder, Say
from muelle.engines.recipe import OwnDockerfile, Recipe
from muelle.kit.clock import Clock

MOST_SITE_BYTES = 8 * 2**20
"""A pretended engine keeps a static site in memory, so it takes a small one only."""
INSTRUCTION = re.compile(r"(?im)^\s*(FROM|ENV|EXPOSE|RUN|CMD|ARG)\s+(.+)$")


async def build(order: BuildOrder, say: Say, clock: Clock) -> KnownImage:
    if isinstance(order.recipe, OwnDockerfile):
        return await _build_dockerfile(order, order.recipe, say, clock)
    return await _build_recipe(order, order.recipe, say, clock)


async def _build_recipe(order: BuildOrder, recipe: Recipe, say: Say, clock: Clock) -> KnownImage:
    say(f"building {order.name}: {recipe.name} with {recipe.tool}")
    for path, text in recipe.files.items():
        place = _within(order.folder, path)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
    shell = Shell({**recipe.environment, **order.environment}, unknown_succeed=True)
    for number, step in enumerate(recipe.steps, 1):
        say(f"step {number} of {len(recipe.steps)}: {step.command}")
        await _run(shell, step.command, order, say, clock)
    program = replace(_program(order.folder), port_declared=recipe.port)
    site = _site(_within(order.folder, recipe.site), recipe.fallback) if recipe.site else None
    say("built")
    return known_image(order.name, program, recipe.environment, site)


async def _build_dockerfile(order: BuildOrder, recipe: OwnDockerfile, say: Say, clock: Clock) -> KnownImage:
    path = _within(order.folder, recipe.path)
    if not path.is_file():
        raise BuildFailed(reason=f"there is no {recipe.path}")
    environment: dict[str, str] = {}
    ports: list[int] = []
    for word, rest in INSTRUCTION.findall(path.read_text(errors="replace")):
        say(f"{word.upper()} {rest}")
        match word.upper():
            case "ENV":
                name, _, value = rest.replace(" ", "=", 1 if "=" not in rest else 0).partition("=")
                environment[name] = value.strip().strip('"')
            case "EXPOSE":
                ports += [int(number) for number in re.findall(r"\d+", rest)]
            case "RUN":
                shell = Shell({**environment, **recipe.arguments, **order.environment}, unknown_succeed=True)
                await _run(shell, rest, order, say, clock)
    say("built")
    program = replace(_program(order.folder), port_declared=min(ports, default=0))
    built = known_image(order.name, program, environment)
    return replace(built, image=replace(built.image, ports=tuple(sorted(ports))))


async def _run(shell: Shell, command: str, order: BuildOrder, say: Say, clock: Clock) -> None:
    play = shell.script(command)
    while True:
        try:
            event = next(play)
        except StopIteration as end:
            if end.value:
                raise BuildFailed(reason=f'the step "{command}" ended with code {end.value}') from None
            return
        match event:
            case Pause():
                await clock.sleep(event.seconds)
            case Write():
                _write(_within(order.folder, event.path), event)
            case _:
                say(event.text)


def _write(place: Path, event: Write) -> None:
    with place.open("a" if event.adds else "w") as file:
        file.write(event.text)


def _program(folder: Path) -> Program:
    path = folder / PROGRAM_FILE
    return program_from(path.read_text()) if path.is_file() else WELL_BEHAVED


def _site(folder: Path, fallback: bool) -> Site:
    if not folder.is_dir():
        raise BuildFailed(reason="the folder of the site is not there after the steps")
    files = {str(path.relative_to(folder)): path for path in sorted(folder.rglob("*")) if path.is_file()}
    if sum(path.stat().st_size for path in files.values()) > MOST_SITE_BYTES:
        raise BuildFailed(reason=f"the fake engine keeps sites of at most {MOST_SITE_BYTES} bytes")
    return Site({name: path.read_bytes() for name, path in files.items()}, fallback)


def _within(folder: Path, path: str) -> Path:
    place = (folder / path).resolve()
    if not place.is_relative_to(folder.resolve()):
        raise BuildFailed(reason=f"{path} leads out of the source")
    return place
