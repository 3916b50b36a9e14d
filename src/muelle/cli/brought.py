"""What `muelle deploy` was given: a folder, an archive, a file, a repository's address, or the name of an image.

It is what is there: a path that exists is that path, whatever else it could mean.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from muelle.kit.errors import Invalid, Missing
from muelle.workloads.sources.errors import ReferenceRefused
from muelle.workloads.sources.words import check_reference, repository

LONGEST_NAME = 40
LARGEST_FILE_BYTES = 256 * 1024
"""A single file up to this is sent as it is; a larger one is packed."""
NAMELESS = frozenset({"app", "main", "index", "server"})
"""Files that everybody calls so: their folder says better what it is."""
FUNCTION_FILE = "app.py"
_FUNCTION = re.compile(r"^(?:async\s+)?def\s+microservicio\s*\(|^microservicio\s*=", re.MULTILINE)
_ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
_LIKE_A_PATH = re.compile(r"[./~\\]|.*(?:/|\.(?:zip|tar|tgz|gz|py|js|html|php))$")


class NotThere(Missing):
    """There is nothing at {path}."""


class NotToBeDeployed(Invalid):
    """ "{text}" is no folder or file here, no address of a repository, and no name of an image."""

    hint = "muelle deploy .   or   muelle deploy https://example.com/ana/app.git   or   muelle deploy nginx:alpine"


class NeitherFileNorFolder(Invalid):
    """{path} is neither a file nor a folder."""


class NoNameIn(Invalid):
    """No name can be made of "{text}"."""

    hint = "Give one: --name shop."


@dataclass(frozen=True)
class Folder:
    path: Path


@dataclass(frozen=True)
class Archive:
    path: Path


@dataclass(frozen=True)
class SingleFile:
    """One that has to be packed."""

    path: Path


@dataclass(frozen=True)
class Function:
    """A file with `microservicio(request)`."""

    path: Path
    text: str


@dataclass(frozen=True)
class Repository:
    url: str


@dataclass(frozen=True)
class ImageName:
    reference: str


Brought = Folder | Archive | SingleFile | Function | Repository | ImageName


def recognised(text: str) -> Brought:
    path = Path(text).expanduser()
    if text and path.exists():
        return _at(path)
    if "://" in text or re.match(r"[\w.-]+@[\w.-]+:", text):
        repository(text)  # refuses, among others, one with a password in it, before it goes anywhere
        return Repository(text)
    if not text or _LIKE_A_PATH.match(text):
        raise NotThere(path=text)
    try:
        check_reference(text)
    except ReferenceRefused:
        raise NotToBeDeployed(text=text) from None
    return ImageName(text)


def described(brought: Brought) -> str:
    match brought:
        case Folder(path):
            return f"the folder {path.resolve()}"
        case Archive(path):
            return f"the archive {path}"
        case SingleFile(path) | Function(path):
            return f"the file {path}"
        case Repository(url):
            return url
        case ImageName(reference):
            return f"the image {reference}"


def usual_kind(brought: Brought) -> str:
    match brought:
        case Repository():
            return "project"
        case Folder() | Archive():
            return "service"
    return "container"


def usual_name(brought: Brought) -> str:
    """What it is called elsewhere, made fit. Raises NoNameIn."""
    called = _called(brought)
    fit = re.sub(r"[^a-z0-9]+", "-", called.lower()).strip("-")[:LONGEST_NAME].strip("-")
    if not fit:
        raise NoNameIn(text=called)
    return fit


def _at(path: Path) -> Brought:
    if path.is_dir():
        return Folder(path)
    if not path.is_file():
        raise NeitherFileNorFolder(path=path)
    if path.name.lower().endswith(_ARCHIVES):  # one that is broken is told so by the server, which knows how to read it
        return Archive(path)
    if path.suffix == ".py" and path.stat().st_size <= LARGEST_FILE_BYTES:
        text = path.read_text("utf-8", errors="replace")
        if _FUNCTION.search(text):
            return Function(path, text)
    return SingleFile(path)


def _called(brought: Brought) -> str:
    match brought:
        case Folder(path):
            return path.resolve().name
        case Archive(path):
            lower = path.name.lower()
            ending = max((ending for ending in _ARCHIVES if lower.endswith(ending)), key=len)
            return path.name[: -len(ending)]
        case SingleFile(path) | Function(path):
            whole = path.resolve()
            return whole.parent.name if whole.stem.lower() in NAMELESS else whole.stem
        case Repository(url):
            return urlsplit(url).path.rstrip("/").rpartition("/")[2].removesuffix(".git")
        case ImageName(reference):
            return re.split(r"[:@]", reference.rpartition("/")[2])[0]
