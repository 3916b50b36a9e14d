"""Fetching from a real git server over TLS."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from muelle.kit.errors import MuelleError
from muelle.workloads.sources.errors import (
    CertificateRefused,
    HostUnreachable,
    NoSuchFolder,
    NoSuchRef,
    RepositoryEmpty,
    RepositoryMissing,
    TokenRefused,
)
from muelle.workloads.sources.git import Fetched
from tests.waiting import eventually
from tests.workloads.sources.fetching import contents, fetched, processes_in
from tests.workloads.sources.git_server import HOST, OTHER, GitServer, resolving


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
