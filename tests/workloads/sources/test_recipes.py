"""What each kind of source is built and started with, and why."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muelle.engines.recipe import OwnDockerfile, Recipe, Step, Tool
from muelle.workloads.sources.errors import NothingRecognised, TemplateUnfit
from muelle.workloads.sources.folder import FolderView, look
from muelle.workloads.sources.recipes import Template, function_server, recipe_for

FLASK_APP = "from flask import Flask\napp = Flask(__name__)\n"
GUNICORN = "exec gunicorn --bind 0.0.0.0:${PORT:-8000} --workers 2 --threads 4 "
TOOLS = 'export PATH="$PWD/node_modules/.bin:$PATH"; '
UNBUFFERED = {"PYTHONUNBUFFERED": "1"}
PRODUCTION = {"NODE_ENV": "production"}


def shell(line: str) -> tuple[str, ...]:
    return ("sh", "-c", line)


def package(**words: object) -> str:
    return json.dumps(words)


@dataclass(frozen=True)
class Case:
    files: dict[str, str]
    recipe: Recipe | OwnDockerfile
    reason: str
    template: str = "auto"
    also: tuple[str, ...] = field(default=())
    """Templates that give the same when they are asked for by name."""


VITE = package(scripts={"dev": "vite", "build": "tsc && vite build"}, devDependencies={"vite": "5"})
HELLO = "def microservicio(request):\n    return {}\n"

CASES = {
    "a Dockerfile wins": Case(
        {"Dockerfile": "FROM x", "package.json": VITE, "index.html": ""},
        OwnDockerfile("Dockerfile"),
        "there is a Dockerfile",
        also=("static", "react", "flask", "dockerfile"),
    ),
    "a site": Case(
        {"index.html": "<p>"}, Recipe("static", Tool.NOTHING, site="."), "there is index.html", also=("static",)
    ),
    "a site in public": Case(
        {"public/index.html": "<p>", "README.md": ""},
        Recipe("static", Tool.NOTHING, site="public"),
        "there is public/index.html",
        also=("static",),
    ),
    "a site with a script": Case(
        {"index.html": "<p>", "index.js": ""}, Recipe("static", Tool.NOTHING, site="."), "there is index.html"
    ),
    "react with vite": Case(
        {"package.json": VITE, "package-lock.json": "", "index.html": ""},
        Recipe(
            "react",
            Tool.NODE,
            (Step("npm ci --include=dev", ("package.json", "package-lock.json")), Step("npm run build")),
            site="dist",
            fallback=True,
        ),
        "package.json has a build script",
        also=("react",),
    ),
    "react that says where it is built": Case(
        {"package.json": VITE, "vite.config.ts": "export default { build: { outDir: './www/out' } }"},
        Recipe(
            "react",
            Tool.NODE,
            (Step("npm install --include=dev", ("package.json",)), Step("npm run build")),
            site="www/out",
            fallback=True,
        ),
        "package.json has a build script",
    ),
    "react with react-scripts": Case(
        {
            "package.json": package(
                scripts={"start": "react-scripts start", "build": "react-scripts build"},
                dependencies={"react-scripts": "5"},
            ),
            "public/index.html": "",
        },
        Recipe(
            "react",
            Tool.NODE,
            (Step("npm install --include=dev", ("package.json",)), Step("npm run build")),
            site="build",
            fallback=True,
        ),
        "package.json has a build script",
        also=("react",),
    ),
    "flask": Case(
        {"app.py": FLASK_APP, "requirements.txt": "Flask==3.0 # web\nrequests"},
        Recipe(
            "flask",
            Tool.PYTHON,
            (Step("pip install -r requirements.txt gunicorn", ("requirements.txt",)),),
            shell(GUNICORN + "app:app"),
            environment=UNBUFFERED,
        ),
        "app.py has a Flask application",
        also=("flask", "python"),
    ),
    "flask without a list of what it needs": Case(
        {"app.py": FLASK_APP.replace("app =", "application =")},
        Recipe(
            "flask",
            Tool.PYTHON,
            (Step("pip install flask gunicorn"),),
            shell(GUNICORN + "app:application"),
            environment=UNBUFFERED,
        ),
        "app.py has a Flask application",
    ),
    "flask that is made by a function": Case(
        {
            "shop/__init__.py": "import flask\n\ndef create_app(config=None):\n    ...\n",
            "requirements.txt": "-r base.txt\ngunicorn>=22",
            "base.txt": "Flask",
        },
        Recipe(
            "flask",
            Tool.PYTHON,
            (Step("pip install -r requirements.txt", ("requirements.txt", "base.txt")),),
            shell(GUNICORN + "'shop:create_app()'"),
            environment=UNBUFFERED,
        ),
        "shop/__init__.py has a Flask application",
        also=("flask",),
    ),
    "flask that is made for wsgi.py": Case(
        {"wsgi.py": "from shop import create_app\n\napp = create_app()\n", "requirements.txt": "flask\ngunicorn"},
        Recipe(
            "flask",
            Tool.PYTHON,
            (Step("pip install -r requirements.txt", ("requirements.txt",)),),
            shell(GUNICORN + "wsgi:app"),
            environment=UNBUFFERED,
        ),
        "wsgi.py has a Flask application",
        template="flask",
    ),
    "python": Case(
        {"main.py": "print()", "requirements.txt": "httpx"},
        Recipe(
            "python",
            Tool.PYTHON,
            (Step("pip install -r requirements.txt", ("requirements.txt",)),),
            ("python", "main.py"),
            environment=UNBUFFERED,
        ),
        "there is main.py",
        also=("python",),
    ),
    "python that needs a part of itself": Case(
        {"main.py": "", "requirements.txt": "-e .\nhttpx", "pyproject.toml": ""},
        Recipe(
            "python",
            Tool.PYTHON,
            (Step("pip install -r requirements.txt"),),
            ("python", "main.py"),
            environment=UNBUFFERED,
        ),
        "there is main.py",
    ),
    "python with a Procfile": Case(
        {"Procfile": "release: x\nweb: gunicorn -b 0.0.0.0:$PORT site:app\n", "requirements.txt": "django"},
        Recipe(
            "python",
            Tool.PYTHON,
            (Step("pip install -r requirements.txt gunicorn", ("requirements.txt",)),),
            shell("exec gunicorn -b 0.0.0.0:$PORT site:app"),
            environment=UNBUFFERED,
        ),
        "the Procfile says how it is started",
        also=("python",),
    ),
    "python with a project that is no package": Case(
        {"app.py": "print()", "pyproject.toml": '[project]\nname="x"\ndependencies=["httpx>=0.2", "a[b]"]'},
        Recipe(
            "python",
            Tool.PYTHON,
            (Step("pip install 'httpx>=0.2' 'a[b]'", ("pyproject.toml",)),),
            ("python", "app.py"),
            environment=UNBUFFERED,
        ),
        "there is app.py",
    ),
    "python with a project that is a package": Case(
        {"app.py": "", "pyproject.toml": '[project]\nname="x"\n[build-system]\nrequires=["hatchling"]'},
        Recipe("python", Tool.PYTHON, (Step("pip install ."),), ("python", "app.py"), environment=UNBUFFERED),
        "there is app.py",
    ),
    "fastapi": Case(
        {"main.py": "from fastapi import FastAPI\napi = FastAPI()\n", "requirements.txt": "fastapi"},
        Recipe(
            "python",
            Tool.PYTHON,
            (Step("pip install -r requirements.txt uvicorn", ("requirements.txt",)),),
            shell("exec uvicorn --host 0.0.0.0 --port ${PORT:-8000} main:api"),
            environment=UNBUFFERED,
        ),
        "main.py has a FastAPI application",
        also=("python",),
    ),
    "django": Case(
        {"manage.py": "", "shop/wsgi.py": "", "requirements.txt": "Django"},
        Recipe(
            "python",
            Tool.PYTHON,
            (Step("pip install -r requirements.txt gunicorn", ("requirements.txt",)),),
            shell(GUNICORN + "shop.wsgi:application"),
            environment=UNBUFFERED,
        ),
        "manage.py and shop/wsgi.py are those of Django",
    ),
    "node": Case(
        {"package.json": package(scripts={"start": "node server.js"}), "package-lock.json": "", "server.js": ""},
        Recipe(
            "nodejs",
            Tool.NODE,
            (Step("npm ci --include=dev", ("package.json", "package-lock.json")),),
            shell(f"{TOOLS}exec node server.js"),
            environment=PRODUCTION,
        ),
        "package.json has a start script",
        also=("nodejs",),
    ),
    "node that is built, and installs by its own": Case(
        {"package.json": package(scripts={"start": "next start", "build": "next build", "postinstall": "x"})},
        Recipe(
            "nodejs",
            Tool.NODE,
            (Step("npm install --include=dev"), Step("npm run build")),
            shell(f"{TOOLS}exec next start"),
            environment=PRODUCTION,
        ),
        "package.json has a start script",
    ),
    "node with a main": Case(
        {"package.json": package(main="./lib/start"), "lib/start.js": "", "yarn.lock": ""},
        Recipe(
            "nodejs",
            Tool.NODE,
            (Step("npm install --include=dev", ("package.json",)),),
            ("node", "lib/start.js"),
            environment=PRODUCTION,
        ),
        "there is lib/start.js (yarn.lock is not used: npm installs)",
    ),
    "node with a script before its start": Case(
        {"package.json": package(scripts={"prestart": "x", "start": "node ."})},
        Recipe(
            "nodejs",
            Tool.NODE,
            (Step("npm install --include=dev", ("package.json",)),),
            ("npm", "start"),
            environment=PRODUCTION,
        ),
        "package.json has a start script",
    ),
    "node without a package": Case(
        {"server.js": ""},
        Recipe("nodejs", Tool.NODE, (), ("node", "server.js"), environment=PRODUCTION),
        "there is server.js",
        also=("nodejs",),
    ),
    "node with a server of a vite site": Case(
        {
            "package.json": package(
                scripts={"build": "vite build", "start": "node server.js"}, devDependencies={"vite": "5"}
            )
        },
        Recipe(
            "nodejs",
            Tool.NODE,
            (Step("npm install --include=dev", ("package.json",)), Step("npm run build")),
            shell(f"{TOOLS}exec node server.js"),
            environment=PRODUCTION,
        ),
        "package.json has a start script",
    ),
    "php": Case({"index.php": "<?php"}, Recipe("php", Tool.PHP, site="."), "there is index.php", also=("php",)),
    "php in public, with packages": Case(
        {"public/index.php": "<?php", "composer.json": package(require={"php": "8", "slim/slim": "4"})},
        Recipe(
            "php",
            Tool.PHP,
            (Step("composer install --no-dev --no-interaction --no-progress --optimize-autoloader"),),
            site="public",
        ),
        "there is public/index.php",
    ),
    "a function": Case(
        {"app.py": HELLO},
        Recipe(
            "function",
            Tool.PYTHON,
            (),
            ("python", "server.py"),
            environment=UNBUFFERED,
            files={"server.py": function_server()},
        ),
        "app.py has the function microservicio(request)",
        also=("function",),
    ),
    "a function that uses requests, beside a server.py of its own": Case(
        {"app.py": f"import requests\n{HELLO}", "server.py": ""},
        Recipe(
            "function",
            Tool.PYTHON,
            (Step("pip install requests"),),
            ("python", "muelle_server.py"),
            environment=UNBUFFERED,
            files={"muelle_server.py": function_server()},
        ),
        "app.py has the function microservicio(request)",
    ),
    "a function with a list of what it needs": Case(
        {"app.py": f"from requests import get\n{HELLO}", "requirements.txt": "numpy"},
        Recipe(
            "function",
            Tool.PYTHON,
            (Step("pip install -r requirements.txt requests", ("requirements.txt",)),),
            ("python", "server.py"),
            environment=UNBUFFERED,
            files={"server.py": function_server()},
        ),
        "app.py has the function microservicio(request)",
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_what_is_done_with_it_and_why(case: Case) -> None:
    for template in (case.template, *case.also):
        choice = recipe_for(FolderView.of(case.files), template)
        assert (choice.recipe, choice.reason) == (case.recipe, case.reason), template
        assert choice.template is not Template.AUTO


UNFIT = {
    "nothing that is known": ({"README.md": ""}, "auto", "Looked for: Dockerfile"),
    "nothing at all": ({}, "auto", "Looked for: Dockerfile"),
    "a library, which nobody can start": ({"package.json": package(name="x")}, "auto", "Looked for"),
    "no Dockerfile": ({"index.html": ""}, "dockerfile", "there is no Dockerfile"),
    "no page": ({"app.py": ""}, "static", "there is no index.html"),
    "no build script": ({"package.json": package(scripts={})}, "react", "package.json has no build script"),
    "no package": ({}, "react", "package.json has no build script"),
    "no Flask": ({"app.py": "print()"}, "flask", "no Flask"),
    "nothing to start": ({"requirements.txt": "x"}, "python", "there is no Procfile with a line web:"),
    "nothing to start in Node": ({"package.json": "{}"}, "nodejs", "neither a start script nor a main"),
    "no page of PHP": ({"index.html": ""}, "php", "there is no index.php"),
    "no function": ({"app.py": "def other(): ..."}, "function", "microservicio"),
    "package.json that is broken": ({"package.json": "{"}, "auto", "package.json cannot be read"),
    "package.json that is too deep": ({"package.json": "[" * 100_000}, "nodejs", "package.json cannot be read"),
    "package.json that is a list": ({"package.json": "[]"}, "react", "package.json cannot be read"),
    "pyproject.toml that is broken": ({"app.py": "", "pyproject.toml": "["}, "python", "pyproject.toml cannot be read"),
    "composer.json that is broken": ({"index.php": "", "composer.json": "x"}, "php", "composer.json cannot be read"),
    "a site that is built elsewhere": (
        {"package.json": VITE, "vite.config.js": "outDir: '../../etc'"},
        "auto",
        "not one of the source's",
    ),
    "a template that there is not": ({"index.html": ""}, "cobol", "there is none of that name"),
}


@pytest.mark.parametrize(("files", "template", "words"), UNFIT.values(), ids=UNFIT)
def test_what_does_not_fit_is_refused_with_a_reason(files: dict[str, str], template: str, words: str) -> None:
    with pytest.raises((TemplateUnfit, NothingRecognised)) as caught:
        recipe_for(FolderView.of(files), template)
    assert words in caught.value.message
    assert caught.value.advice


TEXT = st.sampled_from(
    (
        "",
        "{",
        "[]",
        VITE,
        package(scripts={"start": 1, "build": ["x"]}, main=3, dependencies=[]),
        "web: ",
        FLASK_APP,
        "web: a | b &",
        '[project]\ndependencies = 3\nscripts = ""',
        "-r requirements.txt\n-r ../x",
        "\x00",
        HELLO,
    )
)
NAMES = st.sampled_from(
    (
        "package.json",
        "requirements.txt",
        "pyproject.toml",
        "Procfile",
        "app.py",
        "main.py",
        "index.html",
        "index.php",
        "composer.json",
        "vite.config.js",
        "a-b/__init__.py",
        "manage.py",
        "x/wsgi.py",
        "server.js",
    )
)


@given(st.dictionaries(NAMES, TEXT), st.sampled_from(list(Template)))
def test_every_folder_is_understood_or_refused_with_words(files: dict[str, str], template: Template) -> None:
    """No source makes it fail otherwise; a recipe starts something or serves a folder, and asks for no missing file."""
    try:
        choice = recipe_for(FolderView.of(files), template)
    except (TemplateUnfit, NothingRecognised):
        return
    assert isinstance(choice.recipe, Recipe)
    assert bool(choice.recipe.command) != bool(choice.recipe.site)
    assert all(path in files for step in choice.recipe.steps for path in step.needs)


TIRING = {
    "line breaks": "\n" * 250_000,
    "spaces": " " * 250_000,
    "letters": "a" * 250_000,
    "digits": "1" * 250_000,
    "half an import": "from " * 50_000,
    "half an import a line": "from\n" * 50_000,
    "half an assignment": "app :" * 50_000,
    "a key in a key": "a." * 125_000 + "a=1",
    "a table in a table": "[a" * 125_000,
    "quotes": "web: " + "A='" * 80_000,
    "assignments": "web: " + "A=1 " * 60_000,
    "includes": "-r x\n-r y\n" * 25_000,
    "places": "@ " * 125_000,
}


@pytest.mark.parametrize("text", TIRING.values(), ids=TIRING)
def test_no_text_takes_long_to_read(text: str) -> None:
    """Each pattern is tried on what a stranger wrote: none of them may take the square of its length."""
    began = time.process_time()
    names = ("app.py", "package.json", "pyproject.toml", "requirements.txt", "Procfile", "composer.json", "index.php")
    for name in names:
        view = FolderView.of({**dict.fromkeys(names, ""), "package.json": "{}", "composer.json": "{}", name: text})
        for template in Template:
            with suppress(TemplateUnfit, NothingRecognised):
                recipe_for(view, template)
    assert time.process_time() - began < 5


def test_looking_reads_names_and_telling_texts_and_follows_no_link(tmp_path: Path) -> None:
    folder = tmp_path / "source"
    (folder / "lib/deep/deeper").mkdir(parents=True)
    (folder / "node_modules/x").mkdir(parents=True)
    for path, text in {
        "app.py": "\ufeffapp",
        "lib/a.py": "a",
        "lib/deep/deeper/b.py": "b",
        "node_modules/x/index.js": "",
        "data.bin": "x",
        "package.json": "{}" + " " * 2**20,
    }.items():
        (folder / path).write_text(text)
    (tmp_path / "secret").write_text("secret")
    (folder / "main.py").symlink_to(tmp_path / "secret")
    view = look(folder)
    assert view.paths == {"app.py", "lib/a.py", "data.bin", "package.json"}
    assert set(view.texts) == {"app.py", "lib/a.py", "package.json"}
    assert view.text("app.py") == "app"
    assert len(view.text("package.json")) == 256 * 1024
