"""How a Python program is installed and started. Pure: from what is in the folder."""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from muelle.engines.recipe import Recipe, Step, Tool
from muelle.workloads.sources.commands import started
from muelle.workloads.sources.errors import TemplateUnfit
from muelle.workloads.sources.folder import FolderView

ENVIRONMENT = {"PYTHONUNBUFFERED": "1"}
"""What a program writes is in its log at once."""
MOST_DEPENDENCIES = 500
LONGEST_LINE = 8_000
"""Of a file that is read here: beyond that, reading takes the square of it."""
STARTS = ("main.py", "app.py", "server.py", "run.py", "__main__.py")
APPLICATIONS = ("app.py", "wsgi.py", "main.py", "application.py", "server.py", "run.py", "index.py")

_NAME = re.compile(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)")
_INCLUDED = re.compile(r"\s*(?:-r|-c|--requirement|--constraint)[ =]*(\S+)")
_LOCAL = re.compile(r"(?:-e|--editable)\b|\.{0,2}/|\.\s*(?:\[|$)|file:|[^#]*@\s*file:")
_FACTORY = re.compile(r"^(?:app|application)\s*(?::[^=\n]{1,100})?=\s*(?:create|make)_app\(", re.MULTILINE)
_BORROWED = re.compile(r"^from\s+\S+\s+import\s+[^#\n]{0,200}\b(app|application)\s*$", re.MULTILINE)
_MAKER = re.compile(r"^def\s+((?:create|make)_app)\s*\(", re.MULTILINE)
_OWN_PORT = re.compile(r"environ|getenv|decouple")


@dataclass(frozen=True)
class Application:
    """Where a program's application is to be found, as gunicorn and uvicorn are told."""

    file: str
    where: str


def flask(view: FolderView) -> Recipe:
    """Raises TemplateUnfit."""
    if line := web_line(view):
        return Recipe("flask", Tool.PYTHON, installing(view, *_server_of(line)), started(line), environment=ENVIRONMENT)
    if not (found := application(view, "Flask")):
        raise TemplateUnfit(template="flask", reason="no Flask(…) and no create_app() in app.py, wsgi.py or main.py")
    line = f"gunicorn --bind 0.0.0.0:${{PORT:-8000}} --workers 2 --threads 4 {shlex.quote(found.where)}"
    return Recipe("flask", Tool.PYTHON, installing(view, "flask", "gunicorn"), started(line), environment=ENVIRONMENT)


def python(view: FolderView) -> tuple[Recipe, str]:
    """The recipe, and by what it is started. Raises TemplateUnfit."""
    line, needed, reason = _start(view)
    command = tuple(line.split()) if line.startswith("python ") else started(line)
    return Recipe("python", Tool.PYTHON, installing(view, *needed), command, environment=ENVIRONMENT), reason


def application(view: FolderView, maker: str) -> Application | None:
    """The application that is made by calling `maker`, such as Flask, at the top of a module, or by a function."""
    made = re.compile(rf"^(\w+)\s*(?::[^=\n]{{1,100}})?=\s*(?:\w+\.)?{maker}\(", re.MULTILINE)
    files = _modules(view)
    for file in files:
        if match := made.search(view.text(file)):
            return Application(file, f"{_module(file)}:{match[1]}")
    if maker != "Flask" or not any(re.search(r"\bflask\b", view.text(file), re.IGNORECASE) for file in view.texts):
        return None
    for file in files:
        text = view.text(file)
        if match := _FACTORY.search(text):
            return Application(file, f"{_module(file)}:{match[0].split(':')[0].split('=')[0].strip()}")
        if file in APPLICATIONS and (match := _BORROWED.search(text)):
            return Application(file, f"{_module(file)}:{match[1]}")
    for file in files:
        if match := _MAKER.search(view.text(file)):
            return Application(file, f"{_module(file)}:{match[1]}()")
    return None


def web_line(view: FolderView) -> str:
    """The command of a Procfile's line `web:`."""
    match = re.search(r"^web[ \t]*:[ \t]*(\S.*)$", view.text("Procfile"), re.MULTILINE)
    return match[1].strip() if match else ""


def installing(view: FolderView, *needed: str) -> tuple[Step, ...]:
    """The steps that install what the source asks for, and of `needed` what it does not ask for."""
    if view.has("requirements.txt"):
        wanted = requirements(view)
        more = [name for name in needed if name not in wanted]
        return (Step(" ".join(["pip install -r requirements.txt", *more]), _read_by(view)),)
    if view.has("pyproject.toml"):
        return _of_project(view, needed)
    return (Step(f"pip install {' '.join(sorted(needed))}", ()),) if needed else ()


