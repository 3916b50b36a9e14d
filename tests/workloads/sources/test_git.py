"""Fetching from a real git server over TLS, also from one that means harm."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from muelle.kit.errors import MuelleError
from muelle.workloads.sources.errors import (
    CertificateRefused,
    FolderRefused,
    HostRefused,
    HostUnreachable,
    LinkOut,
    NoSuchFolder,
    NoSuchRef,
    PasswordInUrl,
    ProtocolRefused,
    RefRefused,
    RepositoryEmpty,
    RepositoryMissing,
    RepositoryRefused,
    SourceTookTooLong,
    SourceTooLarge,
    SourceUnreadable,
    SubmodulesFailed,
    TokenRefused,
    TooManyEntries,
    UrlRefused,
)
from muelle.workloads.sources.git import Fetched, fetch
from muelle.workloads.sources.limits import SourceLimits
from muelle.workloads.sources.model import GitSource
from tests.waiting import eventually
from tests.workloads.sources.git_server import HOST, INNER, OTHER, GitServer, git_server, resolving

LIMITS = SourceLimits(bytes=20 * 2**20, entries=500, seconds=60)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[GitServer]:
    (tmp_path / "far").mkdir()
    with git_server(tmp_path / "far") as server:
        yield server


@pytest.fixture
def into(tmp_path: Path) -> Path:
    return tmp_path / "near" / "source"


async def fetched(server: GitServer, into: Path, name: str, *, host: str = HOST, **more: Any) -> Fetched:
    words = {key: more.pop(key) for key in ("ref", "folder", "token") if key in more}
    settings: dict[str, Any] = {
        "limits": LIMITS,
        "private_hosts": [HOST, f"{OTHER}:{server.port}"],
        "trusted": server.pem,
        "resolve": resolving(),
        "say": lambda line: None,
    }
    try:
        return await fetch(GitSource(server.url(name, host), **words), into, **(settings | more))
    finally:
        assert [path.name for path in into.parent.iterdir() if path != into] == []
        assert processes_in(into.parent) == []


def processes_in(folder: Path) -> list[str]:
    """Command lines that speak of it, of whatever is still running."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                words = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                if str(folder) in words:
                    found.append(words)
            except OSError:
                continue
    return found


def contents(folder: Path) -> dict[str, str]:
    return {str(file.relative_to(folder)): file.read_text() for file in folder.rglob("*") if file.is_file()}


async def test_a_branch_is_fetched_with_its_commit_and_without_git(server: GitServer, into: Path) -> None:
    made = server.make("app", {"app.py": "print(1)", "lib/a.py": ""}, "Say one\n\nAt length.")
    commit = made.git("rev-parse", "HEAD")
    lines: list[str] = []
    got = await fetched(server, into, "app", say=lines.append)
    assert got == Fetched(commit, "Say one", "Ana", 8)
    assert contents(into) == {"app.py": "print(1)", "lib/a.py": ""}
    assert lines == [f"Fetching {HOST}:{server.port}/app", f"Commit {commit[:12]} by Ana: Say one"]


@pytest.fixture
def history(server: GitServer) -> dict[str, str]:
    """A repository with branches, a tag, and a commit that no name leads to directly. Commits by what they are."""
    made = server.make("app", {"at": "first"}, "First")
    commits = {"first": made.git("rev-parse", "HEAD")}
    commits["second"] = made.commit({"at": "second"})
    made.git("tag", "-a", "v1", "-m", "One")
    commits["main"] = made.commit({"at": "main"})
    made.git("checkout", "--quiet", "-b", "feature/x")
    commits["feature"] = made.commit({"at": "feature"})
    made.git("branch", "v1", commits["first"])
    made.git("checkout", "--quiet", "main")
    return commits


@pytest.mark.parametrize(
    ("ref", "at"),
    [
        ("", "main"),
        ("main", "main"),
        ("feature/x", "feature"),
        ("refs/tags/v1", "second"),
        ("v1", "first"),  # a branch before a tag of that name
        ("refs/heads/feature/x", "feature"),
    ],
)
async def test_branches_and_tags(server: GitServer, into: Path, history: dict[str, str], ref: str, at: str) -> None:
    got = await fetched(server, into, "app", ref=ref)
    assert (got.commit, contents(into)) == (history[at], {"at": at})


