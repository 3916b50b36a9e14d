"""Builds of the local engine: layers that are kept, what ends with a build, and sources that mean harm."""

from __future__ import annotations

import asyncio
import io
import secrets
import shutil
import time
import zipfile
from dataclasses import replace
from typing import Any

import pytest

from muelle.engines.local import layers, steps
from muelle.engines.protocol import BuildFailed, BuildOrder, CannotDo, EngineUnavailable, Image, ImageMissing, Limits
from muelle.engines.recipe import OwnDockerfile, Recipe, Step, Tool
from tests.engines.local.conftest import HOG, Workshop, in_each_manner
from tests.waiting import eventually

INSTALL = Step(
    "pip install --no-index --no-deps --disable-pip-version-check -r requirements.txt", ("requirements.txt",)
)
SHIPPED = "greeting-1.0-py3-none-any.whl"


def wheel(says: str) -> bytes:
    """A package with a module and a command, made by hand: nothing is fetched."""
    about = "greeting-1.0.dist-info"
    texts = {
        "greeting.py": f"def main():\n    print({says!r}, flush=True)\n",
        f"{about}/METADATA": "Metadata-Version: 2.1\nName: greeting\nVersion: 1.0\n",
        f"{about}/WHEEL": "Wheel-Version: 1.0\nGenerator: none\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{about}/entry_points.txt": "[console_scripts]\ngreet = greeting:main\n",
    }
    texts[f"{about}/RECORD"] = "".join(f"{name},,\n" for name in (*texts, f"{about}/RECORD"))
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, text in texts.items():
            archive.writestr(zipfile.ZipInfo(name), text)
    return packed.getvalue()


class Python:
    """Python sources with a requirement of their own, and what the builds said."""

    def __init__(self, workshop: Workshop) -> None:
        self.workshop = workshop
        self.said: list[str] = []

    async def built(
        self, says: str, *more: Step, app: str = "import greeting; greeting.main()", **changes: Any
    ) -> Image:
        source = self.workshop.source(**{"app.py": app, "requirements.txt": f"./{SHIPPED}\n"})
        (source / SHIPPED).write_bytes(wheel(says))
        self.said = []
        needs = Step(INSTALL.command, ("requirements.txt", SHIPPED))
        told = {"tool": Tool.PYTHON, "files": {}, "command": ("python", "app.py"), "steps": (needs, *more), **changes}
        return await self.workshop.built(say=self.said.append, source=source, **told)

    async def says(self, image: Image, *command: str) -> list[str]:
        name = await self.workshop.started("", image=image.id, command=command)
        assert (await self.workshop.ended(name)).exit_code == 0, await self.workshop.texts(name)
        return await self.workshop.texts(name)


@in_each_manner
async def test_unchanged_requirements_are_not_installed_again(workshop: Workshop) -> None:
    python = Python(workshop)
    first = await python.built("hello")
    assert any("Successfully installed" in line for line in python.said)
    second = await python.built("hello", app="import greeting; greeting.main(); print('changed')")
    assert not any("Successfully installed" in line for line in python.said)
    assert any("cache" in line for line in python.said)
    assert await python.says(first) == ["hello"]
    assert await python.says(second) == ["hello", "changed"]
    assert await python.says(second, "greet") == ["hello"]

    third = await python.built("good day")
    assert any("Successfully installed" in line for line in python.said)
    assert await python.says(third) == ["good day"]
    assert await python.says(first) == ["hello"]

    # A step that may change all has an environment of its own: the layer that others stand on stays as it was.
    removing = Step("pip uninstall --yes greeting && python -c 'import sys; print(sys.prefix)' > where")
    fourth = await python.built("hello", removing, app="print(open('where').read().strip())")
    told = await python.says(fourth)
    assert fourth.id.removeprefix("local:") in told[0]
    assert await python.says(first, "greet") == ["hello"]
    fifth = await python.built("hello", Step("greet > said"), app="print(open('said').read().strip())")
    assert await python.says(fifth) == ["hello"]


