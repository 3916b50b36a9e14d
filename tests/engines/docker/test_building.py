"""Builds on a real daemon: what is sent, what stays in the image, what a Dockerfile may not do, and how they end."""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import replace

import pytest

from muelle.engines.docker.names import INSTALLATION
from muelle.engines.protocol import BuildFailed, Limits
from muelle.engines.recipe import OwnDockerfile, Recipe, Step, Tool
from tests.engines.docker.quay import IMAGE, Quay
from tests.waiting import eventually

SECRET = "https://ana:it's-$3cret@packages.example/simple"
CERTIFICATE = "-----BEGIN CERTIFICATE-----\nbm90IHJlYWxseSBvbmU=\n-----END CERTIFICATE-----"
LOOK = 'test "$PIP_INDEX_URL" = "$EXPECTED" && tail -n 2 "$PIP_CERT" | head -n 1'
CANCELS_WITHIN_SECONDS = 2.0


def given() -> dict[str, object]:
    return {"environment": {"PIP_INDEX_URL": SECRET, "EXPECTED": SECRET}, "trusted": CERTIFICATE}


async def test_a_recipe_is_built_again_from_where_it_differs(quay: Quay) -> None:
    step = Step("echo installing $(cat needed.txt)", ("needed.txt",))
    recipe = Recipe("python", Tool.PYTHON, (step,), ("python3", "app.py"))
    said: list[str] = []
    order = quay.order(recipe, {"needed.txt": "flask", "app.py": "print(1)"})
    await quay.build(order, said)
    assert "installing flask" in said
    (order.folder / "app.py").write_text("print(2)")
    said.clear()
    image = await quay.build(replace(order, name="again"), said)
    assert "installing flask" not in said
    assert await quay.printed(image=image.id, command=()) == ["2"]
    (order.folder / "needed.txt").write_text("django")
    await quay.build(replace(order, name="third"), said)
    assert "installing django" in said


async def test_what_is_for_the_build_alone_reaches_a_recipes_commands_and_stays_in_no_image(quay: Quay) -> None:
    said: list[str] = []
    order = quay.order(Recipe("x", Tool.PYTHON, (Step(LOOK),), ("env",)), **given())
    image = await quay.build(order, said)
    await stays_nowhere(quay, image.id)
    assert "bm90IHJlYWxseSBvbmU=" in said
    assert "eval" not in "\n".join(said)


async def test_what_is_for_the_build_alone_reaches_a_dockerfiles_commands_and_stays_in_no_image(quay: Quay) -> None:
    said: list[str] = []
    text = f"FROM {IMAGE}\nRUN {LOOK}\nRUN true; \\\n {LOOK}\nUSER nobody\nRUN {LOOK}\n"
    image = await quay.build(quay.order(OwnDockerfile(), {"Dockerfile": text}, **given()), said)
    assert said.count("bm90IHJlYWxseSBvbmU=") == 3
    await stays_nowhere(quay, image.id)


async def stays_nowhere(quay: Quay, image: str) -> None:
    history = await quay.ask("GET", f"/images/{image}/history")
    details = await quay.ask("GET", f"/images/{image}/json")
    assert "cret@" not in str(history) + str(details)
    assert "bm90" not in str(history) + str(details)
    printed = await quay.printed(
        image=image, command=("sh", "-c", "env; ls /dev/shm; grep -rs bm90 /app /tmp /etc; true")
    )
    assert "cret@" not in "\n".join(printed)
    assert "muelle-trusted" not in "\n".join(printed)
    assert "bm90" not in "\n".join(printed)


async def test_a_dockerfile_that_wishes_for_a_cache_is_built_without(quay: Quay) -> None:
    text = f"FROM {IMAGE}\nRUN --mount=type=cache,target=/root/.cache \\\n echo made > /made\nCMD cat /made\n"
    assert await quay.printed(image=(await quay.own(text)).id, command=()) == ["made"]


async def test_a_dockerfile_gets_its_own_arguments(quay: Quay) -> None:
    recipe = OwnDockerfile("deploy/Dockerfile", {"BASE": IMAGE, "WORD": "hello"})
    text = 'ARG BASE=busybox\nFROM ${BASE}\nARG WORD\nRUN echo "$WORD" > /word\nCMD ["cat", "/word"]\n'
    image = await quay.build(quay.order(recipe, {"deploy/Dockerfile": text}))
    assert await quay.printed(image=image.id, command=()) == ["hello"]