@pytest.mark.parametrize("old", [False, True], ids=["gives out any commit", "gives out ends of branches alone"])
@pytest.mark.parametrize("digits", [40, 9])
async def test_a_commit(server: GitServer, into: Path, history: dict[str, str], old: bool, digits: int) -> None:
    server.old = {"app"} if old else set()
    got = await fetched(server, into, "app", ref=history["first"][:digits])
    assert (got.commit, contents(into)) == (history["first"], {"at": "first"})


@pytest.mark.parametrize("ref", ["nothing", "f" * 40, "abcdef12"])
async def test_a_ref_that_is_not_there(server: GitServer, into: Path, history: dict[str, str], ref: str) -> None:
    with pytest.raises(NoSuchRef) as caught:
        await fetched(server, into, "app", ref=ref)
    assert caught.value.advice == "Its branches are feature/x, main, v1."
    assert not into.exists()


async def test_a_repository_without_a_commit(server: GitServer, into: Path) -> None:
    server.root.joinpath("app").mkdir()
    server.make("seed", {"a": ""}).git("init", "--quiet", str(server.root / "app"))
    with pytest.raises(RepositoryEmpty):
        await fetched(server, into, "app")


async def test_a_folder_of_it(server: GitServer, into: Path) -> None:
    server.make("app", {"web/index.html": "hello", "api/app.py": "", "top": ""}, links={"web/home": "index.html"})
    got = await fetched(server, into, "app", folder="web/")
    assert contents(into) == {"index.html": "hello", "home": "hello"}
    assert got.bytes == len("hello") + len("index.html")


@pytest.mark.parametrize("folder", ["nothing", "web/index.html", "out"])
async def test_a_folder_that_is_not_there(server: GitServer, into: Path, folder: str) -> None:
    server.make("app", {"web/index.html": "hello"}, links={"out": "/etc"})
    with pytest.raises(NoSuchFolder):
        await fetched(server, into, "app", folder=folder)


async def test_a_private_repository_needs_its_token(server: GitServer, into: Path, tmp_path: Path) -> None:
    server.make("app", {"a": "private"})
    server.tokens["app"] = "s3cret-token"
    with pytest.raises(RepositoryMissing):
        await fetched(server, into, "app")
    with pytest.raises(TokenRefused):
        await fetched(server, into, "app", token="wrong")
    await fetched(server, into, "app", token="s3cret-token")
    assert contents(into) == {"a": "private"}


async def test_a_token_may_bring_the_name_that_its_server_wants(server: GitServer, into: Path) -> None:
    server.make("app", {"a": ""})
    server.tokens["app"] = "s3cret"
    await fetched(server, into, "app", token="deploy+1:s3cret")


async def test_a_token_is_in_no_argument_no_file_and_no_line(server: GitServer, into: Path, tmp_path: Path) -> None:
    server.make("app", {"a": ""})
    server.tokens["app"] = "s3cret-token"
    server.stalled = {"app"}
    lines: list[str] = []
    going = asyncio.create_task(fetched(server, into, "app", token="s3cret-token", say=lines.append))
    await eventually(server.held.is_set)
    running = processes_in(into.parent)
    written = [file for file in into.parent.rglob("*") if file.is_file() and b"s3cret-token" in file.read_bytes()]
    going.cancel()
    with pytest.raises(asyncio.CancelledError):
        await going
    assert running
    assert "s3cret" not in " ".join((*running, *lines))
    assert written == []


@pytest.mark.parametrize("when", ["before it asks for the token", "after it has got the token"])
async def test_a_token_does_not_follow_a_redirect_to_another_host(server: GitServer, into: Path, when: str) -> None:
    server.make("app", {"a": ""})
    server.tokens["app"] = "s3cret-token"
    server.redirects[f"{HOST}/old"] = server.url("app", OTHER)
    if when.startswith("after"):
        server.tokens["old"] = "s3cret-token"
    with pytest.raises(MuelleError):
        await fetched(server, into, "old", token="s3cret-token")
    assert OTHER in {asked.host for asked in server.asked}
    assert [asked for asked in server.asked if asked.host == OTHER and asked.authorization] == []


async def test_a_repository_that_has_moved_is_followed(server: GitServer, into: Path) -> None:
    server.make("app", {"a": "moved"})
    server.redirects[f"{HOST}/old"] = server.url("app", OTHER)
    await fetched(server, into, "old")
    assert contents(into) == {"a": "moved"}


