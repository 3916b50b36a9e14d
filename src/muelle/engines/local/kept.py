"""A program that the keeper keeps: started, listened to, ended with all that belongs to it, and written down.

`Kept` is any program; `KeptInstance` is one whose life is recorded in its folder (`state.json`) and whose words go to
its journal. An instance may be one that an earlier keeper started: then nobody can say with what code it ended.
Nothing but the standard library.
"""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from muelle.engines.local import cgroups, processes
from muelle.engines.local.files import read_json, write_json
from muelle.engines.local.journal import Journal
from muelle.engines.local.launch import CANNOT_START, Kernel, Launched, Program, launch
from muelle.engines.local.processes import Identity, identity

STATE_FILE = "state.json"
PIPES = {"out": "out.pipe", "err": "err.pipe"}
PIPE_READ_BYTES = 65_536
KILLED = 128 + signal.SIGKILL
SWEEPS = 50
BETWEEN_SWEEPS_SECONDS = 0.01


def micros() -> int:
    return time.time_ns() // 1000


@dataclass(frozen=True)
class State:
    """What is known of an instance's latest run, as it is on disk."""

    workload: str
    pid: int = 0
    started: int = 0
    boot: str = ""
    started_at: int = 0
    ended_at: int = 0
    exit_code: int | None = None
    out_of_memory: bool = False
    reason: str = ""
    groups: tuple[str, ...] = ()
    sandboxed: bool = False
    memory_bytes: int = 0

    @property
    def identity(self) -> Identity:
        return Identity(self.pid, self.started, self.boot)

    @classmethod
    def read(cls, folder: Path) -> State | None:
        value = read_json(folder / STATE_FILE)
        return None if value is None else cls(**{**value, "groups": tuple(value["groups"])})

    def write(self, folder: Path) -> None:
        write_json(folder / STATE_FILE, asdict(self), outlasts_power=False)


class Kept:
    """A program that runs."""

    def __init__(self, program: Program, pid: int) -> None:
        self.program = program
        self.pid = pid
        self.watched = os.pidfd_open(pid)
        self.past_memory = False

    def ask_to_end(self) -> bool:
        """False where it is not yet there to be asked."""
        leader = processes.inside(self.pid) if self.program.sandboxed else self.pid
        if leader is None:
            return False
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(leader, signal.SIGTERM)
            return True
        return False

    def kill(self) -> None:
        """Everything that belongs to it: what is in its group, or below it, or bears its mark."""
        if not self._grouped:
            processes.end(self._others())  # before their leader, without which they would no longer be below it
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        self._sweep()

    def _sweep(self) -> None:
        if self._grouped:
            cgroups.end(self.program.groups)
            return
        for _ in range(SWEEPS):
            left = set(self._others())
            if not left:
                return
            processes.end(left)
            time.sleep(BETWEEN_SWEEPS_SECONDS)

    def see_to_memory(self, all: processes.Snapshot) -> None:
        if self.program.memory_bytes and all.memory_of(self.pid) > self.program.memory_bytes:
            self.past_memory = True
            self.kill()

    @property
    def _grouped(self) -> bool:
        return self.program.owns_groups and bool(self.program.groups)

    def let_go(self) -> bool:
        """After its end: ends what it left behind. Returns whether memory was what it died of."""
        self._sweep()
        os.close(self.watched)
        if not self.program.owns_groups:
            return self.past_memory
        starved = self.past_memory or cgroups.killed_for_memory(self.program.groups)
        cgroups.remove(self.program.groups)
        return starved

    def _others(self) -> list[int]:
        left = processes.below(self.pid)
        if self.program.mark and not self.program.groups:
            left += [pid for pid in processes.strays(self.program.mark) if processes.started(pid)]
        return left


class KeptInstance(Kept):
    def __init__(self, folder: Path, state: State, program: Program) -> None:
        super().__init__(program, state.pid)
        self.folder = folder
        self.state = state
        self._journal = Journal(folder)
        self.pipes = {_open_pipe(folder, stream): stream for stream in PIPES}

    @classmethod
    def start(cls, folder: Path, workload: str, program: Program, kernel: Kernel) -> KeptInstance:
        """Raises OSError, with which it is written down that it could not be started."""
        for name in PIPES.values():
            with suppress(FileExistsError):
                os.mkfifo(folder / name, 0o600)
        launched = _launch(folder, program, kernel)
        try:
            state = _begun(workload, program, launched.pid)
            state.write(folder)
            kept = cls(folder, state, program)
        except OSError:
            launched.give_up()
            raise
        if reason := launched.open():
            kept.state = replace(state, reason=reason)
        return kept

    @classmethod
    def adopt(cls, folder: Path, state: State) -> KeptInstance | None:
        """One that an earlier keeper has started; None if it has ended meanwhile, which is then written down."""
        program = Program((), {}, "", state.groups, True, str(folder), state.sandboxed, state.memory_bytes)
        try:
            kept = cls(folder, state, program)
        except ProcessLookupError:
            kept = None
        if kept is not None and state.identity.alive:
            return kept
        _ended_unseen(folder, state, program)
        return None

    def listen(self, pipe: int) -> bool:
        """Takes what has come; whether there was anything."""
        try:
            data = os.read(pipe, PIPE_READ_BYTES)
        except BlockingIOError:
            return False
        self._journal.take(self.pipes[pipe], data, micros())
        return bool(data)

    def over(self, code: int | None) -> None:
        """Writes down how it has ended, after its last words."""
        starved = self.let_go()
        for pipe in self.pipes:
            while self.listen(pipe):
                pass
            os.close(pipe)
        self._journal.close(micros())
        code = CANNOT_START if self.state.reason else code
        out_of_memory = starved and code != 0
        replace(self.state, ended_at=micros(), exit_code=code, out_of_memory=out_of_memory).write(self.folder)


def _launch(folder: Path, program: Program, kernel: Kernel) -> Launched:
    files = [os.open("/dev/null", os.O_RDONLY)]
    try:
        # Open for reading, too: thus it never has nobody at the other end, not even while there is no keeper.
        files += [os.open(folder / name, os.O_RDWR) for name in PIPES.values()]
        return launch(program, files, kernel)
    finally:
        for file in files:
            os.close(file)


def _begun(workload: str, program: Program, pid: int) -> State:
    one = identity(pid)
    return State(
        workload,
        one.pid,
        one.started,
        one.boot,
        micros(),
        groups=program.groups,
        sandboxed=program.sandboxed,
        memory_bytes=program.memory_bytes,
    )


def _open_pipe(folder: Path, stream: str) -> int:
    return os.open(folder / PIPES[stream], os.O_RDWR | os.O_NONBLOCK)


def _ended_unseen(folder: Path, state: State, program: Program) -> None:
    """While there was no keeper: when and with what code, nobody knows. Another run of the machine ended it all."""
    same_run = state.boot == processes.boot()
    if same_run:
        cgroups.end(program.groups)
        processes.end(processes.strays(program.mark))
        cgroups.remove(program.groups)
    ended_at = micros() if same_run else max(state.started_at, int(processes.booted_at() * 1_000_000))
    replace(state, ended_at=ended_at).write(folder)


def refuse(folder: Path, workload: str, reason: str) -> None:
    """Writes down an instance that could not be started at all."""
    now = micros()
    State(workload, started_at=now, ended_at=now, exit_code=CANNOT_START, reason=reason).write(folder)
