"""What a person writes to say where something is: looked at before any of it reaches a program or a disk.

The rules are narrow on purpose. git takes what begins with a dash for an option and what has two colons for a program
to run; a shell is nowhere, but a log and a terminal are, so control characters have no place either.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from muelle.workloads.sources.errors import (
    FolderRefused,
    NameRefused,
    PasswordInUrl,
    ReferenceRefused,
    RefRefused,
    SourceTooLarge,
    SourceUnreadable,
    UrlRefused,
    shown,
)

LONGEST_URL = 2048
LONGEST_REF = 250
LONGEST_FOLDER = 500
LONGEST_TOKEN = 4096
LONGEST_NAME = 100
LARGEST_FILE_BYTES = 2**20
LONGEST_REFERENCE = 500

_HOST = re.compile(
    r"(?:[a-z0-9_](?:[a-z0-9_-]*[a-z0-9])?\.)*[a-z0-9](?:[a-z0-9-]*[a-z0-9])?\.?|[0-9a-f:.]*:[0-9a-f:.]*"
)
_PATH = re.compile(r"/[A-Za-z0-9._~!$&'()*+,;=:@%/-]+")
_REF = re.compile(r"[A-Za-z0-9_.@#+=,/-]+")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_SECRET = re.compile(r"[\x21-\x7e]*")
_REFERENCE = re.compile(
    r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?(?::[0-9]{1,5})?/)?"  # a registry
    r"[a-z0-9]+(?:(?:\.|_{1,2}|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_{1,2}|-+)[a-z0-9]+)*)*"
    r"(?::[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(?:@sha256:[0-9a-f]{64})?"
)
_LIKE_A_LOG_IN = re.compile(r"[\w.-]+@([\w.-]+):([\w./~-]+)")


@dataclass(frozen=True)
class Repository:
    """An address of a repository that may be asked."""

    host: str
    port: int
    path: str

    @property
    def origin(self) -> str:
        """As git writes it when it asks for a password."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"https://{host}" if self.port == 443 else f"https://{host}:{self.port}"

    @property
    def url(self) -> str:
        return self.origin + self.path

    @property
    def shown(self) -> str:
        return self.url.removeprefix("https://").removesuffix(".git")


def repository(url: str) -> Repository:
    """What an address means. Raises UrlRefused, PasswordInUrl."""
    if len(url) > LONGEST_URL or not re.fullmatch(r"[\x21-\x7e]+", url):
        raise UrlRefused(
            reason="it is empty, too long, or has spaces, control characters or letters with accents in it"
        )
    if url.startswith("-"):
        raise UrlRefused(reason="it begins with a dash")
    if match := _LIKE_A_LOG_IN.fullmatch(url):
        raise UrlRefused(reason=f"SSH is not used; over https it is https://{match[1]}/{match[2]}")
    try:
        parts = urlsplit(url)
        host, port = (parts.hostname or "").lower(), parts.port or 443
    except ValueError:
        raise UrlRefused(reason="it cannot be read") from None
    _check_parts(parts, host, url)
    return Repository(host, port, parts.path)


def _check_parts(parts: SplitResult, host: str, url: str) -> None:
    if parts.scheme.lower() != "https" or not url[len(parts.scheme) :].startswith("://"):
        raise UrlRefused(reason="it has to begin with https://")
    if "@" in parts.netloc:
        raise PasswordInUrl()
    if not _HOST.fullmatch(host):
        raise UrlRefused(reason="there is no proper host name in it")
    if parts.query or parts.fragment or "?" in url or "#" in url:
        raise UrlRefused(reason="a repository's address has no ? and no #")
    if not _PATH.fullmatch(parts.path) or not parts.path.strip("/") or ".." in parts.path.split("/"):
        raise UrlRefused(reason="there is no proper path in it")


def check_ref(ref: str) -> None:
    """Raises RefRefused. What is left is what git allows in a name, less what has a meaning of its own in a refspec."""
    broken = (
        len(ref) > LONGEST_REF
        or not _REF.fullmatch(ref)
        or ref.startswith(("-", "/", "+"))
        or ref.endswith(("/", ".", ".lock"))
        or any(part.startswith(".") or not part for part in ref.split("/"))
        or ".." in ref
        or "@{" in ref
        or ref == "@"
    )
    if ref and broken:
        raise RefRefused(ref=shown(ref))


def check_folder(folder: str) -> None:
    """Raises FolderRefused."""
    if not folder:
        return
    if len(folder) > LONGEST_FOLDER or not folder.isprintable() or "\\" in folder:
        raise FolderRefused(folder=shown(folder), reason="it is too long, or has characters that have no place in it")
    if folder.startswith(("/", "~")):
        raise FolderRefused(folder=shown(folder), reason="it does not begin in the source")
    if any(part in ("..", ".git") for part in folder.lower().split("/")):
        raise FolderRefused(folder=shown(folder), reason="it leads out of the source")


def check_file(name: str, text: str) -> None:
    """Raises NameRefused, SourceTooLarge."""
    if len(name) > LONGEST_NAME or not _NAME.fullmatch(name):
        raise NameRefused(name=shown(name), reason="letters, digits, dots, dashes and underlines are allowed")
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise SourceUnreadable(reason="its text has broken characters in it") from None
    if size > LARGEST_FILE_BYTES:
        raise SourceTooLarge(limit=LARGEST_FILE_BYTES)


def check_token(token: str) -> None:
    """Raises SourceUnreadable. A line break in it would be a header of its own."""
    if len(token) > LONGEST_TOKEN or not _SECRET.fullmatch(token):
        raise SourceUnreadable(reason="the token has spaces, line breaks or letters with accents in it, or is too long")


def check_reference(reference: str) -> None:
    """Raises ReferenceRefused."""
    if len(reference) > LONGEST_REFERENCE or not _REFERENCE.fullmatch(reference):
        raise ReferenceRefused(reference=shown(reference))