async def test_what_is_ignored_is_not_sent_nor_is_git(quay: Quay) -> None:
    source = {
        ".dockerignore": "*.log\n!kept.log\nsecret\n",
        "a.log": "",
        "kept.log": "",
        "secret/key": "",
        ".git/token": "",
    }
    image = await quay.own(f"FROM {IMAGE}\nWORKDIR /s\nCOPY . .\nCMD find . -type f | sort", source)
    assert await quay.printed(image=image.id, command=()) == ["./.dockerignore", "./Dockerfile", "./kept.log"]


async def test_a_link_stays_a_link(quay: Quay) -> None:
    order = quay.order(OwnDockerfile(), {"Dockerfile": f"FROM {IMAGE}\nCOPY . /s/\nCMD readlink /s/out; cat /s/in"})
    os.symlink("/etc/shadow", order.folder / "out")
    os.symlink("Dockerfile", order.folder / "in")
    image = await quay.build(order)
    printed = await quay.printed(image=image.id, command=())
    assert printed[0] == "/etc/shadow"
    assert printed[1] == f"FROM {IMAGE}"


@pytest.mark.parametrize("path", ["../Dockerfile", "/etc/passwd", "", "link", "nowhere"])
async def test_a_dockerfile_outside_of_the_source_is_refused(quay: Quay, path: str) -> None:
    order = quay.order(OwnDockerfile(path), {"x": ""})
    (order.folder.parent / "Dockerfile").write_text(f"FROM {IMAGE}\n")
    os.symlink("../Dockerfile", order.folder / "link")
    with pytest.raises(BuildFailed):
        await quay.build(order)


async def test_nobody_builds_upon_what_another_built(quay: Quay) -> None:
    theirs = await quay.build(quay.order(Recipe("x", Tool.NOTHING, command=("true",)), {"key": "private"}))
    tag = (await quay.ask("GET", f"/images/{theirs.id}/json"))["RepoTags"][0]
    for name in (tag, theirs.id, theirs.id[7:19], theirs.id[7:9]):
        with pytest.raises(BuildFailed):
            await quay.own(f"FROM {name}\nRUN cat /app/key\n")
        with pytest.raises(BuildFailed):
            await quay.own(f"FROM {IMAGE}\nCOPY --from={name} /app/key /key\n")
        with pytest.raises(BuildFailed):
            await quay.own(f"ARG BASE={name}\nFROM $BASE\nRUN cat /app/key\n")


@pytest.mark.parametrize(
    "command", ["--network=host cat /proc/net/route", "--security=insecure true", "--mount=type=bind,target=/x true"]
)
async def test_a_command_gets_nothing_of_the_host(quay: Quay, command: str) -> None:
    with pytest.raises(BuildFailed):
        await quay.own(f"FROM {IMAGE}\nRUN {command}\n")


async def test_a_build_is_in_its_owners_network(quay: Quay) -> None:
    said: list[str] = []
    order = quay.order(OwnDockerfile(), {"Dockerfile": f"FROM {IMAGE}\nRUN cat /proc/net/fib_trie\n"})
    await quay.build(order, said)
    (network,) = await quay.networks()
    start = network["IPAM"]["Config"][0]["Subnet"].partition("/")[0]
    assert any(start in line for line in said)


async def test_an_unknown_base_is_said(quay: Quay) -> None:
    with pytest.raises(BuildFailed, match=r"127\.0\.0\.1:1/none"):
        await quay.own("FROM 127.0.0.1:1/none:1\n")


async def test_a_dockerfile_that_is_none_is_said(quay: Quay) -> None:
    with pytest.raises(BuildFailed, match=r"(?i)unknown instruction"):
        await quay.own(f"FROM {IMAGE}\nDANCE\n")


async def test_a_failure_tells_the_step_and_the_last_words(quay: Quay) -> None:
    with pytest.raises(BuildFailed, match=r"RUN echo one; echo two; exit 5 ended with 5: one / two"):
        await quay.own(f"FROM {IMAGE}\nRUN echo one; echo two; exit 5\n", **given())


async def test_a_build_that_eats_too_much_is_told_so(quay: Quay) -> None:
    hog = "python3 -c 'kept = [bytearray(b\"x\") * (10 << 20) for _ in range(30)]'"
    with pytest.raises(BuildFailed, match="128 MiB of memory"):
        await quay.own(f"FROM {IMAGE}\nRUN {hog}\n", limits=Limits(memory_bytes=128 * 2**20))


async def test_a_build_starts_so_many_processes_and_no_more(quay: Quay) -> None:
    forks = "i=0; while [ $i -lt 60 ]; do sleep 3 & i=$((i+1)); done; wait; echo all"
    with pytest.raises(BuildFailed):  # `sh` gives up when it can start no more
        await quay.own(f"FROM {IMAGE}\nRUN sleep 0.5; {forks}\n", limits=Limits(pids=30))


