"""The keeper: one small process for all programs of an installation, that lives as long as one of them runs.

It starts programs and is their parent, so it knows how they end; what they write goes through it into journals of
bounded size; whatever escapes from below them becomes its child. It decides nothing: the engine says what to run, down
to the last argument. It ends by itself when nothing runs and nobody is connected.

When it is killed, programs go on (their words wait in pipes that are files), and the next keeper takes them over.

A conversation is a connection to `keeper.sock`: a line of JSON with the request, and lines back. Nothing but the
standard library, one thread, no blocking but for fractions of a second.
"""

from __future__ import annotations

import fcntl
import heapq
import itertools
import json
import os
import select
import signal
import socket
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from muelle.engines.local import processes
from muelle.engines.local.kept import Kept, KeptInstance, State, refuse
from muelle.engines.local.launch import Kernel, Program, launch

SPEECH = 1
"""Of the words below. An engine that finds a keeper with another one sends it away and starts its own."""
REQUEST_BYTES = 2**20
FILES_HANDED_OVER = 3
CONVERSATIONS = 4096
LOOKS_AT_MEMORY_SECONDS = 0.5
LOOKS_AT_HOME_SECONDS = 5.0
ASKS_AGAIN_SECONDS = 0.02
FIRST_VISIT_SECONDS = 5.0
"""How long a fresh keeper waits for whoever has started it."""


class Conversation:
    def __init__(self, line: socket.socket) -> None:
        self.line = line
        self.heard = b""
        self.files: list[int] = []
        self.watches = False
        self.follows = ""
        self.runs: Kept | None = None

    def say(self, **words: Any) -> None:
        """To somebody who does not listen nothing is said: that the connection is closed tells them to ask anew."""
        try:
            self.line.send(json.dumps(words).encode() + b"\n")
        except OSError:
            with suppress(OSError):
                self.line.shutdown(socket.SHUT_RDWR)

    def nudge(self) -> None:
        """Says that there is more; where nobody has heard the last time yet, that will do."""
        with suppress(OSError):
            self.line.send(b"{}\n")

    def close(self) -> None:
        self.line.close()
        for file in self.files:
            os.close(file)


