"""git as a subprocess that knows nothing of this machine: no settings, no hooks, no prompts, one way out.

Each command is a process group of its own and is ended as one, because git does its work in children. What it may be
told by the repository is bounded by what it is told here: https alone, only through the gate, objects checked as they
come in, no filters, memory and the size of a file limited by the kernel.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from muelle.workloads.sources.errors import GitMissing
from muelle.workloads.sources.words import Repository

MEMORY_KIBIBYTES = 4 * 2**20
MOST_OUTPUT_BYTES = 4 * 2**20
MOST_COMPLAINT_BYTES = 32 * 1024
STALLED_SECONDS = 30
STALLED_BYTES_PER_SECOND = 500
BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)
FORGIVEN = (
    "zeroPaddedFilemode",
    "missingSpaceBeforeDate",
    "badTimezone",
    "missingEmail",
    "missingNameBeforeEmail",
    "extraHeaderEntry",
    "nullSha1",
)
"""Flaws of old repositories that harm nobody: without these, well-known ones could not be fetched."""

# git asks "Username for 'https://host': ". It is answered for the very server that the token is for: neither a redirect
# nor a submodule of another one gets to see it, and the token itself is in no argument and in no file.
ASKPASS = """#!/bin/sh
case "$1" in
  "Username for '$MUELLE_GIT_ORIGIN': ") printf '%s\\n' "$MUELLE_GIT_USER" ;;
  "Password for '$MUELLE_GIT_ASKED': ") printf '%s\\n' "$MUELLE_GIT_TOKEN" ;;
  *) exit 1 ;;
