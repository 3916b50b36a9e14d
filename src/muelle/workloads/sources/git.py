"""A repository, fetched into a folder: the wanted commit, its submodules, and nothing of git itself.

What is fetched is looked at before it is written: how many files, how large. A repository of a few kilobytes can hold
one folder a billion times.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import threading
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Never, TypeVar

from muelle.engines.protocol import Say
from muelle.kit.errors import MuelleError
from muelle.workloads.sources.addresses import Resolve, resolve_here
from muelle.workloads.sources.errors import (
    NoSuchFolder,
    NoSuchRef,
    ProtocolRefused,
    RepositoryEmpty,
    RepositoryRefused,
    SourceTookTooLong,
    SourceTooLarge,
    SubmodulesFailed,
    shown,
)
from muelle.workloads.sources.gate import Gate
from muelle.workloads.sources.git_command import Done, Git, prepare
from muelle.workloads.sources.git_mishaps import last_words, mishap, server_refuses_commit
from muelle.workloads.sources.limits import SourceLimits, Weight, check_weight, refuse_links_out, weigh
from muelle.workloads.sources.model import GitSource, check
from muelle.workloads.sources.scratch import scratch
from muelle.workloads.sources.words import Repository, repository

LONGEST_SUBJECT = 200
LONGEST_AUTHOR = 100
MOST_KNOWN = 5
BETWEEN_WEIGHINGS_SECONDS = 0.25
_QUIETLY = ("--quiet", "--no-tags", "--no-recurse-submodules", "--no-write-commit-graph", "--force")
LARGEST_ATTRIBUTES_BYTES = 64 * 1024

T = TypeVar("T")


@dataclass(frozen=True)
class Fetched:
    commit: str
    subject: str
    """The first line of what its author says of it."""
    author: str
    bytes: int


async def fetch(
    source: GitSource,
    into: Path,
    *,
    limits: SourceLimits,
    private_hosts: Collection[str],
    say: Say,
    trusted: str = "",
    resolve: Resolve = resolve_here,
) -> Fetched:
    """Puts the source's folder at `into`, which is not there yet; nothing is there when it fails.

    `private_hosts` are the names (or `name:port`) that may lead to this machine or a private network. `trusted` are
    certificates (PEM) that are trusted beside the usual ones. Cancelling ends git at once.
    """
    check(source)
    into.parent.mkdir(parents=True, exist_ok=True)
    try:
        async with asyncio.timeout(limits.seconds), scratch(into) as work:
            async with Gate(private_hosts, limits.bytes, resolve) as gate:
                git = prepare(work / "home", work, gate.url, repository(source.url), source.token, trusted)
                fetching = Fetching(source, work / "tree", limits, gate, git, say)
                commit, subject, author = await fetching.run()
            weight = await asyncio.to_thread(_settle, work / "tree", source.folder, into, limits)
    except TimeoutError:
        raise SourceTookTooLong(seconds=f"{limits.seconds:g}") from None
    return Fetched(commit, subject, author, weight.bytes)


@dataclass(frozen=True)
class Fetching:
    """One repository on its way."""

    source: GitSource
    tree: Path
    limits: SourceLimits
    gate: Gate
    git: Git
    say: Say

    @property
    def _repository(self) -> Repository:
        return repository(self.source.url)

    async def run(self) -> tuple[str, str, str]:
        """The commit with its subject and author, once it is in `tree`."""
        self.say(f"Fetching {self.source.described}")
        self.tree.mkdir()
        await self._there("init", "--quiet", "--template=")
        await self._there("remote", "add", "origin", self._repository.url)
        commit = await self._bring(await self._find())
        about = await self._there("log", "-1", "--no-show-signature", "--format=%s%x00%an", commit)
        subject, _, author = about.output.decode("utf-8", "replace").strip().partition("\0")
        subject, author = _line(subject, LONGEST_SUBJECT), _line(author, LONGEST_AUTHOR)
        self.say(f"Commit {commit[:12]} by {author}: {subject}")
        await self._count(commit)
        await self._watched(self._write(commit))
        return commit, subject, author

    async def _find(self) -> str:
        """The full name of what is wanted, or a commit that no branch or tag needs to have."""
        ref = self.source.ref
        names = [ref, f"refs/heads/{ref}", f"refs/tags/{ref}"] if ref else ["HEAD"]
        listed = await self._there("ls-remote", "--quiet", "origin", *names)
        there = {line.partition("\t")[2] for line in listed.output.decode("utf-8", "replace").splitlines()}
        candidates = names if ref.startswith("refs/") or not ref else names[1:]
        if found := next((name for name in candidates if name in there), ""):
            return found
        if re.fullmatch(r"[0-9a-f]{7,64}", ref):
            return ref
        raise await self._no_such_ref()

    async def _no_such_ref(self) -> MuelleError:
        listed = await self._there("ls-remote", "--quiet", "--heads", "origin")
        names = [line.partition("\trefs/heads/")[2] for line in listed.output.decode("utf-8", "replace").splitlines()]
        if not names:
            return RepositoryEmpty(where=self._repository.shown)
        more = f" and {len(names) - MOST_KNOWN} more" if len(names) > MOST_KNOWN else ""
        known = ", ".join(shown(name) for name in names[:MOST_KNOWN])
        return NoSuchRef(ref=self.source.ref or "HEAD", known=f"Its branches are {known}{more}.")

    async def _bring(self, name: str) -> str:
        """Gets it with as little history as the server allows."""
        if name.startswith("refs/") or name == "HEAD" or len(name) in (40, 64):
            done = await self._there("fetch", *_QUIETLY, "--depth=1", "origin", name, accept=server_refuses_commit)
            if done.status == 0:
                return await self._commit("FETCH_HEAD")
            self.say("The server gives out branches and tags alone: fetching them all to find the commit")
        branches_and_tags = ("+refs/heads/*:refs/remotes/origin/*", "+refs/tags/*:refs/tags/*")
        await self._there("fetch", *_QUIETLY, "origin", *branches_and_tags)
        return await self._commit(name)

    async def _commit(self, name: str) -> str:
        done = await self._there("rev-parse", "--verify", "--quiet", f"{name}^{{commit}}", accept=lambda _: True)
        if done.status != 0:
            raise await self._no_such_ref()
        return done.output.decode().strip()

    async def _count(self, commit: str) -> None:
        """Adds up what would be written, without writing it. Raises SourceTooLarge, TooManyEntries."""
        census = Census(self.limits)
        await self._there("ls-tree", "-r", "-t", "-l", "-z", commit, take=census.take)

    async def _write(self, commit: str) -> None:
        await self._there("checkout", "--quiet", "--detach", "--force", commit)
        if _uses_lfs(self.tree):
            self.say("This repository keeps files with Git LFS: these are not fetched, what is there stands for them")
        if (self.tree / ".gitmodules").is_file():
            self.say("Fetching its submodules")
            await self._submodules()

    async def _submodules(self) -> None:
        update = ("submodule", "--quiet", "update", "--init", "--recursive", "--force", "--jobs=1")
        done = await self._there(*update, "--depth=1", accept=lambda _: self.gate.trouble is None)
        if done.status != 0 and server_refuses_commit(done.complaint):
            self.say("A server gives out branches and tags alone: fetching the submodules with their history")
            await self._there("submodule", "--quiet", "deinit", "--all", "--force")
            await asyncio.to_thread(shutil.rmtree, self.tree / ".git/modules", ignore_errors=True)  # the shallow ones
            done = await self._there(*update, accept=lambda _: self.gate.trouble is None)
        if done.status != 0:
            trouble = self._mishap(done.complaint)
            telling = isinstance(trouble, ProtocolRefused | RepositoryRefused | SourceTooLarge)
            raise trouble if telling else SubmodulesFailed(reason=last_words(done.complaint))

    async def _watched(self, work: Awaitable[T]) -> T:
        """Does it, unless what it writes grows beyond the limits."""
        doing = asyncio.ensure_future(work)
        watching = asyncio.create_task(self._watch())
        try:
            await asyncio.wait((doing, watching), return_when=asyncio.FIRST_COMPLETED)
            return await (watching if watching.done() and not doing.done() else doing)
        finally:
            for task in (doing, watching):
                task.cancel()
            await asyncio.gather(doing, watching, return_exceptions=True)

    async def _watch(self) -> Never:
        stop = threading.Event()
        try:
            while True:
                await asyncio.sleep(BETWEEN_WEIGHINGS_SECONDS)
                await asyncio.to_thread(weigh, self.tree, self.limits, without=(".git",), stop=stop)
        finally:
            stop.set()

    async def _there(
        self, *words: str, accept: Callable[[str], bool] | None = None, take: Callable[[bytes], None] | None = None
    ) -> Done:
        """Runs git in the tree. A failure is raised, unless `accept` takes it for an answer."""
        done = await self.git.run("-C", str(self.tree), *words, take=take)
        if done.status != 0 and not (accept and accept(done.complaint)):
            raise self.gate.trouble or self._mishap(done.complaint)
        return done

    def _mishap(self, complaint: str) -> MuelleError:
        return mishap(complaint, self._repository, with_token=bool(self.source.token), limits=self.limits)


class Census:
    """Counts what `git ls-tree -r -t -l -z` lists, as it comes."""

    def __init__(self, limits: SourceLimits) -> None:
        self._limits = limits
        self._rest = b""
        self._size = self._entries = 0

    def take(self, data: bytes) -> None:
        *records, self._rest = (self._rest + data).split(b"\0")
        for record in records:
            size = record.partition(b"\t")[0].rpartition(b" ")[2]
            self._size += int(size) if size.isdigit() else 0
            self._entries += 1
        check_weight(Weight(self._size, self._entries), self._limits)


def _settle(tree: Path, folder: str, into: Path, limits: SourceLimits) -> Weight:
    """Leaves git's own files behind, looks at what is left, and moves it to where it is wanted."""
    top = os.path.realpath(tree)
    wanted = os.path.realpath(tree / folder)
    if not os.path.isdir(wanted) or not (wanted == top or wanted.startswith(top + os.sep)):
        raise NoSuchFolder(folder=shown(folder))
    _without_git(Path(wanted))
    refuse_links_out(Path(wanted))
    weight = weigh(Path(wanted), limits)
    os.chmod(wanted, 0o755)  # noqa: S103 - a web server may be another user
    os.rename(wanted, into)
    return weight


def _without_git(folder: Path) -> None:
    """A submodule has a file of that name, the repository a folder: history and settings, not to be served."""
    for where, folders, files in os.walk(folder):
        if ".git" in folders:
            folders.remove(".git")
            shutil.rmtree(os.path.join(where, ".git"), ignore_errors=True)
        if ".git" in files:
            os.unlink(os.path.join(where, ".git"))


def _uses_lfs(tree: Path) -> bool:
    attributes = tree / ".gitattributes"
    if attributes.is_symlink() or not attributes.is_file():
        return False
    with attributes.open("rb") as file:
        return b"filter=lfs" in file.read(LARGEST_ATTRIBUTES_BYTES)


def _line(text: str, longest: int) -> str:
    return "".join(letter if letter.isprintable() else " " for letter in text)[:longest].strip()