class Keeper:
    def __init__(self, home: Path, door: socket.socket) -> None:
        self._home = home
        self._door = door
        self._kernel = Kernel()
        self._poll = select.epoll()
        self._instances: dict[str, KeptInstance] = {}
        self._commands: dict[int, Conversation] = {}
        self._conversations: dict[int, Conversation] = {}
        self._on: dict[int, Callable[[], None]] = {}
        self._codes: dict[int, int] = {}
        self._stopping: dict[str, list[Conversation]] = {}
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._turn = itertools.count()
        self._here = os.stat(home).st_ino
        self._leaving = False
        self._stays_until = time.monotonic() + FIRST_VISIT_SECONDS

    def keep(self) -> None:
        self._kernel.adopt_orphans()
        self._hear_of_children()
        self._listen(self._door.fileno(), self._welcome)
        for folder in sorted((self._home / "instances").glob("*/")):
            self._adopt(folder)
        self._look_at_memory()
        self._look_at_home()
        while not self._leaving:
            for file, _ in self._poll.poll(self._until_next()):
                self._act(file)
            self._ring()
            if not (self._instances or self._conversations or self._commands):
                self._leave_unless_somebody_comes()
        with suppress(OSError):
            os.unlink(_socket(self._home))

    # ── who comes, and what they want ──────────────────────────────────────────────────────────────────────────────

    def _welcome(self) -> None:
        with suppress(BlockingIOError):
            line, _ = self._door.accept()
            if len(self._conversations) >= CONVERSATIONS:
                line.close()
                return
            line.setblocking(False)
            conversation = self._conversations[line.fileno()] = Conversation(line)
            self._listen(line.fileno(), lambda: self._hear(conversation))

    def _hear(self, conversation: Conversation) -> None:
        try:
            data, files, _, _ = socket.recv_fds(conversation.line, REQUEST_BYTES, FILES_HANDED_OVER)
        except BlockingIOError:
            return
        except OSError:
            data, files = b"", []
        conversation.files += files
        for file in files:
            os.set_inheritable(file, False)
        conversation.heard += data
        if not data or len(conversation.heard) > REQUEST_BYTES:
            self._part(conversation)
            return
        while b"\n" in conversation.heard:
            request, _, conversation.heard = conversation.heard.partition(b"\n")
            self._do(conversation, json.loads(request))

    def _do(self, conversation: Conversation, request: dict[str, Any]) -> None:
        match request:
            case {"do": "greet"}:
                conversation.say(speech=SPEECH, pid=os.getpid())
            case {"do": "leave"}:
                self._leaving = True
            case {"do": "settle"}:
                for name in list(self._instances):
                    self._instance_over(name)
                conversation.say(done=True)
            case {"do": "watch"}:
                conversation.watches = True
                conversation.say(watching=True)
            case {"do": "follow", "name": name}:
                conversation.follows = name
                conversation.say(runs=name in self._instances)
            case {"do": "changed", "workload": workload}:
                self._tell(workload)
                conversation.say(done=True)
            case _:
                self._do_with_programs(conversation, request)

    def _do_with_programs(self, conversation: Conversation, request: dict[str, Any]) -> None:
        match request:
            case {"do": "start", "name": name, "workload": workload, "program": program}:
                self._start(name, workload, Program.of(program))
                conversation.say(done=True)
            case {"do": "refuse", "name": name, "workload": workload, "reason": reason}:
                if name not in self._instances:
                    refuse(self._home / "instances" / name, workload, reason)
                    self._tell(workload)
                conversation.say(done=True)
            case {"do": "stop", "name": name, "seconds": seconds}:
                self._stop(name, seconds, conversation)
            case {"do": "run", "program": program}:
                self._run(conversation, Program.of(program))
            case {"do": "kill"} if conversation.runs:
                conversation.runs.kill()

    def _part(self, conversation: Conversation) -> None:
        """A command ends with who asked for it; an instance goes on."""
        self._forget(conversation.line.fileno())
        del self._conversations[conversation.line.fileno()]
        conversation.close()
        self._stays_until = 0.0
        if conversation.runs:
            conversation.runs.kill()

    # ── programs ───────────────────────────────────────────────────────────────────────────────────────────────────

    def _start(self, name: str, workload: str, program: Program) -> None:
        if name in self._instances:
            return
        folder = self._home / "instances" / name
        try:
            kept = KeptInstance.start(folder, workload, program, self._kernel)
        except OSError as problem:
            refuse(folder, workload, f"it could not be started: {problem.strerror}")
        else:
            self._keep(name, kept)
        self._tell(workload)

    def _adopt(self, folder: Path) -> None:
        state = State.read(folder)
        if state is None or state.ended_at:
            return
        kept = KeptInstance.adopt(folder, state)
        if kept is not None:
            self._keep(folder.name, kept)

    def _keep(self, name: str, kept: KeptInstance) -> None:
        self._instances[name] = kept
        self._listen(kept.watched, lambda: self._instance_over(name))
        for pipe in kept.pipes:
            self._listen(pipe, lambda pipe=pipe: self._take(name, pipe))  # type: ignore[misc]

    def _take(self, name: str, pipe: int) -> None:
        if self._instances[name].listen(pipe):
            self._nudge(name)

    def _nudge(self, name: str) -> None:
        for conversation in self._conversations.values():
            if conversation.follows == name:
                conversation.nudge()

    def _instance_over(self, name: str) -> None:
        """If it is. An event may be about a file that has been closed since, and whose number is another's now."""
        kept = self._instances[name]
        if not _ready(kept.watched):
            return
        self._reap()
        del self._instances[name]
        for file in (kept.watched, *kept.pipes):
            self._forget(file)
        kept.over(self._codes.pop(kept.pid, None))
        for conversation in self._conversations.values():
            if conversation.follows == name:
                conversation.say(ended=True)
        for conversation in self._stopping.pop(name, ()):
            conversation.say(done=True)
        self._tell(kept.state.workload)

    def _stop(self, name: str, seconds: float, conversation: Conversation) -> None:
        kept = self._instances.get(name)
        if kept is None:
            conversation.say(done=True)
            return
        self._stopping.setdefault(name, []).append(conversation)
        if seconds > 0:
            self._ask(name, kept, time.monotonic() + seconds)
        self._in(max(0.0, seconds), lambda: self._end(name, kept))

    def _ask(self, name: str, kept: KeptInstance, until: float) -> None:
        if self._instances.get(name) is kept and not kept.ask_to_end() and time.monotonic() < until:
            self._in(ASKS_AGAIN_SECONDS, lambda: self._ask(name, kept, until))

    def _end(self, name: str, kept: KeptInstance) -> None:
        if self._instances.get(name) is kept:
            kept.kill()

    def _run(self, conversation: Conversation, program: Program) -> None:
        try:
            launched = launch(program, conversation.files, self._kernel)
        except OSError as problem:
            conversation.say(refused=problem.strerror)
            return
        finally:
            while conversation.files:
                os.close(conversation.files.pop())
        kept = conversation.runs = Kept(program, launched.pid)
        self._commands[launched.pid] = conversation
        self._listen(kept.watched, lambda: self._command_over(conversation, kept))
        reason = launched.open()
        conversation.say(**({"refused": reason} if reason else {"pid": launched.pid}))

    def _command_over(self, conversation: Conversation, kept: Kept) -> None:
        if not _ready(kept.watched):
            return
        self._reap()
        self._forget(kept.watched)
        del self._commands[kept.pid]
        conversation.runs = None
        starved = kept.let_go()
        conversation.say(exit=self._codes.pop(kept.pid, None), out_of_memory=starved)

    # ── the machine ────────────────────────────────────────────────────────────────────────────────────────────────

    def _hear_of_children(self) -> None:
        hears, tells = socket.socketpair()
        for end in (hears, tells):
            end.setblocking(False)
        signal.set_wakeup_fd(tells.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self._listen(hears.fileno(), lambda: self._wake_up(hears))
        self._ears = (hears, tells)

    def _reap(self) -> None:
        """Asks for all that have ended: ours, whose codes are kept until their turn, and orphans that came to us."""
        ours = {kept.pid for kept in self._instances.values()} | set(self._commands)
        with suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    break
                code = os.waitstatus_to_exitcode(status)
                self._codes[pid] = code if code >= 0 else 128 - code
        for stray in self._codes.keys() - ours:
            del self._codes[stray]

    def _tell(self, workload: str) -> None:
        for conversation in self._conversations.values():
            if conversation.watches:
                conversation.say(changed=workload)

    def _look_at_memory(self) -> None:
        self._in(LOOKS_AT_MEMORY_SECONDS, self._look_at_memory)
        commands = [conversation.runs for conversation in self._commands.values() if conversation.runs]
        watched = [kept for kept in (*self._instances.values(), *commands) if kept.program.memory_bytes]
        if watched:
            all = processes.Snapshot()
            for kept in watched:
                kept.see_to_memory(all)

    def _look_at_home(self) -> None:
        """Where the home has been removed, nobody can ever find these programs again: they end."""
        self._in(LOOKS_AT_HOME_SECONDS, self._look_at_home)
        try:
            there = os.stat(self._home).st_ino == self._here
        except OSError:
            there = False
        if not there:
            for kept in self._instances.values():
                kept.kill()
            self._leaving = True

    def _act(self, file: int) -> None:
        """What goes wrong with one must not end all: it is told, and not listened to any more."""
        try:
            if act := self._on.get(file):
                act()
        except Exception:
            traceback.print_exc()
            self._forget(file)

    def _wake_up(self, hears: socket.socket) -> None:
        hears.recv(4096)
        self._reap()

    def _leave_unless_somebody_comes(self) -> None:
        """Takes the name from the door first: who found it before is served, who comes after starts another keeper."""
        if time.monotonic() < self._stays_until:
            return
        name, aside = _socket(self._home), _socket(self._home).with_suffix(".away")
        try:
            os.rename(name, aside)
        except OSError:
            self._leaving = True
            return
        if _ready(self._door.fileno()):
            os.rename(aside, name)
        else:
            os.unlink(aside)
            self._leaving = True

    def _listen(self, file: int, act: Callable[[], None]) -> None:
        self._on[file] = act
        self._poll.register(file, select.EPOLLIN)

    def _forget(self, file: int) -> None:
        if self._on.pop(file, None):
            self._poll.unregister(file)

    def _in(self, seconds: float, act: Callable[[], None]) -> None:
        heapq.heappush(self._timers, (time.monotonic() + seconds, next(self._turn), act))

    def _until_next(self) -> float:
        return max(0.0, self._timers[0][0] - time.monotonic()) if self._timers else -1.0

    def _ring(self) -> None:
        while self._timers and self._timers[0][0] <= time.monotonic():
            heapq.heappop(self._timers)[2]()


def main(home: Path) -> None:
    """Becomes the home's keeper, if it has none. Returns, in the process that called, when it is there."""
    lock = os.open(home / "keeper.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return
    door = _door(home)
    if os.fork():
        return
    os.setsid()
    complaints = os.open(home / "keeper.err", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    nothing = os.open(os.devnull, os.O_RDWR)
    for number, file in enumerate((nothing, nothing, complaints)):
        os.dup2(file, number)
    Keeper(home, door).keep()


def _door(home: Path) -> socket.socket:
    """Reached through the folder, since a socket's path may only be a hundred characters long."""
    folder = os.open(home, os.O_RDONLY | os.O_DIRECTORY)
    fresh = f"/proc/self/fd/{folder}/keeper.fresh"
    with suppress(FileNotFoundError):
        os.unlink(fresh)
    door = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    door.bind(fresh)
    door.listen(CONVERSATIONS)
    door.setblocking(False)
    os.replace(fresh, _socket(home))
    os.close(folder)
    return door


def _socket(home: Path) -> Path:
    return home / "keeper.sock"


def _ready(file: int) -> bool:
    poll = select.poll()
    poll.register(file, select.POLLIN)
    return bool(poll.poll(0))
