"""Names of images, written out in full. Pure.

Docker takes the beginning of an image's id for a name as well. Whoever may name an image could so try "a", "b", "c" …
and run, or build upon, what another owner built; with a tag behind it, a name is never taken for an id.
"""

from __future__ import annotations

import re

from muelle.engines.protocol import ImageMissing

HUB = "docker.io"
LONGEST = 255

_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_PATH = rf"{_PART}(?:/{_PART})*"
_LABEL = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?"
_REFERENCE = re.compile(
    rf"(?:(?P<registry>{_LABEL}(?:\.{_LABEL})*(?::[0-9]+)?)/)?(?P<path>{_PATH})"
    r"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}))?(?:@(?P<digest>sha256:[0-9a-f]{64}))?"
)


def full(reference: str) -> str:
    """`nginx` → `docker.io/library/nginx:latest`. Raises ImageMissing for what is no name of an image.

    >>> full("ghcr.io/ana/shop@sha256:" + 64 * "0").endswith("@sha256:" + 64 * "0")
    True
    """
    match = _REFERENCE.fullmatch(reference) if len(reference) <= LONGEST else None
    registry, path = (match["registry"] or "", match["path"]) if match else ("", "")
    if registry and not _is_host(registry):
        registry, path = "", f"{registry}/{path}"
    if match is None or not re.fullmatch(_PATH, path):
        raise ImageMissing(reference=reference[:LONGEST], reason="that is no name of an image")
    if registry in {"", f"index.{HUB}"}:
        registry = HUB
    if registry == HUB and "/" not in path:
        path = f"library/{path}"
    version = f"@{match['digest']}" if match["digest"] else f":{match['tag'] or 'latest'}"
    return f"{registry}/{path}{version}"


def _is_host(part: str) -> bool:
    """As Docker decides: `ana/shop` is a path, `registry.example/shop` and `localhost/shop` begin with a host."""
    return "." in part or ":" in part or part == "localhost"


def split(reference: str) -> tuple[str, str]:
    """A full reference as what it is fetched from, and its tag or digest."""
    name, at, digest = reference.partition("@")
    if at:
        return name, digest
    name, _, tag = reference.rpartition(":")
    return name, tag