async def test_a_missing_repository_and_a_failing_server(server: GitServer, into: Path) -> None:
    with pytest.raises(RepositoryMissing):
        await fetched(server, into, "nothing")
    server.statuses["broken"] = 503
    with pytest.raises(HostUnreachable, match="it answers with the error 503"):
        await fetched(server, into, "broken")


async def test_hosts_that_cannot_be_reached(server: GitServer, into: Path) -> None:
    with pytest.raises(HostUnreachable, match="there is no such name"):
        await fetched(server, into, "app", host="nothing.example.test", resolve=resolving())
    server.port = 1
    with pytest.raises(HostUnreachable, match="port 1: "):
        await fetched(server, into, "app")


async def test_a_certificate_has_to_be_trusted(server: GitServer, into: Path) -> None:
    server.make("app", {"a": ""})
    with pytest.raises(CertificateRefused):
        await fetched(server, into, "app", trusted="")


# What a stranger may try, by name: none of it reaches a file or a host that is not theirs.

HOSTILE_URLS = {
    "an option for an address": ("--upload-pack=touch /tmp/pwned", UrlRefused),
    "an option without spaces": ("--upload-pack=touch", UrlRefused),
    "a single dash": ("-oProxyCommand=x", UrlRefused),
    "ext, which runs a program": ("ext::sh", UrlRefused),
    "fd": ("fd::17", UrlRefused),
    "file": ("file:///etc", UrlRefused),
    "a path": ("/etc", UrlRefused),
    "a path that goes up": ("../../secret", UrlRefused),
    "plain http": ("http://github.com/ana/app", UrlRefused),
    "ssh": ("ssh://git@github.com/ana/app", UrlRefused),
    "ssh as scp writes it": ("git@github.com:ana/app.git", UrlRefused),
    "git": ("git://github.com/ana/app", UrlRefused),
    "a helper's prefix": ("https::https://github.com/ana/app", UrlRefused),
    "a password": ("https://ana:pw@github.com/ana/app", PasswordInUrl),
    "a name": ("https://ana@github.com/ana/app", PasswordInUrl),
    "a host hidden behind a name": ("https://github.com@169.254.169.254/ana/app", PasswordInUrl),
    "a host hidden behind a backslash": ("https://github.com\\@169.254.169.254/a", PasswordInUrl),
    "a line break": ("https://github.com/ana/app\nHost: x", UrlRefused),
    "a carriage return": ("https://github.com/a\r/app", UrlRefused),
    "a tab": ("https://git\thub.com/a", UrlRefused),
    "a space": ("https://github.com/ana/app --mirror", UrlRefused),
    "nothing": ("", UrlRefused),
    "no host": ("https:///ana/app", UrlRefused),
    "no path": ("https://github.com/", UrlRefused),
    "a host that begins with a dash": ("https://-oX/ana/app", UrlRefused),
    "a percent in the host": ("https://git%2f.com/ana/app", UrlRefused),
    "a port that is none": ("https://github.com:99999/ana/app", UrlRefused),
    "a query": ("https://github.com/ana/app?x=1", UrlRefused),
    "a fragment": ("https://github.com/ana/app#x", UrlRefused),
    "a bracket left open": ("https://[::1/ana/app", UrlRefused),
    "letters that look alike": ("https://g\u0456thub.com/ana/app", UrlRefused),
    "much too long": ("https://github.com/" + "a" * 3000, UrlRefused),
}


@pytest.mark.parametrize(("url", "error"), HOSTILE_URLS.values(), ids=HOSTILE_URLS)
async def test_a_hostile_address_is_refused(into: Path, url: str, error: type[MuelleError]) -> None:
    with pytest.raises(error):
        await fetch(GitSource(url), into, limits=LIMITS, private_hosts=[], say=lambda line: None)
    assert not into.exists()


HOSTILE_WORDS = {
    "an option for a ref": ({"ref": "--upload-pack=touch"}, RefRefused),
    "a refspec": ({"ref": "main:refs/heads/x"}, RefRefused),
    "a forced refspec": ({"ref": "+main"}, RefRefused),
    "a pattern": ({"ref": "refs/heads/*"}, RefRefused),
    "a range": ({"ref": "a..b"}, RefRefused),
    "a reflog": ({"ref": "main@{1}"}, RefRefused),
    "a line break in a ref": ({"ref": "main\nx"}, RefRefused),
    "a lock for a ref": ({"ref": "main.lock"}, RefRefused),
    "a folder above": ({"folder": "../../etc"}, FolderRefused),
    "a folder from the root": ({"folder": "/etc"}, FolderRefused),
    "git's own folder": ({"folder": ".git/hooks"}, FolderRefused),
    "a folder with a control character": ({"folder": "a\0b"}, FolderRefused),
    "a header in the token": ({"token": "x\r\nHost: y"}, SourceUnreadable),
}