async def test_another_owner_gets_no_layer_that_somebody_else_has_filled(workshop: Workshop) -> None:
    count = Step("echo ran", ("requirements.txt",))
    said: list[str] = []
    for owner in ("ana", "ana", "ben"):
        source = workshop.source(**{"requirements.txt": "", "app.sh": "exit 0"})
        await workshop.built(say=said.append, source=source, steps=(count,), files={}, owner=owner)
    assert said.count("ran") == 2


async def test_the_layers_that_an_image_stands_on_stay_and_others_are_bounded(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layers, "CACHE_BYTES", 0)
    step = Step("echo made > made", ("app.sh",))
    used = await workshop.built("cat made", steps=(step,))
    unused = await workshop.built("cat made; exit", steps=(step,))
    await workshop.engine.remove_image(unused.id)
    assert len(list((workshop.home / "cache").iterdir())) == 2
    await workshop.engine.tidy()
    assert len(list((workshop.home / "cache").iterdir())) == 1
    name = await workshop.started("", image=used.id)
    await workshop.ended(name)
    assert await workshop.texts(name) == ["made"]


@in_each_manner
async def test_a_cancelled_build_is_over_within_two_seconds_with_all_that_it_started(workshop: Workshop) -> None:
    marker = secrets.token_hex(8)
    other = asyncio.create_task(workshop.built("exit 0", steps=(Step("sleep 1; echo whole > whole"),)))
    command = f"(setsid sh -c 'trap \"\" TERM; while :; do sleep 0.1; done # {marker}' &); sleep 60 # {marker}"
    building = asyncio.create_task(workshop.built("exit 0", steps=(Step(command),)))
    await eventually(lambda: len(workshop.left(marker)) > 1)
    before = time.monotonic()
    building.cancel()
    with pytest.raises(asyncio.CancelledError):
        await building
    assert time.monotonic() - before < 2
    await eventually(lambda: not workshop.left(marker), 2)
    image = await other
    await eventually(lambda: [path.name for path in (workshop.home / "images").iterdir()] == [image.id[6:]])
    assert list((workshop.home / "builds").iterdir()) == []


@in_each_manner
async def test_a_builds_commands_end_with_muelle_and_with_the_keeper(workshop: Workshop) -> None:
    marker = secrets.token_hex(8)
    building = asyncio.create_task(workshop.built("exit 0", steps=(Step(f"sleep 62; exit 0 # {marker}"),)))
    await eventually(lambda: workshop.left(marker))
    workshop.kill_keeper()
    with pytest.raises(EngineUnavailable):
        await building
    await eventually(lambda: not workshop.left(marker), 3)


async def test_what_a_crash_left_of_a_build_is_no_image_and_is_swept(workshop: Workshop) -> None:
    image = await workshop.built("exit 0")
    (workshop.home / "images" / image.id.removeprefix("local:") / "manifest.json").unlink()
    (workshop.home / "builds" / "left").mkdir()
    (workshop.home / "cache" / "left").mkdir()
    (workshop.home / "instances" / ".muelle-x-1-1.999999999.abc").mkdir()
    later = workshop.connect()
    assert not await later.has_image(image.id)
    await later.check()
    for name in ("images", "builds", "cache", "instances", "trash"):
        assert list((workshop.home / name).iterdir()) == []
    with pytest.raises(ImageMissing):
        await later.resolve(image.id, None, lambda _: None)


async def test_a_failed_build_says_which_command_and_its_last_words(workshop: Workshop) -> None:
    with pytest.raises(BuildFailed, match="`echo so; echo bad >&2; exit 3` ended with 3: so / bad"):
        await workshop.built("", steps=(Step("echo so; echo bad >&2; exit 3"),))
    assert await workshop.engine.images() == []


async def test_a_build_has_its_time(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "STEP_SECONDS", 0.3)
    with pytest.raises(BuildFailed, match="took longer"):
        await workshop.built("", steps=(Step("sleep 63"),))
    await eventually(lambda: not workshop.left("sleep 63"))


