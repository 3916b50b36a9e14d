"""What `muelle deploy` takes from its command line and from a folder, looked at without a server."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest
import typer

from muelle.cli import packing, showing, wanted
from muelle.cli.brought import (
    Archive,
    Folder,
    Function,
    ImageName,
    NoNameIn,
    NotThere,
    NotToBeDeployed,
    Repository,
    SingleFile,
    recognised,
    usual_kind,
    usual_name,
)
from muelle.cli.ignoring import ignored_by
from muelle.cli.listening import Told, parsed
from muelle.cli.packing import Packing, archive_pieces, file_packing, folder_packing
from muelle.kit.errors import MuelleError
from muelle.workloads.sources.errors import PasswordInUrl
from muelle.workloads.sources.limits import SourceLimits

FUNCTION = "import json\n\ndef microservicio(request):\n    return {}\n"


def test_a_folder_is_packed_without_what_a_build_makes_anew(tmp_path: Path) -> None:
    lay(
        tmp_path, "app.py", "web/index.html", ".git/config", "web/node_modules/x/y.js", ".venv/a", "a/__pycache__/b.pyc"
    )
    lay(tmp_path, "own/pyvenv.cfg", "own/lib/x.py")
    (tmp_path / "run.sh").write_text("#!/bin/sh\n")
    (tmp_path / "run.sh").chmod(0o755)
    (tmp_path / "link").symlink_to("web/index.html")
    os.mkfifo(tmp_path / "pipe")
    with unpacked(folder_packing(tmp_path)) as archive:
        names = [name.removeprefix("source").removeprefix("/") for name in archive.getnames()]
        assert names == ["", "a", "app.py", "link", "own", "run.sh", "web", "web/index.html"]
        assert archive.getmember("source/run.sh").mode == 0o755
        assert archive.getmember("source/link").linkname == "web/index.html"
        content = archive.extractfile("source/app.py")
        assert content is not None
        assert content.read() == b"app.py"


def test_one_folder_in_a_folder_stays_one(tmp_path: Path) -> None:
    """A server takes a single folder at the top off, as archives of repositories have one."""
    lay(tmp_path, "public/index.html")
    with unpacked(folder_packing(tmp_path)) as archive:
        assert {name.partition("/")[0] for name in archive.getnames()} == {"source"}


def test_a_long_name_and_a_large_file_arrive_whole(tmp_path: Path) -> None:
    name, content = "é" * 100 + ".bin", os.urandom(3 * packing.PIECE_BYTES + 7)
    (tmp_path / name).write_bytes(content)
    for packed in (folder_packing(tmp_path), file_packing(tmp_path / name)):
        with unpacked(packed) as archive:
            found = archive.extractfile(f"source/{name}")
            assert found is not None
            assert found.read() == content


@pytest.mark.parametrize(
    ("text", "from_the_top", "out", "stays"),
    [
        ("*.log\n# no\n\n", False, ["a.log", "x/b.log"], ["a.logs", "# no"]),
        ("/build", False, ["build", "build/x"], ["x/build"]),
        ("data/", False, ["data/x", "y/data/x"], ["data"]),
        ("*.md\n!README.md", False, ["x.md"], ["README.md", "sub/README.md"]),
        ("docs/**/*.png", False, ["docs/a.png", "docs/x/y/a.png"], ["a.png"]),
        ("file[0-9].txt\nx?z", False, ["file1.txt", "xyz"], ["filea.txt", "xz", "x/z"]),
        ("*.log", True, ["a.log"], ["x/b.log"]),
        ("**/*.log", True, ["a.log", "x/b.log"], ["x"]),
        ("*\n!src/app.py", True, ["other", "src/b.py"], ["src/app.py", "Dockerfile"]),
        ("", False, ["x/node_modules", ".git"], ["x"]),
    ],
)
def test_what_stays_at_home_can_be_told(text: str, from_the_top: bool, out: list[str], stays: list[str]) -> None:
    ignored = ignored_by(text, from_the_top=from_the_top)
    assert [path for path in out if not ignored(path, False)] == []
    assert [path for path in stays if ignored(path, False)] == []


def test_our_own_file_of_patterns_goes_before_dockers(tmp_path: Path) -> None:
    lay(tmp_path, "keep/a.txt", "keep/b.txt", "other.txt")
    (tmp_path / ".dockerignore").write_text("*\n!keep/a.txt\n")
    assert names(folder_packing(tmp_path)) == [".dockerignore", "keep/a.txt"]
    (tmp_path / ".muelleignore").write_text("keep/\n")
    assert names(folder_packing(tmp_path)) == [".dockerignore", ".muelleignore", "other.txt"]


def test_what_cannot_be_sent_is_told_before_anything_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MuelleError, match="nothing to deploy"):
        folder_packing(tmp_path)
    lay(tmp_path, "small.txt", "data/large.bin", "data/other.bin")
    (tmp_path / "data" / "large.bin").write_bytes(bytes(5000))
    monkeypatch.setattr(packing, "LARGEST_BYTES", 4000)
    with pytest.raises(MuelleError, match=r"more than 3\.9 KiB.*data/large\.bin"):
        folder_packing(tmp_path)
    monkeypatch.setattr(packing, "LARGEST_BYTES", 40_000)
    monkeypatch.setattr(packing, "MOST_ENTRIES", 2)
    with pytest.raises(MuelleError, match="most of them in: data"):
        folder_packing(tmp_path)
    monkeypatch.setattr(packing, "LARGEST_UPLOAD_BYTES", 1000)
    with pytest.raises(MuelleError, match="the largest upload"):
        list(archive_pieces(tmp_path / "data" / "large.bin"))


@pytest.mark.parametrize("target", ["/etc/passwd", "../outside", "a/../../outside"])
def test_a_link_out_of_the_folder_is_refused(tmp_path: Path, target: str) -> None:
    lay(tmp_path, "in/a/x", "outside")
    (tmp_path / "in" / "link").symlink_to(target)
    with pytest.raises(MuelleError, match="leads out"):
        folder_packing(tmp_path / "in")


def test_the_bounds_are_those_of_the_server() -> None:
    from muelle.workloads import uploads

    assert (SourceLimits().bytes, SourceLimits().entries) == (packing.LARGEST_BYTES, packing.MOST_ENTRIES)
    assert packing.LARGEST_UPLOAD_BYTES == uploads.LARGEST_BYTES


def test_what_is_there_is_a_path_and_the_rest_is_told_by_its_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    lay(tmp_path, "Shop Window/app.py", "tool.py", "broken.zip", "nginx")
    (tmp_path / "fn.py").write_text(FUNCTION)
    with tarfile.open(tmp_path / "source.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "tool.py", "tool.py")
    found = {
        "Shop Window": (Folder(Path("Shop Window")), "shop-window", "service"),
        "Shop Window/app.py": (SingleFile(Path("Shop Window/app.py")), "shop-window", "container"),
        "tool.py": (SingleFile(Path("tool.py")), "tool", "container"),
        "fn.py": (Function(Path("fn.py"), FUNCTION), "fn", "container"),
        "broken.zip": (Archive(Path("broken.zip")), "broken", "service"),
        "source.tar.gz": (Archive(Path("source.tar.gz")), "source", "service"),
        "nginx": (SingleFile(Path("nginx")), "nginx", "container"),
        "nginx:alpine": (ImageName("nginx:alpine"), "nginx", "container"),
        "ghcr.io/ana/Shop".lower(): (ImageName("ghcr.io/ana/shop"), "shop", "container"),
        "https://example.com/ana/My_App.git": (Repository("https://example.com/ana/My_App.git"), "my-app", "project"),
    }
    for text, (brought, name, kind) in found.items():
        assert (recognised(text), usual_name(recognised(text)), usual_kind(recognised(text))) == (brought, name, kind)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("./no", NotThere),
        ("no.zip", NotThere),
        ("", NotThere),
        ("No Such", NotToBeDeployed),
        ("https://ana:secret@example.com/x", PasswordInUrl),
        ("http://example.com/x", MuelleError),
        ("git@example.com:ana/x.git", MuelleError),
        ("file:///etc", MuelleError),
    ],
)
def test_what_is_nothing_is_told(text: str, problem: type[MuelleError]) -> None:
    with pytest.raises(problem):
        recognised(text)
    with pytest.raises(NoNameIn):
        usual_name(Folder(Path("/")))


def test_options_are_taken_as_people_write_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [wanted.mib(text) for text in ("512", "512m", "0.5g", "2GiB", "524288k")] == [512, 512, 512, 2048, 512]
    assert [wanted.millis(text) for text in ("0.5", "500m", "2", ".25")] == [500, 500, 2000, 250]
    assert wanted.volume("data:/srv/data") == ("data", "/srv/data")
    assert [wanted.seconds_ago(text) for text in ("30s", "10m", "2h", "1d")] == [30, 600, 7200, 86_400]
    monkeypatch.setenv("FROM_HERE", "secret")
    assert wanted.variables(["A=1=2", "B=", "FROM_HERE"]) == {"A": "1=2", "B": "", "FROM_HERE": "secret"}
    file = tmp_path / ".env"
    file.write_text("# words\n\nA=1\nexport B='two words'\n C = \"x\"\n")
    assert wanted.variables_of_file(file) == {"A": "1", "B": "two words", "C": "x"}


@pytest.mark.parametrize(
    ("take", "text"),
    [
        (wanted.mib, "lots"),
        (wanted.mib, "-1"),
        (wanted.millis, "half"),
        (wanted.volume, "data"),
        (wanted.volume, "data:relative"),
        (wanted.seconds_ago, "yesterday"),
        (lambda text: wanted.variables([text]), "NOT_SET_ANYWHERE_HERE"),
        (lambda text: wanted.variables([text]), "1A=x"),
    ],
)
def test_an_option_that_cannot_be_meant_is_a_wrong_command_line(take: object, text: str) -> None:
    assert callable(take)
    with pytest.raises(typer.BadParameter):
        take(text)


def test_a_change_of_one_limit_or_volume_keeps_the_others() -> None:
    present = {"cpu_millis": 250, "memory_mib": 64, "volumes": [{"name": "a", "path": "/a"}]}
    options = wanted.Options(memory_mib=128, volumes=(("b", "/b"),))
    assert options.needs_present
    assert options.body(present) == {
        "limits": {"cpu_millis": 250, "memory_mib": 128},
        "volumes": [{"name": "a", "path": "/a"}, {"name": "b", "path": "/b"}],
    }
    assert wanted.Options(port=0).body() == {"port": 0}


def test_a_stream_is_cut_into_events_where_its_sender_ended_lines_and_nowhere_else() -> None:
    text = "a\u2028b\u0085c"
    sent = f'retry: 1\n\n: all is well\n\nid: 7\nevent: line\ndata: {{"text":"{text}"}}\n\nid: 8\nevent: li'.encode()
    for size in (1, 3, 1000):
        pieces = [sent[start : start + size] for start in range(0, len(sent), size)]
        assert [told for told in parsed(pieces) if told] == [Told("line", {"text": text}, "7")]


def test_what_a_program_writes_does_not_steer_a_terminal() -> None:
    written = "\x1b[31mred\x1b[0m \x1b]0;title\x07\x1b[2J\ttab\r"
    assert showing.harmless(written, Screen()) == "\x1b[31mred\x1b[0m ]0;title[2J\ttab\x1b[0m"
    assert showing.harmless(written, io.StringIO()) == written
    rows = [["a\x1b[2J", "b\nc"], ["longer", ""]]
    assert showing.table(("X", "Y"), rows).splitlines() == ["X       Y", "a [2J   b c", "longer"]


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


def lay(folder: Path, *files: str) -> None:
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)


def names(packed: Packing) -> list[str]:
    return [entry.name for entry in packed.entries if not entry.file.is_dir()]


def unpacked(packed: Packing) -> tarfile.TarFile:
    return tarfile.open(fileobj=io.BytesIO(b"".join(packed.pieces())), mode="r:gz")
