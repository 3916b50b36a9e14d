"""Where a program runs: in bubblewrap, where that is installed and permitted, or plainly.

In bubblewrap it has its own view of files and processes: the system's programs to read, its own folder as `/app`, its
volumes, a `/tmp` and a home of its own; nothing else of the machine, Muelle's home above all. The network is the
machine's. Plainly, it can do what Muelle's own user can do: that is for one tenant only.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

PROBE_SECONDS = 10.0
OWN_PROCESSES = 2
"""Bubblewrap's, in each sandbox: they are not the program's."""
APP, HOME = "/app", "/home/app"
USER, GROUP = 1000, 1000
SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
SETTINGS = (
    *("alternatives", "ca-certificates", "ca-certificates.conf", "crypto-policies", "ld.so.cache", "ld.so.conf"),
    *("ld.so.conf.d", "localtime", "mime.types", "nsswitch.conf", "pki", "protocols", "resolv.conf", "services", "ssl"),
    *("php", "hosts", "gai.conf", "timezone"),
)
"""What of /etc a program may see."""
RESERVED = ("/app", "/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/etc", "/proc", "/dev", "/sys")
USERS = f"root:x:0:0:root:/root:/bin/sh\napp:x:{USER}:{GROUP}::{HOME}:/bin/sh\n"
GROUPS = f"root:x:0:\napp:x:{GROUP}:\n"
ALONE = (
    "--unshare-pid",
    "--unshare-ipc",
    "--unshare-uts",
    "--unshare-cgroup-try",
    "--new-session",
    "--cap-drop",
    "ALL",
)
AS_NOBODY = ("--unshare-user", "--uid", str(USER), "--gid", str(GROUP))
MEDDLING = ("LD_", "GLIBC_", "MALLOC_", "GCONV_", "LOCPATH", "NLSPATH", "TZDIR")
"""Variables that change the code of what is started: they must not reach bubblewrap itself, which is outside."""
DEGREES = ((*AS_NOBODY, "--disable-userns"), AS_NOBODY, ())
"""From the strictest on; older versions and some machines have not all of them."""


@dataclass(frozen=True)
class Place:
    """What a program finds, by its path on this machine."""

    folder: Path
    """The program's own, where it is started."""
    home: Path
    scratch: Path
    """What is `/tmp` to it."""
    readable: tuple[Path, ...] = ()
    """Seen under the same paths."""
    writable: tuple[Path, ...] = ()
    volumes: Mapping[str, Path] = field(default_factory=dict)
    """By where they are seen."""
    hostname: str = "app"
    folder_writable: bool = True
    lasting: bool = True
    """Whether what runs here goes on when the keeper dies."""

    @property
    def ending(self) -> tuple[str, ...]:
        return () if self.lasting else ("--die-with-parent",)


@dataclass(frozen=True)
class Bubblewrap:
    program: str
    degree: tuple[str, ...]
    users: Path
    """A folder with `passwd` and `group`, instead of the machine's."""
    entering: str = ""
    """The program that joins a sandbox; nothing where there is none."""

    def wrap(
        self, argv: Sequence[str], environment: Mapping[str, str], place: Place
    ) -> tuple[tuple[str, ...], dict[str, str]]:
        """The command line and the environment to start it with: secrets are not in the first, which all can see."""
        meddling = {name: value for name, value in environment.items() if name.startswith(MEDDLING)}
        words = [self.program, *self.degree, *ALONE, *place.ending, "--hostname", place.hostname[:64], *_system()]
        words += ["--ro-bind", str(self.users / "passwd"), "/etc/passwd"]
        words += ["--ro-bind", str(self.users / "group"), "/etc/group"]
        words += ["--proc", "/proc", "--dev", "/dev", *_bound(place)]
        for name, value in meddling.items():
            words += ["--setenv", name, value]
        words += ["--chdir", APP, "--", *argv]
        return tuple(words), {name: value for name, value in environment.items() if name not in meddling}

    def join(
        self, pid: int, argv: Sequence[str], environment: Mapping[str, str], terminal: bool
    ) -> tuple[tuple[str, ...], dict[str, str]]:
        """The same for a command in a sandbox that is there, known by its first process.

        A terminal's session has to begin inside: a shell does not know a session whose leader it cannot see.
        """
        meddling = {name: value for name, value in environment.items() if name.startswith(MEDDLING)}
        user = ("--user", "--preserve-credentials") if self.degree else ()
        words = [self.entering, "--target", str(pid), *user, "--mount", "--uts", "--ipc", "--pid", "--"]
        words += ["/usr/bin/env", *(f"{name}={value}" for name, value in meddling.items())]
        words += ["/usr/bin/setsid", "--ctty", "--wait"] if terminal else []
        words += ["/bin/sh", "-c", 'cd "$0" && exec "$@"', APP, *argv]
        return tuple(words), {name: value for name, value in environment.items() if name not in meddling}


def find_bubblewrap(users: Path, program: str | None = None) -> Bubblewrap | None:
    """The strictest way in which it works; None where it is not installed or not permitted."""
    path = program or shutil.which("bwrap")
    if path is None:
        return None
    for degree in DEGREES:
        found = Bubblewrap(path, degree, users, shutil.which("nsenter") or "")
        words = [path, *degree, *ALONE, *_system(), "--proc", "/proc", "--dev", "/dev", "--", "/bin/sh", "-c", "exit 7"]
        try:
            done = subprocess.run(words, capture_output=True, timeout=PROBE_SECONDS, check=False, env={})  # noqa: S603
        except (OSError, subprocess.TimeoutExpired):
            return None
        if done.returncode == 7:
            return found
    return None


def write_users(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    (folder / "passwd").write_text(USERS)
    (folder / "group").write_text(GROUPS)


def base_environment(place: Place, sandboxed: bool, programs: Sequence[str]) -> dict[str, str]:
    """What every program has. Nothing of ours."""
    usual = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")
    return {
        "PATH": ":".join(dict.fromkeys((*programs, *usual))),
        "HOME": HOME if sandboxed else str(place.home),
        "LANG": "C.UTF-8",
    }


def find_program(name: str, path: str, folder: Path) -> str | None:
    """Where a command's program is, on this machine; None where it is not."""
    if "/" not in name:
        return shutil.which(name, path=path)
    seen = name.removeprefix(f"{APP}/") if name.startswith(f"{APP}/") else name
    return shutil.which(str(folder / seen))


def _system() -> list[str]:
    words = []
    for name in SYSTEM:
        if os.path.islink(name):
            words += ["--symlink", os.readlink(name), name]
        elif os.path.isdir(name):
            words += ["--ro-bind", name, name]
    for name in SETTINGS:
        words += ["--ro-bind-try", f"/etc/{name}", f"/etc/{name}"]
    return words


def _bound(place: Place) -> list[str]:
    words = ["--bind", str(place.scratch), "/tmp", "--bind", str(place.home), HOME]  # noqa: S108  # its own /tmp
    words += ["--bind" if place.folder_writable else "--ro-bind", str(place.folder), APP]
    for path in place.readable:
        if not path.is_relative_to("/usr"):
            words += ["--ro-bind", str(path), str(path)]
    for path in place.writable:
        words += ["--bind", str(path), str(path)]
    for where, path in sorted(place.volumes.items()):
        words += ["--bind", str(path), where]
    return words