async def test_cancelling_ends_this_builds_container_and_no_other(quay: Quay) -> None:
    first, second = (
        quay.order(OwnDockerfile(), {"Dockerfile": f"FROM {IMAGE}\nRUN echo {word}; sleep 90\n"}) for word in ("a", "b")
    )
    said: list[str] = []
    tasks = [asyncio.create_task(quay.engine.build(order, said.append)) for order in (first, second)]
    await eventually(lambda: {"a", "b"} <= set(said), 60, pause=0.05)
    assert len(await containers(quay)) == 2
    begun = time.monotonic()
    tasks[0].cancel()
    with pytest.raises(asyncio.CancelledError):
        await tasks[0]
    assert time.monotonic() - begun < CANCELS_WITHIN_SECONDS
    (left,) = await containers(quay)
    assert "echo b" in left["Command"]
    assert not tasks[1].done()
    tasks[1].cancel()
    await asyncio.wait(tasks)
    assert await containers(quay) == []


async def containers(quay: Quay) -> list[dict[str, str]]:
    """Those of builds: they bear the label of the image that they are made from."""
    label = {"label": [f"{INSTALLATION}={quay.installation}"]}
    listed: list[dict[str, str]] = await quay.ask("GET", "/containers/json", all="1", filters=label)
    return listed


async def test_a_site_shows_pages_and_hides_the_rest(quay: Quay) -> None:
    recipe = Recipe("static", Tool.NOTHING, site=".", fallback=True, port=8080)
    source = {
        "index.html": "home",
        "a b$c.html": "odd",
        ".env": "KEY=1",
        ".well-known/x": "known",
        "docs/index.html": "docs",
    }
    image = await quay.build(quay.order(recipe, source))
    name = await quay.run(image=image.id, command=(), port=9123)
    pages = {
        path: (await quay.get(name, path)) for path in ("/", "/a%20b$c.html", "/.well-known/x", "/docs/", "/some/view")
    }
    assert [page.text for page in pages.values()] == ["home", "odd", "known", "docs", "home"]
    for path in ("/.env", "/.muelle/site.conf"):
        assert (await quay.get(name, path)).status_code == 404


async def test_a_built_site_has_no_trace_of_its_tools(quay: Quay) -> None:
    build = Step("mkdir -p dist && cp package.json dist/index.html && node --version", ("package.json",))
    recipe = Recipe("react", Tool.NODE, (build,), site="dist")
    image = await quay.build(quay.order(recipe, {"package.json": "{}", "src/secret.js": ""}))
    name = await quay.run(image=image.id, command=(), port=8000)
    assert (await quay.get(name)).text == "{}"
    assert (await quay.get(name, "/src/secret.js")).status_code == 404
    session = await quay.engine.execute(name, ["sh", "-c", "ls /app; command -v node"])
    assert await session.exit_code() != 0


async def test_a_php_site_runs_php(quay: Quay) -> None:
    recipe = Recipe("php", Tool.PHP, site="public", port=8080)
    image = await quay.build(quay.order(recipe, {"public/index.php": "<?php echo 6 * 7;", "secret.txt": "no"}))
    name = await quay.run(image=image.id, command=(), port=9321)
    assert (await quay.get(name)).text == "42"
    assert (await quay.get(name, "/../secret.txt")).status_code != 200


async def test_an_image_in_use_is_left_and_goes_later(quay: Quay) -> None:
    image = await quay.build(quay.order(Recipe("x", Tool.NOTHING, command=("true",))))
    name = await quay.create(image=image.id, command=())
    await quay.engine.remove_image(image.id)
    assert [kept.id for kept in await quay.engine.images()] == [image.id]
    await quay.engine.remove(name)
    await quay.engine.remove_image(image.id)
    assert not await quay.engine.has_image(image.id)
    assert await quay.engine.images() == []


async def test_an_image_that_is_not_ours_is_left(quay: Quay) -> None:
    image = await quay.image()
    await quay.engine.remove_image(image)
    assert await quay.engine.has_image(image)


async def test_an_image_outlives_a_clean_up_by_hand(quay: Quay) -> None:
    """`docker image prune` removes what has no name."""
    image = await quay.build(quay.order(Recipe("x", Tool.NOTHING, command=("true",))))
    label = f"{INSTALLATION}={quay.installation}"
    await quay.ask("POST", "/images/prune", filters={"dangling": ["true"], "label": [label]})
    assert await quay.engine.has_image(image.id)