@pytest.mark.parametrize(("words", "error"), HOSTILE_WORDS.values(), ids=HOSTILE_WORDS)
async def test_hostile_words_are_refused(into: Path, words: dict[str, str], error: type[MuelleError]) -> None:
    source = GitSource("https://github.com/ana/app", **words)
    with pytest.raises(error):
        await fetch(source, into, limits=LIMITS, private_hosts=[], say=lambda line: None)


@pytest.mark.parametrize("how", ["a name", "an address", "a number", "the short form", "version 6", "mapped"])
async def test_this_machine_is_not_fetched_from(server: GitServer, into: Path, how: str) -> None:
    host = {
        "a name": "localhost",
        "an address": "127.0.0.1",
        "a number": "2130706433",
        "the short form": "127.1",
        "version 6": "[::1]",
        "mapped": "[::ffff:127.0.0.1]",
    }[how]
    server.make("app", {"a": ""})
    source = GitSource(server.url("app", host))
    with pytest.raises(HostRefused) as caught:
        await fetch(source, into, limits=LIMITS, private_hosts=[], trusted=server.pem, say=lambda line: None)
    assert caught.value.code == "host_refused"
    assert server.asked == []


async def test_the_cloud_metadata_address_is_not_fetched_from(into: Path) -> None:
    source = GitSource("https://169.254.169.254/latest/app")
    with pytest.raises(HostRefused, match="as clouds use for their secrets"):
        await fetch(source, into, limits=LIMITS, private_hosts=[HOST], say=lambda line: None)


async def test_one_address_among_many_is_enough_to_refuse(server: GitServer, into: Path) -> None:
    resolve = resolving(mixed_example_test="93.184.215.14 10.0.0.1")
    with pytest.raises(HostRefused, match=r"10\.0\.0\.1"):
        await fetched(server, into, "app", host="mixed.example.test", resolve=resolve)


async def test_a_redirect_to_a_private_host_is_refused(server: GitServer, into: Path) -> None:
    server.make("app", {"a": ""})
    server.redirects[f"{HOST}/app"] = server.url("app", INNER)
    with pytest.raises(HostRefused, match=INNER):
        await fetched(server, into, "app")
    assert INNER not in {asked.host for asked in server.asked}


@pytest.mark.parametrize("target", ["https://169.254.169.254/latest", "http://169.254.169.254/latest", "file:///etc"])
async def test_a_redirect_to_anything_else_is_refused(server: GitServer, into: Path, target: str) -> None:
    server.redirects[f"{HOST}/app"] = target
    with pytest.raises(MuelleError):
        await fetched(server, into, "app")
    assert not into.exists()


async def test_a_name_that_changes_its_mind_is_judged_at_each_connection(server: GitServer, into: Path) -> None:
    """DNS rebinding: what is judged is the address that is connected to, not what the name meant before."""
    server.make("app", {"a": ""})
    answers = iter(["127.0.0.1", "127.0.0.1", "127.0.0.1"])
    asked: list[str] = []

    async def resolve(host: str, port: int) -> list[str]:
        asked.append(host)
        return [next(answers)]

    with pytest.raises(HostRefused):
        await fetched(server, into, "app", private_hosts=[], resolve=resolve)
    assert server.asked == []
    assert asked == [HOST]


async def test_submodules_come_along_from_the_commit_that_is_wanted(server: GitServer, into: Path) -> None:
    lib = server.make("lib", {"lib.py": "old"})
    old = lib.git("rev-parse", "HEAD")
    lib.commit({"lib.py": "new"})
    deep = server.make("deep", {"deep.txt": "deep"}).git("rev-parse", "HEAD")
    lib_with_deep = lib.commit({}, modules={"deep": ("../deep.git", deep)})
    modules = {"old": (server.url("lib"), old), "vendor/lib": (f"git@{HOST}:lib.git", lib_with_deep)}
    server.make("app", {"a": "a"}, modules=modules)
    server.old = {"lib"}  # which gives out neither commit without its history
    await fetched(server, into, "app")
    got = contents(into)
    assert got.pop(".gitmodules")
    assert got.pop("vendor/lib/.gitmodules")
    assert got == {"a": "a", "old/lib.py": "old", "vendor/lib/lib.py": "new", "vendor/lib/deep/deep.txt": "deep"}


