"""Where a program runs: in bubblewrap, where that is installed and permitted, or plainly.

In bubblewrap it has its own view of files and processes: the system's programs to read, its own folder as `/app`, its
volumes, a `/tmp` and a home of its own; nothing else of the machine, Muelle's home above all. The network is the
machine's. Plainly, it can do what Muelle's own user can do: that is for one tenant only.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from muelle.engines.local import processes

PROBE_SECONDS = 10.0
PARENT_NAMESPACE = 0xB702
"""NS_GET_PARENT, which Python's library does not name."""
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

    def join(self, pid: int, argv: Sequence[str], environment: Mapping[str, str], terminal: bool) -> Joining:
        """The same for a command in a sandbox that is there, known by its first process. Raises OSError.

        A terminal's session has to begin inside: a shell does not know a session whose leader it cannot see.
        """
        meddling = {name: value for name, value in environment.items() if name.startswith(MEDDLING)}
        of_it = f"/proc/{pid}/ns"
        words = [
            self.entering,
            f"--mount={of_it}/mnt",
            f"--uts={of_it}/uts",
            f"--ipc={of_it}/ipc",
            f"--pid={of_it}/pid",
        ]
        held: tuple[int, ...] = ()
        if self.degree:
            # Bubblewrap makes two user namespaces, one in the other: all else belongs to the outer, in which none of
            # its processes is left, and the program is in the inner. They have to be entered in this order.
            outer = _outer_users(f"{of_it}/user")
            held = (outer,)
            words += [f"--user=/proc/{os.getpid()}/fd/{outer}", "--preserve-credentials", "--"]
            words += ["/usr/bin/nsenter", "--user=/proc/1/ns/user", "--preserve-credentials"]
        words += ["--", "/usr/bin/env", *(f"{name}={value}" for name, value in meddling.items())]
        words += ["/usr/bin/setsid", "--ctty", "--wait"] if terminal else []
        words += ["/bin/sh", "-c", 'cd "$0" && exec "$@"', APP, *argv]
        kept = {name: value for name, value in environment.items() if name not in meddling}
        return Joining(tuple(words), kept, held)


@dataclass(frozen=True)
class Joining:
    argv: tuple[str, ...]
    environment: Mapping[str, str]
    held: tuple[int, ...] = ()
    """Files of this process that have to stay open until the command runs."""

    def let_go(self) -> None:
        for file in self.held:
            os.close(file)


def _outer_users(path: str) -> int:
    inner = os.open(path, os.O_RDONLY)
    try:
        outer = fcntl.ioctl(inner, PARENT_NAMESPACE)
    finally:
        os.close(inner)
    os.set_inheritable(outer, False)
    return outer


def find_bubblewrap(users: Path, program: str | None = None) -> Bubblewrap | None:
    """The strictest way in which it works and can be joined; None where it is not installed or not permitted."""
    path = program or shutil.which("bwrap")
    if path is None:
        return None
    entering = shutil.which("nsenter") or ""
    working = None
    for degree in DEGREES:
        found = Bubblewrap(path, degree, users, entering)
        works, joins = _try(found)
        if joins:
            return found
        if works and working is None:
            working = replace(found, entering="")
    return working


def _try(found: Bubblewrap) -> tuple[bool, bool]:
    """Whether a sandbox can be made, and joined: not every kernel lets everybody do either."""
    words = [found.program, *found.degree, *ALONE, "--die-with-parent", *_system(), "--proc", "/proc", "--dev", "/dev"]
    words += ["--dir", APP, "--", "/bin/sh", "-c", "echo here; read _; exit 7"]
    piped = subprocess.PIPE
    try:
        with subprocess.Popen(words, stdin=piped, stdout=piped, stderr=subprocess.DEVNULL, env={}) as probe:  # noqa: S603
            made, joined = _look(probe, found)
            return probe.returncode == 7 and made, joined
    except OSError:
        return False, False


def _look(probe: subprocess.Popen[bytes], found: Bubblewrap) -> tuple[bool, bool]:
    assert probe.stdout is not None  # noqa: S101  # it has both, by what it was started with
    made = probe.stdout.readline() == b"here\n"
    first = processes.inside(probe.pid) if made and found.entering else None
    joined = False
    try:
        if first is not None:
            joined = _joins(found, first)
        probe.communicate(timeout=PROBE_SECONDS)
    except subprocess.TimeoutExpired:
        probe.kill()
    return made, joined


def _joins(found: Bubblewrap, first: int) -> bool:
    try:
        joining = found.join(first, ("/bin/sh", "-c", "exit 8"), {}, terminal=False)
    except OSError:
        return False
    try:
        done = subprocess.run(joining.argv, capture_output=True, timeout=PROBE_SECONDS, check=False, env={})  # noqa: S603
        return done.returncode == 8
    finally:
        joining.let_go()


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
