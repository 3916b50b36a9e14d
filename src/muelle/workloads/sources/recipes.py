"""Which recipe a folder of source calls for, and why. Pure.

A Dockerfile in the source always wins, over a template too: who wrote one knows best. Else the template that was chosen
says what to look for, and with `auto` the first that fits does, from the most certain sign to the least.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from muelle.engines.recipe import OwnDockerfile, Recipe, Step, Tool
from muelle.workloads.sources import node_recipes, python_recipes
from muelle.workloads.sources.errors import NothingRecognised, TemplateUnfit
from muelle.workloads.sources.folder import FolderView
from muelle.workloads.sources.node_recipes import Package

DOCKERFILES = ("Dockerfile", "dockerfile", "Containerfile")
SITES = ("", "public/", "dist/", "build/", "site/", "_site/", "www/", "html/", "docs/")
PHP_FOLDERS = ("", "public/", "web/", "www/", "htdocs/", "html/")
LOOKED_FOR = (
    "Dockerfile, app.py with microservicio(request), package.json with a build or start script, requirements.txt, "
    "pyproject.toml, Procfile, main.py, app.py, server.js, index.js, index.php, composer.json, index.html"
)

_FUNCTION = re.compile(
    r"^(?:async\s+)?def\s+microservicio\s*\(|^microservicio\s*=|^from\s+\S+\s+import\s+[^#\n]{0,200}\bmicroservicio\b",
    re.MULTILINE,
)
_USES_REQUESTS = re.compile(r"^[ \t]*(?:import|from)[ \t]+requests\b", re.MULTILINE)


class Template(StrEnum):
    AUTO = "auto"
    STATIC = "static"
    REACT = "react"
    FLASK = "flask"
    PYTHON = "python"
    NODEJS = "nodejs"
    PHP = "php"
    FUNCTION = "function"
    DOCKERFILE = "dockerfile"


@dataclass(frozen=True)
class Choice:
    recipe: Recipe | OwnDockerfile
    template: Template
    """Never AUTO."""
    reason: str
    """For a build's log: "package.json has a build script"."""


def recipe_for(view: FolderView, template: Template | str = Template.AUTO) -> Choice:
    """Raises NothingRecognised, TemplateUnfit."""
    if file := view.first(*DOCKERFILES):
        return Choice(OwnDockerfile(file), Template.DOCKERFILE, f"there is a {file}")
    if template not in list(Template):
        raise TemplateUnfit(
            template=str(template)[:40], reason=f"there is none of that name, only {', '.join(Template)}"
        )
    if template == Template.AUTO:
        return _recognised(view)
    return _BY_TEMPLATE[Template(template)](view)


def _recognised(view: FolderView) -> Choice:
    for fits, make in _SIGNS:
        if fits(view):
            return make(view)
    raise NothingRecognised(looked=LOOKED_FOR)


def _dockerfile(view: FolderView) -> Choice:
    raise TemplateUnfit(template="dockerfile", reason="there is no Dockerfile")


def _function(view: FolderView) -> Choice:
    text = view.text("app.py")
    if not _FUNCTION.search(text):
        raise TemplateUnfit(template="function", reason="there is no app.py with a function microservicio(request)")
    needed = ("requests",) if _USES_REQUESTS.search(text) else ()
    server = "muelle_server.py" if view.has("server.py") else "server.py"
    recipe = Recipe(
        "function",
        Tool.PYTHON,
        python_recipes.installing(view, *needed),
        ("python", server),
        environment=python_recipes.ENVIRONMENT,
        files={server: function_server()},
    )
    return Choice(recipe, Template.FUNCTION, "app.py has the function microservicio(request)")


def function_server() -> str:
    """The program that serves a function."""
    return Path(__file__).with_name("function_server.py").read_text("utf-8")


def _react(view: FolderView) -> Choice:
    package = Package.of(view)
    return Choice(node_recipes.react(view, package), Template.REACT, "package.json has a build script")