async def test_private_submodules_of_the_same_server_are_fetched_with_the_token(server: GitServer, into: Path) -> None:
    lib = server.make("lib", {"lib.py": "lib"}).git("rev-parse", "HEAD")
    server.make("app", {"a": "a"}, modules={"lib": ("../lib", lib)})
    server.tokens = {"app": "s3cret", "lib": "s3cret"}
    await fetched(server, into, "app", token="s3cret")
    assert (into / "lib/lib.py").read_text() == "lib"


HOSTILE_SUBMODULES = {
    "a private host": (f"https://{INNER}:{{port}}/lib", HostRefused),
    "the metadata address": ("https://169.254.169.254/lib", HostRefused),
    "a program to run": ("ext::touch pwned", MuelleError),
    "a file": ("file:///etc", ProtocolRefused),
    "a path": ("/etc", MuelleError),
    "an option": ("--upload-pack=touch pwned", MuelleError),
    "ssh": ("ssh://git@elsewhere.example.test/lib", ProtocolRefused),
    "plain http": (f"http://{HOST}/lib", ProtocolRefused),
    "one that is not there": ("../nothing", SubmodulesFailed),
}


@pytest.mark.parametrize(("url", "error"), HOSTILE_SUBMODULES.values(), ids=HOSTILE_SUBMODULES)
async def test_a_hostile_submodule_is_refused(
    server: GitServer, into: Path, url: str, error: type[MuelleError]
) -> None:
    server.make("app", {"a": ""}, modules={"lib": (url.replace("{port}", str(server.port)), "f" * 40)})
    with pytest.raises(error):
        await fetched(server, into, "app")
    assert INNER not in {asked.host for asked in server.asked}
    assert not into.exists()


@pytest.mark.parametrize(
    "module",
    [
        '[submodule "../../../x"]\n\tpath = lib\n\turl = ../lib\n',
        '[submodule "lib"]\n\tpath = -oX\n\turl = ../lib\n',
        '[submodule "lib"]\n\tpath = lib\n\turl = ../lib\n\tupdate = !touch pwned\n',
        '[submodule "lib"]\n\tpath = lib\n\turl = -u./payload\n',
    ],
    ids=["a name that leads out", "a path that is an option", "a command for an update", "an option for an address"],
)
async def test_what_git_itself_calls_dangerous_is_refused(server: GitServer, into: Path, module: str) -> None:
    made = server.make("app", {"a": "", ".gitmodules": module})
    made.git("update-index", "--add", "--cacheinfo", f"160000,{'f' * 40},lib")
    made.git("commit", "--quiet", "-m", "lib")
    with pytest.raises(RepositoryRefused):
        await fetched(server, into, "app")


@pytest.mark.parametrize("name", [".git", ".GIT", "..", ".", "a/b"])
async def test_a_tree_with_a_name_that_leads_out_is_refused(server: GitServer, into: Path, name: str) -> None:
    made = server.make("app", {"a": ""})
    blob = made.git("hash-object", "-w", "--stdin", stdin=b"[core]")
    raw = b"100644 " + name.encode() + b"\0" + bytes.fromhex(blob)
    tree = made.git("hash-object", "-t", "tree", "-w", "--literally", "--stdin", stdin=raw)
    made.commit_tree(tree)
    with pytest.raises(RepositoryRefused):
        await fetched(server, into, "app")


@pytest.mark.parametrize(
    "links",
    [
        {"out": "/etc/passwd"},
        {"out": "../../home/trusted.pem"},
        {"here": ".", "out": "here/../x"},
        {"here": ".", "there": "here", "out": "there/./../.."},
        {"out": "nothing/../../x"},
    ],
    ids=["absolute", "above", "above by way of a link", "by way of two links", "by way of what is not there"],
)
async def test_a_link_that_leads_out_is_refused(server: GitServer, into: Path, links: dict[str, str]) -> None:
    server.make("app", {"a": ""}, links=links)
    with pytest.raises(LinkOut, match="out"):
        await fetched(server, into, "app")
    assert not into.exists()


