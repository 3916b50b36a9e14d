"""A recipe as a Dockerfile. Pure.

Written for the cache: what never changes comes first, then what a step needs and the step, then the rest of the
source. A command that is run is given as a list, since a line of a Dockerfile has rules of its own about quotes.

Programs run as root of their container: it has next to no capabilities, cannot get more, and Docker gives a volume to
root. Who wants another user brings a Dockerfile.
"""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from muelle.engines.protocol import BuildFailed
from muelle.engines.recipe import Recipe, Step, Tool

APP = "/app"
PAGES = "/site"
OURS = ".muelle"
"""The folder of the context where our own files lie."""
DOCKERFILE = f"{OURS}/Dockerfile"
PACKAGES = "package.json"
SERVER = "nginx:alpine"
BASES = {
    Tool.PYTHON: "python:3.12-slim",
    Tool.NODE: "node:20-slim",
    Tool.PHP: "php:8.2-apache",
    Tool.NOTHING: "debian:bookworm-slim",
}
CALMING = {
    Tool.PYTHON: {
        "PYTHONUNBUFFERED": "1",
        "PIP_NO_CACHE_DIR": "1",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_ROOT_USER_ACTION": "ignore",
    },
    Tool.NODE: {"NPM_CONFIG_UPDATE_NOTIFIER": "false", "NPM_CONFIG_FUND": "false", "NPM_CONFIG_AUDIT": "false"},
}
"""So that programs write at once, and installers leave out what nobody asked for."""
_NGINX = "/etc/nginx/conf.d/default.conf"
_APACHE = "/etc/apache2/sites-enabled/000-default.conf"


@dataclass(frozen=True)
class Written:
    dockerfile: str
    files: Mapping[str, bytes] = field(default_factory=dict)
    """What it copies beside the source, by path in the context."""


def written(recipe: Recipe, labels: Mapping[str, str], prelude: str = "") -> Written:
    """`labels` mark every stage as ours; `prelude` begins each command. Raises BuildFailed."""
    files = {_inside(path): text.encode() for path, text in recipe.files.items()}
    if recipe.command:
        lines = _program(recipe, labels, prelude)
    elif recipe.tool is Tool.PHP:
        lines = _php_site(recipe, labels, prelude)
        files[f"{OURS}/site.conf"] = apache(recipe).encode()
    else:
        lines = _site(recipe, labels, prelude)
        files[f"{OURS}/site.conf"] = nginx(recipe).encode()
    # What the engine reads there, it leaves out of the image: both files are ours, not the source's.
    files[".dockerignore"] = f".dockerignore\n{DOCKERFILE}\n".encode()
    return Written("\n".join(lines) + "\n", files)


def left_out(recipe: Recipe) -> str:
    """What stands in a source by mistake, as patterns: installed for another machine, it would cover what a step
    installs."""
    if recipe.tool is Tool.PYTHON:
        return "**/__pycache__\n.venv\n"
    installs = any(PACKAGES in step.needs for step in recipe.steps)
    return "**/node_modules\n" if recipe.tool is Tool.NODE and installs else ""


def _program(recipe: Recipe, labels: Mapping[str, str], prelude: str) -> Iterator[str]:
    yield from _stage(recipe, labels)
    yield _listed("CMD", *recipe.command)
    yield from _steps(recipe, prelude)


def _site(recipe: Recipe, labels: Mapping[str, str], prelude: str) -> Iterator[str]:
    site = _inside(recipe.site or ".")
    if recipe.steps:
        yield from _stage(recipe, labels, " AS build")
        yield from _steps(recipe, prelude)
    yield f"FROM {SERVER}"
    yield _pairs("LABEL", labels)
    yield _pairs("ENV", {**recipe.environment, "PORT": str(recipe.port)})
    yield f"EXPOSE {recipe.port}"
    yield _listed("CMD", "sh", "-c", _listen(_NGINX) + " && exec nginx -g 'daemon off;'")
    yield _copied(f"{OURS}/site.conf", _NGINX)
    if recipe.steps:
        yield _copied(posixpath.join(APP, site), PAGES + "/", flag="--from=build ")
    else:
        yield _copied(site, PAGES + "/")