def requirements(view: FolderView) -> frozenset[str]:
    """The names of what is asked for, as an index knows them."""
    files = [path for path in _included(view) if path in view.texts]
    lines = [line for path in files for line in view.text(path).splitlines()]
    project = _project(view)
    named = [*lines, *_strings(_table(project, "project").get("dependencies"))]
    named += list(_table(_table(_table(project, "tool"), "poetry"), "dependencies"))
    return frozenset(re.sub(r"[-_.]+", "-", match[1]).lower() for line in named if (match := _NAME.match(line)))


def _start(view: FolderView) -> tuple[str, tuple[str, ...], str]:
    """The line that starts it, what that needs, and why it is this one."""
    if line := web_line(view):
        return line, _server_of(line), "the Procfile says how it is started"
    for maker in ("FastAPI", "Starlette"):
        if found := application(view, maker):
            line = f"uvicorn --host 0.0.0.0 --port ${{PORT:-8000}} {shlex.quote(found.where)}"
            return line, (maker.lower(), "uvicorn"), f"{found.file} has a {maker} application"
    if view.has("manage.py") and (found := _django(view)):
        line = f"gunicorn --bind 0.0.0.0:${{PORT:-8000}} --workers 2 --threads 4 {found.where}"
        return line, ("django", "gunicorn"), f"manage.py and {found.file} are those of Django"
    if file := view.first(*STARTS):
        return f"python {'.' if file == '__main__.py' else file}", (), f"there is {file}"
    raise TemplateUnfit(
        template="python", reason=f"there is no Procfile with a line web:, and none of {', '.join(STARTS)}"
    )


def knows_its_port(view: FolderView, file: str) -> bool:
    """Whether a program reads its settings from its environment, so that it may be started as it is."""
    return "PORT" in view.text(file) and _OWN_PORT.search(view.text(file)) is not None


def _django(view: FolderView) -> Application | None:
    file = next((path for path in sorted(view.paths) if path.count("/") == 1 and path.endswith("/wsgi.py")), "")
    return Application(file, f"{_module(file)}:application") if _is_module(file) else None


def _server_of(line: str) -> tuple[str, ...]:
    return tuple(name for name in ("gunicorn", "uvicorn", "waitress", "hypercorn") if re.search(rf"\b{name}\b", line))


def _modules(view: FolderView) -> list[str]:
    """Where an application may be: the usual names first, then packages at the top, then what else is there."""
    usual = [file for file in APPLICATIONS if file in view.texts]
    packages = sorted(file for file in view.texts if file.count("/") == 1 and file.endswith("/__init__.py"))
    others = sorted(file for file in view.texts if "/" not in file and file.endswith(".py"))
    return [file for file in dict.fromkeys(usual + packages + others) if _is_module(file)]


def _is_module(file: str) -> bool:
    return file.endswith(".py") and all(part.isidentifier() for part in _module(file).split("."))


def _module(file: str) -> str:
    return file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def _read_by(view: FolderView) -> tuple[str, ...]:
    """The files that requirements.txt is made of; none where it asks for something of the source itself."""
    files = list(_included(view))
    lines = [line.strip()[:LONGEST_LINE] for path in files for line in view.text(path).splitlines()]
    if any(_LOCAL.match(line) for line in lines) or not all(path in view.texts for path in files):
        return ()
    return tuple(files)


def _included(view: FolderView) -> Iterator[str]:
    """requirements.txt, and what it includes, as far as that lies beside it."""
    waiting, seen = ["requirements.txt"], set[str]()
    while waiting:
        path = waiting.pop()
        if path in seen:
            continue
        seen.add(path)
        yield path
        lines = view.text(path).splitlines()
        waiting += [match[1].removeprefix("./") for line in lines if (match := _INCLUDED.match(line))]


def _of_project(view: FolderView, needed: tuple[str, ...]) -> tuple[Step, ...]:
    """A project that is a package is installed as one; of another what it depends on is, so that it can be kept."""
    project = _project(view)
    named = requirements(view)
    more = [name for name in needed if name not in named]
    if "build-system" in project or "project" not in project or "scripts" in _table(project, "project"):
        return (Step(" ".join(["pip install .", *more]), ()),)
    wanted = [*_strings(_table(project, "project").get("dependencies"))[:MOST_DEPENDENCIES], *more]
    if not wanted:
        return ()
    return (Step("pip install " + " ".join(shlex.quote(one) for one in wanted if one[:1] != "-"), ("pyproject.toml",)),)


def _project(view: FolderView) -> dict[str, Any]:
    if not view.has("pyproject.toml"):
        return {}
    text = view.text("pyproject.toml")
    try:
        if max(map(len, text.splitlines()), default=0) > LONGEST_LINE:
            raise ValueError("no key and no list is that long")
        return tomllib.loads(text)
    except (RecursionError, ValueError):
        raise TemplateUnfit(template="python", reason="pyproject.toml cannot be read") from None


def _table(document: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = document.get(name)
    return value if isinstance(value, dict) else {}


def _strings(value: object) -> list[str]:
    return [one for one in value if isinstance(one, str)] if isinstance(value, list) else []