def _flask(view: FolderView) -> Choice:
    found = python_recipes.application(view, "Flask")
    reason = f"{found.file} has a Flask application" if found else "the Procfile says how it is started"
    return Choice(python_recipes.flask(view), Template.FLASK, reason)


def _python(view: FolderView) -> Choice:
    """A program whose port is settled in its text would never be reached: for Flask there is a way around that."""
    found = python_recipes.application(view, "Flask")
    if found and not python_recipes.web_line(view) and not python_recipes.knows_its_port(view, found.file):
        return _flask(view)
    recipe, reason = python_recipes.python(view)
    return Choice(recipe, Template.PYTHON, reason)


def _nodejs(view: FolderView) -> Choice:
    recipe, reason = node_recipes.nodejs(view, Package.of(view))
    lock = view.first(*node_recipes.OTHER_LOCKS)
    if lock and not view.first(*node_recipes.LOCKS):
        reason += f" ({lock} is not used: npm installs)"
    return Choice(recipe, Template.NODEJS, reason)


def _php(view: FolderView) -> Choice:
    folder = next((folder for folder in PHP_FOLDERS if view.has(f"{folder}index.php")), None)
    if folder is None:
        raise TemplateUnfit(template="php", reason="there is no index.php, neither at the top nor in public")
    served = folder.rstrip("/") or "."
    installs = _asks_for_packages(view) and not view.has("vendor/autoload.php")
    steps = (
        (Step("composer install --no-dev --no-interaction --no-progress --optimize-autoloader", ()),)
        if installs
        else ()
    )
    # What runs is Apache or PHP's own server, as the engine has it: either serves the folder and knows $PORT.
    recipe = Recipe("php", Tool.PHP, steps, site=served)
    return Choice(recipe, Template.PHP, f"there is {folder}index.php")


def _asks_for_packages(view: FolderView) -> bool:
    try:
        document = json.loads(view.text("composer.json") or "{}")
    except (ValueError, RecursionError):
        raise TemplateUnfit(template="php", reason="composer.json cannot be read") from None
    wanted = document.get("require") if isinstance(document, dict) else None
    return isinstance(wanted, dict) and any("/" in name for name in wanted)


def _static(view: FolderView) -> Choice:
    for folder in SITES:
        if view.has(f"{folder}index.html"):
            recipe = Recipe("static", Tool.NOTHING, site=folder.rstrip("/") or ".")
            return Choice(recipe, Template.STATIC, f"there is {folder}index.html")
    raise TemplateUnfit(template="static", reason="there is no index.html, neither at the top nor in public")


def _has_python(view: FolderView) -> bool:
    return bool(view.first("requirements.txt", "pyproject.toml", "manage.py", *python_recipes.STARTS))


def _has_node(view: FolderView) -> bool:
    return node_recipes.starts(view, Package.of(view)) if view.has("package.json") else False


_BY_TEMPLATE: dict[Template, Callable[[FolderView], Choice]] = {
    Template.DOCKERFILE: _dockerfile,
    Template.FUNCTION: _function,
    Template.REACT: _react,
    Template.FLASK: _flask,
    Template.PYTHON: _python,
    Template.NODEJS: _nodejs,
    Template.PHP: _php,
    Template.STATIC: _static,
}

_SIGNS: tuple[tuple[Callable[[FolderView], bool], Callable[[FolderView], Choice]], ...] = (
    (lambda view: _FUNCTION.search(view.text("app.py")) is not None, _function),
    (lambda view: node_recipes.builds_a_site(Package.of(view)), _react),
    (lambda view: python_recipes.application(view, "Flask") is not None, _python),
    (_has_node, _nodejs),
    (_has_python, _python),
    (lambda view: any(view.has(f"{folder}index.php") for folder in PHP_FOLDERS), _php),
    (lambda view: bool(view.first("index.html", "public/index.html")), _static),
    (lambda view: bool(view.first(*node_recipes.STARTS)), _nodejs),
)
"""A site with an index.js is a site; a program without package.json is one where nothing else is."""