def _php_site(recipe: Recipe, labels: Mapping[str, str], prelude: str) -> Iterator[str]:
    yield from _stage(recipe, labels)
    yield _copied(f"{OURS}/site.conf", _APACHE)
    command = f"{_listen(_APACHE)} && : > /etc/apache2/ports.conf && exec apachectl -D FOREGROUND"
    yield _listed("CMD", "sh", "-c", command)
    yield from _steps(recipe, prelude)


def _stage(recipe: Recipe, labels: Mapping[str, str], name: str = "") -> Iterator[str]:
    yield f"FROM {BASES[recipe.tool]}{name}"
    yield _pairs("LABEL", labels)
    yield f"WORKDIR {APP}"
    yield _pairs("ENV", {**CALMING.get(recipe.tool, {}), **recipe.environment, "PORT": str(recipe.port)})
    yield f"EXPOSE {recipe.port}"


def _steps(recipe: Recipe, prelude: str) -> Iterator[str]:
    """Whatever a step needs is there before it, and the whole source in the end."""
    there: set[str] = set()
    for step in recipe.steps:
        if "." not in there:
            yield from (_copied(path, _place(path)) for path in _lacking(step, there))
            there.update(_needs(step))
        yield _listed("RUN", "/bin/sh", "-c", prelude + step.command)
    if "." not in there:
        yield _copied(".", _place("."))


def _place(path: str) -> str:
    return posixpath.join(APP, "" if path == "." else path)


def _needs(step: Step) -> list[str]:
    return [_inside(path) for path in step.needs] or ["."]


def _lacking(step: Step, there: set[str]) -> list[str]:
    return [path for path in dict.fromkeys(_needs(step)) if path not in there]


def _inside(path: str) -> str:
    """A path of the source, in its shortest form."""
    short = posixpath.normpath(path)
    if short.startswith(("/", "../")) or short == ".." or any(not letter.isprintable() for letter in short):
        raise BuildFailed(reason=f"the path {path!r} is not in the source")
    return short


def _listed(instruction: str, *words: str) -> str:
    return f"{instruction} {json.dumps(list(words))}"


def _copied(source: str, target: str, flag: str = "") -> str:
    """Docker takes the source for a pattern, and both for texts with variables."""
    pattern = re.sub(r"[*?\[]", r"[\g<0>]", source)
    words = [re.sub(r"[\\'\"$]", r"\\\g<0>", word) for word in (pattern, target)]
    return f"COPY {flag}{json.dumps(words)}"


def _pairs(instruction: str, values: Mapping[str, str]) -> str:
    return " ".join([instruction, *(f"{name}={_quoted(name, value)}" for name, value in values.items())])


def _quoted(name: str, value: str) -> str:
    if "\n" in value or "\r" in value or "\0" in value:
        raise BuildFailed(reason=f"the value of {name} has more than one line")
    return '"' + re.sub(r'[\\"$]', r"\\\g<0>", value) + '"'


def _listen(file: str) -> str:
    """Another port than the usual one is told when the program is started; a server's settings cannot ask for it."""
    return f'sed -i -E "s/((listen|Listen|VirtualHost) ?(\\*:)?)[0-9]+/\\\\1${{PORT}}/" {file}'


def nginx(recipe: Recipe) -> str:
    """Nothing that begins with a dot is shown: `.env` is no page."""
    missing = "/index.html" if recipe.fallback else "=404"
    return f"""server {{
    listen {recipe.port};
    root {PAGES};
    index index.html index.htm;
    absolute_redirect off;
    server_tokens off;
    error_page 404 /404.html;
    location ~ /\\.(?!well-known/) {{ return 404; }}
    location / {{ try_files $uri $uri/ {missing}; }}
}}
"""


def apache(recipe: Recipe) -> str:
    root = posixpath.normpath(posixpath.join(APP, _inside(recipe.site or ".")))
    fallback = "FallbackResource /index.html" if recipe.fallback else ""
    return f"""Listen {recipe.port}
<VirtualHost *:{recipe.port}>
    DocumentRoot {root}
    <Directory {root}>
        AllowOverride All
        Require all granted
        DirectoryIndex index.php index.html
        {fallback}
    </Directory>
    <LocationMatch "/\\.(?!well-known/)">
        Require all denied
    </LocationMatch>
</VirtualHost>
"""
