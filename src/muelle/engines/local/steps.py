"""Commands of a build: run in the same kind of place as programs, bounded, and said line by line as they go."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from muelle.engines.local import cgroups, processes
from muelle.engines.local.cgroups import BUILD_GROUP, Bounds, Groups
from muelle.engines.local.journal import Lines
from muelle.engines.local.launch import Program
from muelle.engines.local.link import Link, Talk
from muelle.engines.local.sandbox import OWN_PROCESSES, Bubblewrap, Place, base_environment
from muelle.engines.local.tools import Toolset
from muelle.engines.protocol import BuildFailed, BuildOrder, EngineFailed, EngineUnavailable, Say

ENGINE = "local"
STEP_SECONDS = 1800.0
ENDS_WITHIN_SECONDS = 1.5
"""After it was cancelled: a build is to be over within two."""
LAST_WORDS = 3
READ_BYTES = 65_536


@dataclass(frozen=True)
class Site:
    """Where the commands of one build run, and with what."""

    order: BuildOrder
    tools: Toolset
    folder: Path
    """The build's own, with its home, what is `/tmp` to it, and the certificates that it trusts."""
    link: Link
    bubblewrap: Bubblewrap | None
    groups: Groups | None
    say: Say
    environment: Mapping[str, str]
    """The recipe's, that the program will have as well."""

    async def run(self, command: str, app: Path, venv: Path | None, readable: Sequence[Path] = ()) -> None:
        """Runs it in a folder; raises BuildFailed with its last words."""
        self.say(f"$ {command}")
        await self.execute(("/bin/sh", "-c", command), command, app, venv, readable)

    async def execute(
        self, argv: tuple[str, ...], called: str, app: Path, venv: Path | None, readable: Sequence[Path] = ()
    ) -> None:
        last: deque[str] = deque(maxlen=LAST_WORDS)
        program = self._program(argv, app, venv, readable)
        try:
            async with asyncio.timeout(STEP_SECONDS):
                ending = await self._follow(program, last)
        except TimeoutError:
            raise BuildFailed(reason=f"`{called}` took longer than {STEP_SECONDS / 60:.0f} minutes") from None
        if ending.get("out_of_memory"):
            limit = self.order.limits.memory_bytes // 2**20
            raise BuildFailed(reason=f"`{called}` needed more memory than the {limit} MiB that a build may have")
        if ending.get("exit") != 0:
            words = " / ".join(last) or "it said nothing"
            raise BuildFailed(reason=f"`{called}` ended with {ending.get('exit')}: {words}")

    async def _follow(self, program: Program, last: deque[str]) -> dict[str, object]:
        ours, theirs = os.pipe()
        nothing = os.open(os.devnull, os.O_RDONLY)
        try:
            talk = await self.link.begin("run", (nothing, theirs, theirs), program=asdict(program))
        except BaseException:
            os.close(ours)
            raise
        finally:
            os.close(nothing)
            os.close(theirs)
        try:
            if refused := (await talk.hear() or {"refused": "its keeper has ended"}).get("refused"):
                os.close(ours)
                raise EngineFailed(engine=ENGINE, what="run a command of a build", reason=refused)
            return await self._attend(talk, ours, last, program)
        except BaseException:
            await _end(talk)
            raise
        finally:
            talk.close()

    async def _attend(self, talk: Talk, pipe: int, last: deque[str], program: Program) -> dict[str, object]:
        """Says what it says until it has ended. Whatever else may hold its output open is not waited for."""
        telling = asyncio.create_task(self._tell(pipe, last))
        try:
            ending = await talk.hear()
            if ending is None:
                await asyncio.to_thread(_end_orphans, program)
                raise EngineUnavailable(engine=ENGINE, reason="its keeper ended during a build")
            await asyncio.wait([telling], timeout=ENDS_WITHIN_SECONDS)
            return ending
        finally:
            telling.cancel()
            await asyncio.wait([telling])

    async def _tell(self, pipe: int, last: deque[str]) -> None:
        """Says what comes, until nobody can say any more."""
        reader = asyncio.StreamReader()
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(pipe, "rb", 0)
        )
        lines = Lines()
        try:
            while data := await reader.read(READ_BYTES):
                self._say_all(lines.feed(data), last)
            self._say_all(lines.rest(), last)
        finally:
            transport.close()

    def _say_all(self, lines: list[str], last: deque[str]) -> None:
        for line in lines:
            self.say(line)
            if line.strip():
                last.append(line.strip())

    def _program(self, argv: tuple[str, ...], app: Path, venv: Path | None, readable: Sequence[Path]) -> Program:
        programs = ((str(venv / "bin"),) if venv else ()) + self.tools.programs
        place = Place(
            folder=app,
            home=self.folder / "home",
            scratch=self.folder / "tmp",
            readable=(*self.tools.readable, *readable, *self._certificates()),
            writable=(venv.parent,) if venv else (),
            hostname="build",
            lasting=False,
        )
        environment = {
            **base_environment(place, self.bubblewrap is not None, programs),
            **self._trust(),
            **self.environment,
            **self.order.environment,
        }
        return self._bounded(argv, environment, place)

    def _bounded(self, argv: tuple[str, ...], environment: dict[str, str], place: Place) -> Program:
        limits = self.order.limits
        groups: list[str] = []
        if self.groups:
            own = OWN_PROCESSES if self.bubblewrap else 0
            bounds = Bounds(limits.memory_bytes, limits.cpu_millis, limits.pids + own)
            groups = self.groups.make(f"{BUILD_GROUP}{os.getpid()}-{os.urandom(8).hex()}", bounds)
        watched = 0 if self.groups and "memory" in self.groups.folders else limits.memory_bytes
        if self.bubblewrap:
            argv, environment = self.bubblewrap.wrap(argv, environment, place)
        folder = "/" if self.bubblewrap else str(place.folder)
        program = Program(argv, environment, folder, tuple(groups), True, str(self.folder), memory_bytes=watched)
        return replace(program, sandboxed=self.bubblewrap is not None)

    def _certificates(self) -> tuple[Path, ...]:
        return (self.folder / "trusted.pem",) if self.order.trusted else ()

    def _trust(self) -> dict[str, str]:
        """The names by which the usual programs ask for certificates."""
        names = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "PIP_CERT", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO")
        return {name: str(path) for path in self._certificates() for name in (*names, "NODE_EXTRA_CA_CERTS")}


def prepare(folder: Path, trusted: str) -> None:
    """Makes what a build needs beside its source."""
    for name in ("home", "tmp"):
        (folder / name).mkdir()
    if trusted:
        usual = ssl.get_default_verify_paths().cafile
        known = Path(usual).read_text() if usual and os.path.exists(usual) else ""
        (folder / "trusted.pem").write_text(f"{known}\n{trusted}\n")


def _end_orphans(program: Program) -> None:
    """What a keeper has left that was killed."""
    cgroups.end(program.groups)
    processes.end(processes.strays(program.mark))
    cgroups.remove(program.groups)


async def _end(talk: Talk) -> None:
    """Ends the command, and gives it a moment to be gone; closing the talk would end it, too, but tell us nothing."""
    talk.say(do="kill")
    try:
        async with asyncio.timeout(ENDS_WITHIN_SECONDS):
            while (answer := await talk.hear()) is not None and "exit" not in answer:
                pass
    except TimeoutError:
        return
