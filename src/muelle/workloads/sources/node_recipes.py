"""How a program for Node is installed, built and started. Pure: from what is in the folder."""

from __future__ import annotations

import json
import posixpath
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from muelle.engines.recipe import Recipe, Step, Tool
from muelle.workloads.sources.commands import started
from muelle.workloads.sources.errors import TemplateUnfit
from muelle.workloads.sources.folder import FolderView
from muelle.workloads.sources.python_recipes import web_line

STARTS = ("server.js", "index.js", "app.js", "main.js", "server.mjs", "index.mjs")
LOCKS = ("package-lock.json", "npm-shrinkwrap.json")
OTHER_LOCKS = ("yarn.lock", "pnpm-lock.yaml", "bun.lock")
RUN_BY_INSTALLING = ("preinstall", "install", "postinstall", "prepare")
BUNDLERS = {"vite": "dist", "react-scripts": "build", "parcel": "dist"}
"""What makes a site of a React application, and where it puts it."""

_OUT_FOLDER = re.compile(r"outDir\s*:\s*[\"'`]([A-Za-z0-9_./-]{1,100})[\"'`]")
_SERVES_A_SITE = re.compile(r"\b(?:vite|react-scripts|parcel|serve)\b")


@dataclass(frozen=True)
class Package:
    """What package.json says, as far as it is of use."""

    scripts: Mapping[str, str]
    dependencies: frozenset[str]
    main: str
    workspaces: bool

    @classmethod
    def of(cls, view: FolderView) -> Package:
        """An empty one where there is none. Raises TemplateUnfit."""
        try:
            document = json.loads(view.text("package.json") or "{}")
        except (ValueError, RecursionError):
            document = None
        if not isinstance(document, dict):
            raise TemplateUnfit(template="nodejs", reason="package.json cannot be read")
        scripts = {name: line for name, line in _table(document, "scripts").items() if isinstance(line, str)}
        dependencies = {*_table(document, "dependencies"), *_table(document, "devDependencies")}
        main = document.get("main")
        return cls(scripts, frozenset(dependencies), main if isinstance(main, str) else "", "workspaces" in document)


def react(view: FolderView, package: Package) -> Recipe:
    """A site that is built. Raises TemplateUnfit."""
    if "build" not in package.scripts:
        raise TemplateUnfit(template="react", reason="package.json has no build script")
    steps = (*_installing(view, package), Step("npm run build", ()))
    return Recipe("react", Tool.NODE, steps, site=_out_folder(view, package), fallback=True)


def builds_a_site(package: Package) -> bool:
    """Whether building gives a site, and not a server that has to run."""
    serves = package.scripts.get("start", "")
    bundled = not package.dependencies.isdisjoint(BUNDLERS)
    return bundled and "build" in package.scripts and (not serves or _SERVES_A_SITE.search(serves) is not None)


def nodejs(view: FolderView, package: Package) -> tuple[Recipe, str]:
    """The recipe, and by what it is started. Raises TemplateUnfit."""
    command, reason = _start(view, package)
    steps = _installing(view, package)
    if "build" in package.scripts:
        steps = (*steps, Step("npm run build", ()))
    return Recipe("nodejs", Tool.NODE, steps, command, environment={"NODE_ENV": "production"}), reason


def starts(view: FolderView, package: Package) -> bool:
    return bool("start" in package.scripts or _main(view, package))


def _start(view: FolderView, package: Package) -> tuple[tuple[str, ...], str]:
    if line := web_line(view):
        return started(_with_its_tools(line)), "the Procfile says how it is started"
    if line := package.scripts.get("start", ""):
        if "prestart" in package.scripts or "poststart" in package.scripts or "npm_" in line:
            return ("npm", "start"), "package.json has a start script"
        # As `npm start` does it, without an npm that stays beside the program and stands between it and a signal.
        return started(_with_its_tools(line)), "package.json has a start script"
    if file := _main(view, package):
        return ("node", file), f"there is {file}"
    reason = (
        f"package.json has neither a start script nor a main that is there, and there is none of {', '.join(STARTS)}"
    )
    raise TemplateUnfit(template="nodejs", reason=reason)


def _with_its_tools(line: str) -> str:
    return f'export PATH="$PWD/node_modules/.bin:$PATH"; {line}'


def _main(view: FolderView, package: Package) -> str:
    named = posixpath.normpath(package.main) if package.main else ""
    return view.first(named, f"{named}.js", f"{named}/index.js", *STARTS)


def _installing(view: FolderView, package: Package) -> tuple[Step, ...]:
    """What building needs comes along, whatever NODE_ENV says: it is what `npm run build` runs."""
    if not view.has("package.json"):
        return ()
    lock = view.first(*LOCKS)
    command = "npm ci --include=dev" if lock else "npm install --include=dev"
    needs_the_source = package.workspaces or any(name in package.scripts for name in RUN_BY_INSTALLING)
    files = tuple(path for path in ("package.json", lock, ".npmrc") if path and view.has(path))
    return (Step(command, () if needs_the_source else files),)


def _out_folder(view: FolderView, package: Package) -> str:
    line = package.scripts["build"]
    words = line.replace("=", " ").split()
    if "--outDir" in words[:-1]:
        return _inside(words[words.index("--outDir") + 1])
    for path in sorted(view.texts):
        if path.startswith("vite.config.") and (match := _OUT_FOLDER.search(view.text(path))):
            return _inside(match[1])
    named = next((folder for tool, folder in BUNDLERS.items() if re.search(rf"\b{tool}\b", line)), "")
    return named or next((folder for tool, folder in BUNDLERS.items() if tool in package.dependencies), "dist")


def _inside(folder: str) -> str:
    path = posixpath.normpath(shlex.split(folder)[0] if folder.isprintable() and "'" not in folder else folder)
    if path.startswith(("/", "..")) or path == ".":
        raise TemplateUnfit(template="react", reason="it is built into a folder that is not one of the source's")
    return path


def _table(document: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = document.get(name)
    return value if isinstance(value, dict) else {}
