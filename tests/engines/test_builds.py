"""What every engine promises of a build: it says what it does, ends when told to, and makes what the recipe says."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import replace
from secrets import token_hex

import httpx
import pytest

from muelle.engines.protocol import BuildFailed, Capability, Condition
from muelle.engines.recipe import OwnDockerfile, Recipe, Step, Tool
from tests.engines.programs import JOB, WEB
from tests.engines.yard import PORT, Yard
from tests.waiting import eventually

pytestmark = pytest.mark.asyncio(loop_scope="session")

CANCELS_WITHIN_SECONDS = 2.0
SITE = {
    "public/index.html": "<h1>home</h1>",
    "public/about.html": "<h1>about</h1>",
    "public/docs/index.html": "<h1>docs</h1>",
    "secret.txt": "not for you",
}


def with_steps(*commands: str, recipe: Recipe | None = None) -> Recipe:
    """With a source that was never built before: of a step that was kept from another build, no output is said."""
    recipe = recipe or JOB.recipe()
    files = {**recipe.files, "unique.txt": token_hex()}
    return replace(recipe, files=files, steps=tuple(Step(command) for command in commands))


def site(*commands: str, fallback: bool = False) -> Recipe:
    steps = tuple(Step(command) for command in commands)
    return Recipe("static", Tool.NOTHING, steps, site="public", fallback=fallback)


async def static(yard: Yard, path: str, fallback: bool = False) -> httpx.Response:
    """What a site, which the cases share, answers."""
    key = f"site, fallback={fallback}"
    image = await yard.harness.built_once(key, site(fallback=fallback), source=SITE)
    name = await yard.shared(key, image=image.id, port=PORT)
    return await yard.get(name, path)


async def page(yard: Yard, image: str, path: str) -> httpx.Response:
    name = await yard.run(image=image, port=PORT)
    await yard.get(name)
    return await yard.get(name, path)


async def said_by(yard: Yard, recipe: Recipe | OwnDockerfile, **changes: object) -> tuple[list[str], str]:
    """What a build says, and the failure that it ends with."""
    said: list[str] = []
    try:
        await yard.engine.build(yard.harness.build_order(recipe, **changes), said.append)
    except BuildFailed as failure:
        return said, failure.message
    return said, ""


async def test_a_build_says_what_its_steps_print(yard: Yard) -> None:
    said, failure = await said_by(yard, with_steps("echo one of two", "echo two of two"))
    assert failure == ""
    text = "\n".join(said)
    assert text.index("one of two") < text.rindex("two of two")


async def test_a_build_says_whole_lines(yard: Yard) -> None:
    said, _ = await said_by(yard, with_steps("echo first line; echo second line"))
    assert all("\n" not in line for line in said)
    assert not any("first line" in line and "second line" in line and "echo" not in line for line in said)


async def test_a_line_is_said_while_the_build_goes_on(yard: Yard) -> None:
    said: list[str] = []
    order = yard.harness.build_order(with_steps("echo now", "sleep 30"))
    building = asyncio.create_task(yard.engine.build(order, said.append))
    await eventually(lambda: any(line.strip() == "now" for line in said), yard.patience)
    assert not building.done()
    building.cancel()
    with pytest.raises(asyncio.CancelledError):
        await building


async def test_a_step_that_fails_is_named(yard: Yard) -> None:
    _, failure = await said_by(yard, with_steps("echo fine", "echo broken; exit 3", "echo never"))
    assert "echo broken; exit 3" in failure


async def test_after_a_step_that_fails_there_is_no_other(yard: Yard) -> None:
    said, failure = await said_by(yard, with_steps("exit 1", "echo never"))
    assert failure
    assert "never" not in [line.strip() for line in said]


async def test_what_a_step_that_fails_printed_is_said(yard: Yard) -> None:
    said, _ = await said_by(yard, with_steps("echo the reason >&2; exit 1"))
    assert "the reason" in [line.strip() for line in said]


async def test_a_build_that_failed_leaves_no_image(yard: Yard) -> None:
    order = yard.harness.build_order(with_steps("exit 1"))
    with pytest.raises(BuildFailed):
        await yard.engine.build(order, lambda line: None)
    assert order.name not in [image.build for image in await yard.engine.images()]


async def test_a_cancelled_build_ends_soon(yard: Yard) -> None:
    said: list[str] = []
    order = yard.harness.build_order(with_steps("echo going", "sleep 60"))
    building = asyncio.create_task(yard.engine.build(order, said.append))
    await eventually(lambda: any(line.strip() == "going" for line in said), yard.patience)
    begun = time.monotonic()
    building.cancel()
    with pytest.raises(asyncio.CancelledError):
        await building
    assert time.monotonic() - begun < CANCELS_WITHIN_SECONDS
    assert order.name not in [image.build for image in await yard.engine.images()]


async def test_cancelling_a_build_touches_no_other(yard: Yard) -> None:
    said: list[str] = []
    cancelled = asyncio.create_task(
        yard.engine.build(yard.harness.build_order(with_steps("echo doomed", "sleep 60")), said.append)
    )
    kept = yard.harness.build_order(with_steps("echo kept", "sleep 0.4", "echo finished"))
    other = asyncio.create_task(yard.engine.build(kept, said.append))
    await eventually(lambda: {"doomed", "kept"} <= {line.strip() for line in said}, yard.patience * 3)
    cancelled.cancel()
    await asyncio.wait([cancelled])
    image = await other
    assert cancelled.cancelled()
    assert "finished" in [line.strip() for line in said]
    assert await yard.engine.has_image(image.id)


async def test_a_build_may_be_asked_for_again_after_it_was_cancelled(yard: Yard) -> None:
    said: list[str] = []
    order = yard.harness.build_order(with_steps("echo going", "sleep 60"))
    building = asyncio.create_task(yard.engine.build(order, said.append))
    await eventually(lambda: any(line.strip() == "going" for line in said), yard.patience)
    building.cancel()
    await asyncio.wait([building])
    image = await yard.engine.build(replace(order, recipe=JOB.recipe()), said.append)
    assert await yard.engine.has_image(image.id)


async def test_a_build_that_is_asked_for_twice_is_right_twice(yard: Yard) -> None:
    order = yard.harness.build_order(JOB.recipe())
    images = [await yard.engine.build(order, lambda line: None) for _ in range(2)]
    for image in images[-1:]:
        name = await yard.run(image=image.id)
        await yard.seen(name, Condition.EXITED)
        assert await yard.texts(name) == ["done"]
    assert [kept.build for kept in await yard.engine.images()].count(order.name) <= 2


async def test_the_files_of_a_recipe_are_in_the_image(yard: Yard) -> None:
    assert await yard.texts(await yard.shared_ended(JOB)) == ["done"]


async def test_the_source_is_in_the_image(yard: Yard) -> None:
    files = dict(WEB.recipe().files)
    image = await yard.harness.build(replace(WEB.recipe(), files={}), source=files)
    assert (await page(yard, image.id, "/from/the/source")).json()["path"] == "/from/the/source"


async def test_what_a_step_makes_is_in_the_image_and_is_found_by_the_next(yard: Yard) -> None:
    image = await yard.harness.build(site("echo one > public/made.txt", "echo two >> public/made.txt"), source=SITE)
    assert (await page(yard, image.id, "/made.txt")).text == "one\ntwo\n"


async def test_the_environment_of_a_build_is_there_for_its_steps(yard: Yard) -> None:
    said, failure = await said_by(yard, with_steps("echo index is $PIP_INDEX_URL"), environment=BUILD_ENVIRONMENT)
    assert failure == ""
    assert "index is here" in [line.strip() for line in said]


BUILD_ENVIRONMENT = {"PIP_INDEX_URL": "here"}


async def test_the_environment_of_a_build_is_not_in_the_image(yard: Yard) -> None:
    image = await yard.harness.build(with_steps("true", recipe=WEB.recipe()), environment=BUILD_ENVIRONMENT)
    assert "PIP_INDEX_URL" not in await yard.environment(await yard.web(image=image.id))


async def test_the_environment_of_a_recipe_is_there_for_its_steps(yard: Yard) -> None:
    said, _ = await said_by(yard, replace(with_steps("echo $COLOUR is it"), environment={"COLOUR": "blue"}))
    assert "blue is it" in [line.strip() for line in said]


async def test_an_image_says_where_it_listens(yard: Yard) -> None:
    image = await yard.harness.build(replace(WEB.recipe(), port=3000))
    assert image.ports == (3000,)


async def test_an_image_has_a_size(yard: Yard) -> None:
    assert (await yard.harness.built_once(WEB.name, WEB.recipe())).size_bytes > 0


async def test_a_static_site_is_served(yard: Yard) -> None:
    assert (await static(yard, "/")).text == SITE["public/index.html"]
    about = await static(yard, "/about.html")
    assert (about.status_code, about.text) == (200, SITE["public/about.html"])
    assert about.headers["content-type"].startswith("text/html")


async def test_a_folder_of_a_static_site_answers_with_its_index(yard: Yard) -> None:
    assert (await static(yard, "/docs/")).text == SITE["public/docs/index.html"]


async def test_what_a_static_site_has_not_is_not_found(yard: Yard) -> None:
    assert (await static(yard, "/nothing-here")).status_code == 404


async def test_a_static_site_with_a_fallback_answers_with_its_index(yard: Yard) -> None:
    answer = await static(yard, "/some/route/of/the/app", fallback=True)
    assert (answer.status_code, answer.text) == (200, SITE["public/index.html"])


async def test_a_static_site_with_a_fallback_answers_with_what_is_there(yard: Yard) -> None:
    assert (await static(yard, "/about.html", fallback=True)).text == SITE["public/about.html"]


@pytest.mark.parametrize("path", ["/../secret.txt", "/%2e%2e/secret.txt", "/..%2fsecret.txt", "/secret.txt"])
async def test_a_static_site_shows_nothing_beside_its_folder(yard: Yard, path: str) -> None:
    assert SITE["secret.txt"] not in (await static(yard, path)).text


async def test_a_site_whose_folder_is_not_there_fails(yard: Yard) -> None:
    _, failure = await said_by(yard, site(), source={"README": "nothing to serve"})
    assert failure


async def test_a_changed_source_is_built_anew_also_where_a_step_was_kept(yard: Yard) -> None:
    steps = (Step("echo dependencies", needs=("needs.txt",)),)
    recipe = Recipe("static", Tool.NOTHING, steps, site="public")
    texts = []
    for text in ("first", "second"):
        image = await yard.harness.build(recipe, source={"needs.txt": "same", "public/index.html": text})
        texts.append((await page(yard, image.id, "/")).text)
    assert texts == ["first", "second"]


async def test_a_step_is_run_again_when_what_it_needs_has_changed(yard: Yard) -> None:
    recipe = replace(JOB.recipe(), steps=(Step("echo step was run", needs=("needs.txt",)),))
    for _ in range(2):
        said, failure = await said_by(yard, recipe, source={"needs.txt": token_hex()})
        assert failure == ""
        assert "step was run" in [line.strip() for line in said]


async def test_what_a_kept_step_made_is_in_the_second_image_too(yard: Yard) -> None:
    steps = (Step("mkdir -p public; echo kept > public/made.txt", needs=("needs.txt",)),)
    recipe = Recipe("static", Tool.NOTHING, steps, site="public")
    for text in ("first", "second"):
        source = {"needs.txt": "the same", "public/index.html": text}
        image = await yard.harness.build(recipe, source=source)
        assert (await page(yard, image.id, "/made.txt")).text == "kept\n"


async def test_a_build_does_not_see_our_own_environment(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUELLE_SECRET_KEY", "ours-alone")
    said, _ = await said_by(yard, with_steps("echo seen: $MUELLE_SECRET_KEY."))
    assert "seen: ." in [line.strip() for line in said]


async def test_a_dockerfile_is_built_as_it_stands(yard: Yard) -> None:
    yard.need(Capability.DOCKERFILES)
    image = await yard.harness.build(OwnDockerfile(), source=dockerfile("RUN echo in the build"))
    assert image.ports == (3000,)
    name = await yard.run(image=image.id)
    assert (await yard.seen(name, Condition.EXITED)).exit_code == 0
    assert await yard.texts(name) == ["done"]


async def test_a_dockerfile_of_another_name_is_found(yard: Yard) -> None:
    yard.need(Capability.DOCKERFILES)
    source = dockerfile("RUN true")
    source["docker/App.dockerfile"] = source.pop("Dockerfile")
    said, failure = await said_by(yard, OwnDockerfile("docker/App.dockerfile"), source=source)
    assert (failure, bool(said)) == ("", True)


async def test_the_arguments_of_a_dockerfile_are_there_for_its_steps(yard: Yard) -> None:
    yard.need(Capability.DOCKERFILES)
    source = dockerfile("ARG COLOUR", "RUN echo $COLOUR is it")
    said, failure = await said_by(yard, OwnDockerfile(arguments={"COLOUR": "blue"}), source=source)
    assert failure == ""
    assert "blue is it" in [line.strip() for line in said]


async def test_a_dockerfiles_step_that_fails_is_named(yard: Yard) -> None:
    yard.need(Capability.DOCKERFILES)
    _, failure = await said_by(yard, OwnDockerfile(), source=dockerfile("RUN echo broken && exit 4"))
    assert "echo broken && exit 4" in failure


async def test_a_dockerfile_that_is_not_there_fails(yard: Yard) -> None:
    yard.need(Capability.DOCKERFILES)
    _, failure = await said_by(yard, OwnDockerfile("nowhere/Dockerfile"), source={"README": "no Dockerfile"})
    assert failure


def dockerfile(*lines: str) -> dict[str, str]:
    """A source with a Dockerfile that begins with an image which every engine here has, and that is new."""
    return {
        "Dockerfile": "\n".join(
            ["FROM busybox", f"ENV UNIQUE={token_hex()}", *lines, "EXPOSE 3000", 'CMD ["echo", "done"]', ""]
        ),
        "program.json": json.dumps(dict(JOB.pretended)),
    }
