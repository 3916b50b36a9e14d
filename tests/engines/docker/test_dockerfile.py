"""Recipes as Dockerfiles: what is written, in which order, and that nothing of a recipe can break out of its line."""

from __future__ import annotations

import json

import pytest

from muelle.engines.docker.dockerfile import DOCKERFILE, OURS, apache, left_out, nginx, written
from muelle.engines.docker.ignore import parse
from muelle.engines.docker.own_dockerfile import instructions
from muelle.engines.protocol import BuildFailed
from muelle.engines.recipe import Recipe, Step, Tool

LABELS = {"muelle.installation": "here"}
FLASK = Recipe(
    "flask",
    Tool.PYTHON,
    (Step("pip install -r requirements.txt", ("requirements.txt",)),),
    ("gunicorn", "app:app"),
)


def lines(recipe: Recipe, prelude: str = "") -> list[str]:
    return written(recipe, LABELS, prelude).dockerfile.splitlines()


def test_a_program_is_written_for_the_cache() -> None:
    assert [line for line in lines(FLASK) if not line.startswith("ENV")] == [
        "FROM python:3.12-slim",
        'LABEL muelle.installation="here"',
        "WORKDIR /app",
        "EXPOSE 8000",
        'CMD ["gunicorn", "app:app"]',
        'COPY ["requirements.txt", "/app/requirements.txt"]',
        'RUN ["/bin/sh", "-c", "pip install -r requirements.txt"]',
        'COPY [".", "/app/"]',
    ]


def test_python_says_at_once_what_it_prints() -> None:
    (environment,) = (line for line in lines(FLASK) if line.startswith("ENV"))
    assert 'PYTHONUNBUFFERED="1"' in environment
    assert 'PORT="8000"' in environment


def test_what_one_step_had_the_next_one_has() -> None:
    recipe = Recipe("x", Tool.NODE, (Step("a", ("p", "q")), Step("b", ("q", "./r"))), ("node", "."))
    copied = [line for line in lines(recipe) if line.startswith("COPY")]
    assert copied == [
        'COPY ["p", "/app/p"]',
        'COPY ["q", "/app/q"]',
        'COPY ["r", "/app/r"]',
        'COPY [".", "/app/"]',
    ]


def test_a_step_without_needs_has_the_whole_source_and_so_have_those_after_it() -> None:
    recipe = Recipe("x", Tool.NODE, (Step("a"), Step("b", ("q",))), ("node", "."))
    assert [line for line in lines(recipe) if line.startswith("COPY")] == ['COPY [".", "/app/"]']


def test_the_prelude_begins_each_command() -> None:
    recipe = Recipe("x", Tool.NODE, (Step("a"), Step("b")), ("node", "."))
    runs = [json.loads(line.removeprefix("RUN ")) for line in lines(recipe, "before; ") if line.startswith("RUN")]
    assert runs == [["/bin/sh", "-c", "before; a"], ["/bin/sh", "-c", "before; b"]]


def test_a_built_site_leaves_its_tools_behind() -> None:
    recipe = Recipe("react", Tool.NODE, (Step("npm run build"),), site="dist", fallback=True)
    text = lines(recipe)
    assert [line for line in text if line.startswith("FROM")] == ["FROM node:20-slim AS build", "FROM nginx:alpine"]
    assert text[-1] == 'COPY --from=build ["/app/dist", "/site/"]'
    assert text.count('LABEL muelle.installation="here"') == 2
    assert "try_files $uri $uri/ /index.html;" in nginx(recipe)


def test_a_site_as_it_is_needs_no_tools() -> None:
    recipe = Recipe("static", Tool.NOTHING, site="public")
    assert lines(recipe)[-1] == 'COPY ["public", "/site/"]'
    assert "try_files $uri $uri/ =404;" in nginx(recipe)


def test_php_without_a_command_is_served_by_apache() -> None:
    recipe = Recipe("php", Tool.PHP, site="public", port=8080)
    assert "FROM php:8.2-apache" in lines(recipe)
    assert "DocumentRoot /app/public\n" in apache(recipe)
    assert f"{OURS}/site.conf" in written(recipe, LABELS).files


def test_what_was_installed_elsewhere_does_not_cover_what_a_step_installs() -> None:
    installed = Recipe("x", Tool.NODE, (Step("npm ci", ("package.json",)),), ("node", "."))
    assert "sub/node_modules" in parse(left_out(installed))
    assert "node_modules" not in parse(left_out(Recipe("x", Tool.NODE, command=("node", "."))))
    assert ".venv" in parse(left_out(FLASK))


def test_what_is_ours_is_not_left_in_the_image() -> None:
    assert written(FLASK, LABELS).files[".dockerignore"].decode().split() == [".dockerignore", DOCKERFILE]


def test_the_texts_of_a_recipe_come_along() -> None:
    recipe = Recipe("x", Tool.PYTHON, command=("python", "a.py"), files={"./sub/a.py": "print(1)"})
    assert written(recipe, LABELS).files["sub/a.py"] == b"print(1)"


@pytest.mark.parametrize("path", ["../x", "/etc/passwd", "a/../../b", "..", "x\nRUN evil", "x\0"])
def test_a_path_out_of_the_source_is_refused(path: str) -> None:
    for recipe in (
        Recipe("x", Tool.PYTHON, (Step("a", (path,)),), ("b",)),
        Recipe("x", Tool.NOTHING, site=path),
        Recipe("x", Tool.PYTHON, command=("b",), files={path: ""}),
    ):
        with pytest.raises(BuildFailed):
            written(recipe, LABELS)


def test_a_value_cannot_begin_another_instruction() -> None:
    recipe = Recipe("x", Tool.PYTHON, command=("a",), environment={"A": "b\nRUN evil"})
    with pytest.raises(BuildFailed):
        written(recipe, LABELS)


@pytest.mark.parametrize("word", ['"', "\\", "$HOME", "\n", "]", "'", "#", "\\\nRUN evil"])
def test_commands_are_kept_as_they_are(word: str) -> None:
    recipe = Recipe("x", Tool.PYTHON, (Step(f"echo {word}"),), ("echo", word))
    text = written(recipe, LABELS).dockerfile
    found = {one.name: one.rest for one in instructions(text)}
    assert json.loads(found["RUN"])[-1] == f"echo {word}"
    assert json.loads(found["CMD"]) == ["echo", word]
    assert [one.name for one in instructions(text)].count("RUN") == 1


def test_names_that_docker_would_take_for_patterns_are_names() -> None:
    recipe = Recipe("x", Tool.NOTHING, site="a[1] *$b?")
    assert lines(recipe)[-1] == 'COPY ["a[[]1] [*]\\\\$b[?]", "/site/"]'