async def test_links_within_are_kept(server: GitServer, into: Path) -> None:
    server.make("app", {"a/b": "text"}, links={"here": "a", "a/up": "../a/b", "dangling": "nothing", "loop": "loop"})
    await fetched(server, into, "app")
    assert os.readlink(into / "a/up") == "../a/b"
    assert (into / "a/up").read_text() == "text"


async def test_filters_and_hooks_of_a_repository_do_nothing(server: GitServer, into: Path, tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    attributes = "*.txt filter=lfs diff=lfs merge=lfs -text\n*.c filter=evil\n"
    hook = f"#!/bin/sh\ntouch {mark}\n"
    settings = f'[filter "evil"]\n\tsmudge = touch {mark}\n'
    pointer = "version https://git-lfs.github.com/spec/v1\n"
    files = {".gitattributes": attributes, "a.txt": pointer, "b.c": "", ".githooks/post-checkout": hook}
    server.make("app", {**files, "hooks/post-checkout": hook, "config": settings, ".gitconfig": settings})
    lines: list[str] = []
    await fetched(server, into, "app", say=lines.append)
    assert (into / "a.txt").read_text() == pointer
    assert not mark.exists()
    assert any("Git LFS" in line for line in lines)


async def test_a_repository_of_a_billion_files_is_refused_before_they_are_written(
    server: GitServer, into: Path
) -> None:
    made = server.make("app", {"a": ""})
    inner = made.git("hash-object", "-w", "--stdin", stdin=b"boom")
    kind = "100644 blob"
    for _ in range(10):
        inner = made.git("mktree", stdin="".join(f"{kind} {inner}\td{n}\n" for n in range(10)).encode())
        kind = "040000 tree"
    made.commit_tree(inner)
    began = time.monotonic()
    with pytest.raises(TooManyEntries):
        await fetched(server, into, "app")
    assert time.monotonic() - began < 10


async def test_files_that_are_large_when_unpacked_are_refused_before_they_are_written(
    server: GitServer, into: Path
) -> None:
    server.make("app", {"zeros": bytes(21 * 2**20)})
    with pytest.raises(SourceTooLarge):
        await fetched(server, into, "app")


async def test_a_download_that_is_too_large_is_cut_off(server: GitServer, into: Path) -> None:
    server.make("app", {"noise": os.urandom(5 * 2**20)})
    with pytest.raises(SourceTooLarge):
        await fetched(server, into, "app", limits=SourceLimits(2**20, 100, 60))


async def test_a_large_submodule_counts(server: GitServer, into: Path) -> None:
    lib = server.make("lib", {f"{n}/file": "x" for n in range(300)}).git("rev-parse", "HEAD")
    server.make("app", {"a": ""}, modules={"one": ("../lib", lib)})
    with pytest.raises(TooManyEntries):
        await fetched(server, into, "app", limits=SourceLimits(2**20, 300, 60))


async def test_a_server_that_hangs_is_given_up(server: GitServer, into: Path) -> None:
    server.make("app", {"a": ""})
    server.stalled = {"app"}
    with pytest.raises(SourceTookTooLong):
        await fetched(server, into, "app", limits=SourceLimits(2**20, 100, 1.0))
    assert not into.exists()


async def test_cancelling_ends_git_and_all_that_it_started(server: GitServer, into: Path) -> None:
    server.make("app", {"a": ""})
    server.stalled = {"app"}
    going = asyncio.create_task(fetched(server, into, "app"))
    await eventually(server.held.is_set)
    assert len(processes_in(into.parent)) >= 1
    began = time.monotonic()
    going.cancel()
    with pytest.raises(asyncio.CancelledError):
        await going
    assert time.monotonic() - began < 2
    assert processes_in(into.parent) == []


async def test_two_fetches_do_not_meet(server: GitServer, into: Path) -> None:
    server.make("one", {"a": "1"})
    server.make("two", {"a": "2"})
    nothing = {"private_hosts": [HOST], "limits": LIMITS, "trusted": server.pem, "resolve": resolving()}
    both = [GitSource(server.url(name)) for name in ("one", "two")]
    places = [into.with_name(name) for name in ("one", "two")]
    await asyncio.gather(
        *(fetch(source, place, say=lambda line: None, **nothing) for source, place in zip(both, places, strict=True))  # type: ignore[arg-type]
    )
    assert [(place / "a").read_text() for place in places] == ["1", "2"]
