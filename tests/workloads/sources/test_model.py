"""What a person can bring, as it is kept: the secret apart, and the words for people."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from muelle.engines.protocol import Credentials
from muelle.kit.errors import MuelleError
from muelle.workloads.sources.errors import NameRefused, ReferenceRefused, SourceTooLarge, SourceUnreadable
from muelle.workloads.sources.inline import place
from muelle.workloads.sources.limits import Weight
from muelle.workloads.sources.model import (
    FileSource,
    GitSource,
    ImageSource,
    Source,
    UploadSource,
    check,
    from_json,
    secret,
    to_json,
    with_secret,
)

SOURCES: dict[str, tuple[Source, str]] = {
    "a repository": (
        GitSource("https://github.com/ana/app.git", "main", "web", "s3cret"),
        "github.com/ana/app at main, folder web",
    ),
    "a repository, as it is": (GitSource("https://git.example.com:8443/ana/app"), "git.example.com:8443/ana/app"),
    "an upload": (UploadSource("u1"), "an uploaded archive"),
    "a file": (FileSource("app.py", "print(1)"), "the file app.py"),
    "an image": (ImageSource("ghcr.io/ana/app:2"), "the image ghcr.io/ana/app:2"),
    "a private image": (
        ImageSource("ghcr.io/ana/app", Credentials("ghcr.io", "ana", "s3cret")),
        "the image ghcr.io/ana/app",
    ),
}


@pytest.mark.parametrize(("source", "words"), SOURCES.values(), ids=SOURCES)
def test_a_source_is_kept_without_its_secret_and_comes_back_with_it(source: Source, words: str) -> None:
    check(source)
    kept = json.dumps(to_json(source))
    assert with_secret(from_json(json.loads(kept)), secret(source)) == source
    assert "s3cret" not in kept + repr(source) + source.described
    assert source.described == words


@pytest.mark.parametrize(
    "document", [{}, {"kind": "cvs"}, {"kind": "git"}, {"kind": "git", "url": 3}, {"kind": "file", "name": "a"}]
)
def test_what_is_no_source_is_refused(document: dict[str, object]) -> None:
    with pytest.raises(SourceUnreadable):
        from_json(document)


@pytest.mark.parametrize(
    "reference",
    ["nginx", "nginx:1.27", "ana/app", "ghcr.io/ana/app:2", "localhost:5000/a/b", "a@sha256:" + "0" * 64, "a__b/c-d.e"],
)
def test_names_of_images(reference: str) -> None:
    check(ImageSource(reference))


HOSTILE: dict[str, tuple[Source, type[MuelleError]]] = {
    "no image": (ImageSource(""), ReferenceRefused),
    "an option for an image": (ImageSource("--privileged"), ReferenceRefused),
    "an image with a space": (ImageSource("nginx x"), ReferenceRefused),
    "an image with a line break": (ImageSource("nginx\n"), ReferenceRefused),
    "an image with an address": (ImageSource("https://ghcr.io/ana/app"), ReferenceRefused),
    "an image that leads up": (ImageSource("../../etc"), ReferenceRefused),
    "an image as long as a book": (ImageSource("a" * 10_000), ReferenceRefused),
    "a file elsewhere": (FileSource("../app.py", ""), NameRefused),
    "a file from the root": (FileSource("/etc/passwd", ""), NameRefused),
    "a file that is a folder": (FileSource("..", ""), NameRefused),
    "a file without a name": (FileSource("", ""), NameRefused),
    "a file for git": (FileSource(".git", ""), NameRefused),
    "a file with a line break": (FileSource("app.py\n", ""), NameRefused),
    "a file that is too large": (FileSource("app.py", "é" * 600_000), SourceTooLarge),
    "a file of broken text": (FileSource("app.py", "\udcff"), SourceUnreadable),
    "an upload without an id": (UploadSource(""), SourceUnreadable),
}


@pytest.mark.parametrize(("source", "error"), HOSTILE.values(), ids=HOSTILE)
def test_what_is_hostile_is_refused_at_the_door(source: Source, error: type[MuelleError]) -> None:
    with pytest.raises(error) as caught:
        check(source)
    assert caught.value.message.isprintable()


def test_a_file_is_put_into_a_folder_of_its_own(tmp_path: Path) -> None:
    into = tmp_path / "near" / "source"
    assert place(FileSource("app.py", "año"), into) == Weight(4, 1)
    assert (into / "app.py").read_text("utf-8") == "año"
    with pytest.raises(NameRefused):
        place(FileSource("../app.py", ""), tmp_path / "other")
    assert not (tmp_path / "other").exists()