esac
"""


@dataclass(frozen=True)
class Done:
    status: int
    output: bytes
    complaint: str


@dataclass(frozen=True)
class Git:
    folder: Path
    """Where commands are run."""
    environment: Mapping[str, str] = field(repr=False)

    async def run(self, *words: str, take: Callable[[bytes], None] | None = None) -> Done:
        """Runs a command to its end; being cancelled, or an error in `take`, ends the whole group at once.

        `take` gets the output as it comes, else it is kept up to a bound.
        """
        # Only a shell can set limits before the program is there, without code of ours between fork and exec. What is
        # fetched is for all to read, whatever is the habit of who started us: a web server may be another user.
        limited = ("/bin/sh", "-c", f'ulimit -v {MEMORY_KIBIBYTES}; umask 022; exec "$@"', "sh", "git", *words)
        process = await asyncio.create_subprocess_exec(
            *limited,
            cwd=self.folder,
            env=dict(self.environment),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        kept = bytearray()
        try:
            assert process.stdout  # noqa: S101 - it is a pipe
            assert process.stderr  # noqa: S101
            complaints = asyncio.create_task(_tail(process.stderr))
            try:
                await _read(process.stdout, take or _keeping(kept))
                complaint = await complaints
            finally:
                complaints.cancel()
            return Done(await process.wait(), bytes(kept), complaint)
        finally:
            await _end(process)


def prepare(home: Path, folder: Path, gate_url: str, repository: Repository, token: str, trusted: str) -> Git:
    """Writes down, in a home of its own, what this git may do, and gives it to be run in `folder`."""
    if not (git := shutil.which("git")):
        raise GitMissing()
    home.mkdir(mode=0o700)
    settings = home / ".gitconfig"
    settings.touch(mode=0o600)
    settings.write_text(_settings(gate_url, repository, _bundle(home, trusted)))
    environment = {
        "PATH": f"{os.path.dirname(git)}:{os.defpath}",
        "HOME": str(home),
        "XDG_CONFIG_HOME": str(home),
        "LC_ALL": "C",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": str(settings),
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_ALLOW_PROTOCOL": "https",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_CEILING_DIRECTORIES": str(home.parent),
    }
    return Git(folder, environment | (_asking(home, repository, token) if token else {"GIT_ASKPASS": "false"}))


def _asking(home: Path, repository: Repository, token: str) -> dict[str, str]:
    user, colon, password = token.partition(":")
    if not colon:
        user, password = ("x-token-auth" if repository.host == "bitbucket.org" else "x-access-token"), token
    program = home / "askpass"
    program.write_text(ASKPASS)
    program.chmod(0o700)
    return {
        "GIT_ASKPASS": str(program),
        "MUELLE_GIT_ORIGIN": repository.origin,
        "MUELLE_GIT_ASKED": repository.origin.replace("https://", f"https://{quote(user, safe='')}@", 1),
        "MUELLE_GIT_USER": user,
        "MUELLE_GIT_TOKEN": password,
    }


def _settings(gate_url: str, repository: Repository, bundle: str) -> str:
    origin = repository.origin
    sections: list[tuple[str, Sequence[tuple[str, str]]]] = [
        ("core", [("hooksPath", "/dev/null"), ("fsmonitor", "false"), ("sshCommand", "false"), ("pager", "cat")]),
        ("core", [("protectNTFS", "true"), ("protectHFS", "true"), ("attributesFile", "/dev/null")]),
        ("core", [("packedGitLimit", "256m"), ("packedGitWindowSize", "32m"), ("bigFileThreshold", "32m")]),
        ("init", [("templateDir", ""), ("defaultBranch", "main")]),
        ("credential", [("helper", ""), ("interactive", "false")]),
        ("protocol", [("allow", "never"), ("version", "2")]),
        ('protocol "https"', [("allow", "always")]),
        ("http", [("proxy", gate_url), ("proxyAuthMethod", "basic"), ("sslVerify", "true"), ("emptyAuth", "false")]),
        ("http", [("lowSpeedLimit", str(STALLED_BYTES_PER_SECOND)), ("lowSpeedTime", str(STALLED_SECONDS))]),
        ("http", [("followRedirects", "initial"), *([("sslCAInfo", bundle)] if bundle else [])]),
        ("transfer", [("fsckObjects", "true"), ("bundleURI", "false")]),
        ('fetch "fsck"', [(flaw, "ignore") for flaw in FORGIVEN]),
        ("fetch", [("fsckObjects", "true"), ("unpackLimit", "1"), ("recurseSubmodules", "false")]),
        ("pack", [("threads", "1")]),
        ("gc", [("auto", "0")]),
        ("maintenance", [("auto", "false")]),
        ("advice", [("detachedHead", "false")]),
        # A submodule is often written down as its owner fetches it, by SSH: on the same server https leads there too.
        (
            f'url "{origin}/"',
            [("insteadOf", f"git@{repository.host}:"), ("insteadOf", f"ssh://git@{repository.host}/")],
        ),
    ]
    lines = [
        f"[{name}]\n" + "".join(f"\t{key} = {_quoted(value)}\n" for key, value in pairs) for name, pairs in sections
    ]
    return "".join(lines)


def _quoted(value: str) -> str:
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _bundle(home: Path, trusted: str) -> str:
    """A file with whom this machine trusts and whom the operator does; empty: git's own choice will do."""
    named = os.environ.get("GIT_SSL_CAINFO") or os.environ.get("SSL_CERT_FILE") or ""
    if not trusted.strip():
        return named
    usual = next((path for path in (named, *BUNDLES, _openssl()) if path and os.path.isfile(path)), "")
    file = home / "trusted.pem"
    file.write_text((Path(usual).read_text() if usual else "") + "\n" + trusted)
    return str(file)


def _openssl() -> str:
    return ssl.get_default_verify_paths().cafile or ""


def _keeping(kept: bytearray) -> Callable[[bytes], None]:
    def take(data: bytes) -> None:
        kept.extend(data[: MOST_OUTPUT_BYTES - len(kept)])

    return take


async def _read(stream: asyncio.StreamReader, take: Callable[[bytes], None]) -> None:
    while data := await stream.read(64 * 1024):
        take(data)


async def _tail(stream: asyncio.StreamReader) -> str:
    """The last of what is written there: the reason stands at the end."""
    kept = b""
    while data := await stream.read(16 * 1024):
        kept = (kept + data)[-MOST_COMPLAINT_BYTES:]
    return kept.decode("utf-8", "replace")


async def _end(process: asyncio.subprocess.Process) -> None:
    """The whole group, also where git itself has ended and a child of it has not."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    await process.wait()
