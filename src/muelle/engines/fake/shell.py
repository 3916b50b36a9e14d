"""The few words of a shell that a pretended machine understands: enough for build steps and for a look inside.

`echo` (also to `>&2`, or into a file, which a build keeps), `sleep`, `exit`, `true`, `false`, `printenv`, `env`, `tty`,
`stty size`, `cat` and `sh`; joined by `;`, `&&`, `||` and line ends; `$NAME` is filled in.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, replace

from muelle.engines.protocol import Stream

NOT_FOUND = 127
KILLED = 137
JOINTS = frozenset({";", "&&", "||", "\n"})


@dataclass(frozen=True)
class Say:
    text: str
    stream: Stream = Stream.OUT


@dataclass(frozen=True)
class Pause:
    seconds: float


class Exit(Exception):
    def __init__(self, code: int) -> None:
        self.code = code


@dataclass(frozen=True)
class Write:
    path: str
    text: str
    adds: bool


Play = Generator[Say | Pause | Write, None, int]
"""What happens, one thing after the other; in the end the exit code."""


@dataclass(frozen=True)
class Shell:
    environment: Mapping[str, str]
    terminal: bool = False
    unknown_succeed: bool = False
    """In a build, what we do not understand (`pip install …`) is taken to have gone well."""
    size: tuple[int, int] = (24, 80)

    def run(self, command: Sequence[str]) -> Play:
        """A command as words, of which `sh -c` takes a script."""
        try:
            if len(command) >= 3 and command[0].rpartition("/")[2] in ("sh", "bash") and command[1] in ("-c", "-ec"):
                return (yield from self._script(command[2]))
            return (yield from self._one(list(command)))
        except Exit as exit:
            return exit.code

    def script(self, text: str) -> Play:
        return self.run(("sh", "-c", text))

    def knows(self, word: str) -> bool:
        return word.rpartition("/")[2] in {
            "echo", "sleep", "exit", "true", "false", ":", "printenv", "env", "tty", "stty", "cat", "sh", "bash",
        }  # fmt: skip

    def _script(self, text: str) -> Play:
        code, joint = 0, ";"
        for words, following in commands_of(text):
            if words and not (joint == "&&" and code) and not (joint == "||" and not code):
                code = yield from self._one([self._filled_in(word) for word in words])
            joint = following
        return code

    def _one(self, words: list[str]) -> Play:
        words, goal = redirected(words)
        for said in self._answer(words):
            if isinstance(said, Pause):
                yield said
            elif isinstance(said, int):
                return said
            elif isinstance(goal, Stream):
                yield Say(said, goal)
            else:
                yield replace(goal, text=said + "\n")
        return 0

    def _answer(self, words: list[str]) -> Sequence[str | int | Pause]:
        """What a command prints, how long it takes, and its exit code where that is not 0."""
        answer: Sequence[str | int | Pause] = []
        match words:
            case ["echo", *rest]:
                answer = [" ".join(rest)]
            case ["sleep", seconds]:
                answer = [Pause(float(seconds))]
            case ["exit", *code]:
                raise Exit(int(code[0]) if code else 0)
            case ["false"]:
                answer = [1]
            case ["printenv", name]:
                answer = [self.environment[name]] if name in self.environment else [1]
            case ["printenv" | "env"]:
                answer = [f"{name}={value}" for name, value in sorted(self.environment.items())]
            case ["tty"]:
                answer = ["/dev/pts/0"] if self.terminal else ["not a tty", 1]
            case ["stty", "size"]:
                answer = [f"{self.size[0]} {self.size[1]}"] if self.terminal else [1]
            case [word, *_] if not self.knows(word) and not self.unknown_succeed:
                answer = [f"sh: {word}: not found", NOT_FOUND]
        return answer

    def _filled_in(self, word: str) -> str:
        return re.sub(r"\$(?:\{(\w+)\}|(\w+))", lambda name: self.environment.get(name[1] or name[2], ""), word)


def commands_of(script: str) -> list[tuple[list[str], str]]:
    """Each command's words, and what joins it to the next."""
    reader = shlex.shlex(script, posix=True, punctuation_chars=";&|<>\n")
    reader.whitespace = " \t\r"
    reader.whitespace_split = True
    found: list[tuple[list[str], str]] = []
    words: list[str] = []
    for word in reader:
        joint = word.strip("\n") or "\n"
        if joint in JOINTS:
            found.append((words, joint))
            words = []
        else:
            words.append(word)
    return [*found, (words, ";")]


def redirected(words: list[str]) -> tuple[list[str], Stream | Write]:
    """The words without a redirection, and where the output goes."""
    for place, word in enumerate(words):
        if word in (">", ">>") and place + 1 < len(words):
            return words[:place], Write(words[place + 1], "", adds=word == ">>")
        if word == ">&":
            return words[:place], Stream.ERR
    return words, Stream.OUT


def all_of(play: Play) -> tuple[list[Say], float, int]:
    """What is said in all, how long it takes, and the exit code."""
    said: list[Say] = []
    seconds = 0.0
    while True:
        try:
            event = next(play)
        except StopIteration as end:
            return said, seconds, end.value
        if isinstance(event, Say):
            said.append(event)
        elif isinstance(event, Pause):
            seconds += event.seconds