@in_each_manner
async def test_a_build_has_its_memory(workshop: Workshop) -> None:
    order = BuildOrder("hog", "w", "ana", workshop.source(), Recipe("hog", Tool.NOTHING, (Step(HOG),), ("true",)))
    with pytest.raises(BuildFailed, match="memory"):
        await workshop.engine.build(replace(order, limits=Limits(2000, 128 * 2**20, 100)), lambda _: None)


async def test_the_builds_environment_is_not_the_programs(workshop: Workshop) -> None:
    recipe = Recipe("script", Tool.NOTHING, (Step("echo $SECRET > told"),), ("sh", "-c", "cat told; env"))
    told = BuildOrder("b", "w", "ana", workshop.source(), recipe, trusted="PEM", environment={"SECRET": "s3cret"})
    said: list[str] = []
    image = await workshop.engine.build(told, said.append)
    name = await workshop.started("", image=image.id)
    await workshop.ended(name)
    texts = await workshop.texts(name)
    assert texts[0] == "s3cret"
    assert not any("SECRET" in text or "PEM" in text or "SSL_CERT" in text for text in texts)
    assert {text.partition("=")[0] for text in texts[1:]} <= {"PATH", "HOME", "LANG", "PWD", "SHLVL", "_", "OLDPWD"}


@pytest.mark.parametrize("path", ["../out", "/etc/out", "link/out", "a/../../out"])
async def test_nothing_is_written_outside_of_the_source(workshop: Workshop, path: str) -> None:
    outside = workshop.folder / "outside"
    outside.mkdir()
    source = workshop.source()
    (source / "link").symlink_to(outside)
    with pytest.raises(BuildFailed):
        await workshop.built(source=source, files={path: "harm"})
    assert list(outside.iterdir()) == []
    assert not (workshop.folder / "out").exists()


async def test_a_link_in_the_source_is_not_followed_by_us(workshop: Workshop) -> None:
    (workshop.folder / "secret").write_text("secret")
    source = workshop.source()
    (source / "app.sh").symlink_to(workshop.folder / "secret")
    (source / "requirements.txt").symlink_to(workshop.folder / "secret")
    step = Step("exit 0", ("requirements.txt",))
    await workshop.built("echo mine", source=source, steps=(step,))
    assert (workshop.folder / "secret").read_text() == "secret"
    image = workshop.home / "images"
    assert not any(
        path.is_file() and path.read_bytes() == b"secret" for path in image.rglob("*") if not path.is_symlink()
    )


async def test_an_instance_writes_to_a_copy_of_its_own(workshop: Workshop) -> None:
    image = await workshop.built("cat kept 2>/dev/null; echo kept >> kept; echo done")
    for _ in range(2):
        name = await workshop.started("", image=image.id)
        await workshop.ended(name)
        assert await workshop.texts(name) == ["done"]


async def test_what_it_cannot_do_is_refused_in_words(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CannotDo, match="Dockerfile"):
        await workshop.engine.build(BuildOrder("b", "w", "a", workshop.source(), OwnDockerfile()), lambda _: None)
    with pytest.raises(CannotDo, match="registries"):
        await workshop.engine.resolve("nginx", None, lambda _: None)
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(CannotDo, match="has no `php`"):
        await workshop.built(tool=Tool.PHP, command=("php", "-S", "0.0.0.0:80"))


@pytest.mark.skipif(not (shutil.which("node") and shutil.which("npm")), reason="no node and npm here")
@in_each_manner
async def test_a_node_program_finds_what_was_installed(workshop: Workshop) -> None:
    needs = {
        "package.json": '{"name": "it", "version": "1.0.0", "dependencies": {"said": "file:said"}}',
        "app.js": "console.log(require('said'))",
    }
    source = workshop.source(**needs)
    (source / "said").mkdir()
    (source / "said" / "package.json").write_text('{"name": "said", "version": "1.0.0"}')
    (source / "said" / "index.js").write_text("module.exports = 'installed'")
    install = Step("npm install --offline --no-audit --no-fund --install-links", ("package.json", "said"))
    image = await workshop.built(source=source, steps=(install,), tool=Tool.NODE, files={}, command=("node", "app.js"))
    name = await workshop.started("", image=image.id)
    await workshop.ended(name)
    assert await workshop.texts(name) == ["installed"]
