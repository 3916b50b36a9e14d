"""What a person can bring: a repository, an upload, one file, or an image. Frozen values, and their JSON.

A secret (a token, a registry's password) is part of the value and of nothing that is written down: it is neither in the
JSON nor in `repr`. The caller seals it apart (`secret`) and puts it back (`with_secret`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from muelle.engines.protocol import Credentials
from muelle.workloads.sources.errors import SourceUnreadable
from muelle.workloads.sources.words import (
    check_file,
    check_folder,
    check_ref,
    check_reference,
    check_token,
    repository,
)


@dataclass(frozen=True)
class GitSource:
    url: str
    ref: str = ""
    """A branch, else a tag, else a commit; empty: what the repository calls its HEAD."""
    folder: str = ""
    token: str = field(default="", repr=False)
    """As most servers take it; `name:token` for one that asks for a certain name."""

    @property
    def described(self) -> str:
        folder = f", folder {self.folder}" if self.folder else ""
        return f"{repository(self.url).shown}{f' at {self.ref}' if self.ref else ''}{folder}"


@dataclass(frozen=True)
class UploadSource:
    upload: str
    """The id of what was uploaded."""

    @property
    def described(self) -> str:
        return "an uploaded archive"


@dataclass(frozen=True)
class FileSource:
    name: str = "app.py"
    text: str = ""

    @property
    def described(self) -> str:
        return f"the file {self.name}"


@dataclass(frozen=True)
class ImageSource:
    reference: str
    credentials: Credentials | None = None

    @property
    def described(self) -> str:
        return f"the image {self.reference}"


Source = GitSource | UploadSource | FileSource | ImageSource


def check(source: Source) -> None:
    """Raises what can be said against it without looking anywhere: for the door, long before it is fetched."""
    match source:
        case GitSource():
            repository(source.url)
            check_ref(source.ref)
            check_folder(source.folder)
            check_token(source.token)
        case FileSource():
            check_file(source.name, source.text)
        case ImageSource():
            check_reference(source.reference)
        case UploadSource():
            if not source.upload:
                raise SourceUnreadable(reason="the upload's id is missing")


def to_json(source: Source) -> dict[str, Any]:
    """Without the secret."""
    match source:
        case GitSource(url, ref, folder):
            return {"kind": "git", "url": url, "ref": ref, "folder": folder}
        case UploadSource(upload):
            return {"kind": "upload", "upload": upload}
        case FileSource(name, text):
            return {"kind": "file", "name": name, "text": text}
        case ImageSource(reference):
            return {"kind": "image", "reference": reference}


def from_json(document: Mapping[str, Any]) -> Source:
    """Raises SourceUnreadable."""
    match document.get("kind"):
        case "git":
            return GitSource(_text(document, "url"), _text(document, "ref", ""), _text(document, "folder", ""))
        case "upload":
            return UploadSource(_text(document, "upload"))
        case "file":
            return FileSource(_text(document, "name"), _text(document, "text"))
        case "image":
            return ImageSource(_text(document, "reference"))
    raise SourceUnreadable(reason="its kind is none of git, upload, file, image")


def secret(source: Source) -> str:
    """What has to be sealed, as a text; empty where there is nothing."""
    match source:
        case GitSource(token=token):
            return token
        case ImageSource(credentials=Credentials(registry, user, password)):
            return json.dumps([registry, user, password])
    return ""


def with_secret(source: Source, text: str) -> Source:
    """The same with the secret that `secret` gave."""
    match source:
        case GitSource():
            return replace(source, token=text)
        case ImageSource():
            return replace(source, credentials=Credentials(*json.loads(text)) if text else None)
    return source


def _text(document: Mapping[str, Any], name: str, default: str | None = None) -> str:
    value = document.get(name, default)
    if not isinstance(value, str):
        raise SourceUnreadable(reason=f"{name} is missing or no text")
    return value
