"""Fetching for a person, or from a server, that means harm."""

from __future__ import annotations

import asyncio
import os
import stat
import time
from pathlib import Path

import pytest

from muelle.kit.errors import MuelleError
from muelle.workloads.sources.errors import (
    FolderRefused,
    HostRefused,
    LinkOut,
    PasswordInUrl,
    ProtocolRefused,
    RefRefused,
    RepositoryRefused,
    SourceTookTooLong,
    SourceTooLarge,
    SourceUnreadable,
    SubmodulesFailed,
    TooManyEntries,
    UrlRefused,
)
from muelle.workloads.sources.git import fetch
from muelle.workloads.sources.limits import SourceLimits
from muelle.workloads.sources.model import GitSource
from tests.waiting import eventually
from tests.workloads.sources.fetching import LIMITS, contents, fetched, processes_in
from tests.workloads.sources.git_server import HOST, INNER, GitServer, resolving

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


async def test_what_is_fetched_can_be_read_by_all(server: GitServer, into: Path) -> None:
    """A service may keep what it writes to itself, and the web server of an image may be another user."""
    server.make("app", {"a/b": "text"})
    before = os.umask(0o077)
    try:
        await fetched(server, into, "app")
    finally:
        os.umask(before)
    assert [stat.S_IMODE((into / name).stat().st_mode) for name in ("", "a", "a/b")] == [
        0o755,
        0o755,
        0o644,
    ]


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
    assert time.monotonic() - began < 30


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
