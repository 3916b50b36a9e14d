"""`muelle exec`, against a server whose engine only pretends, through pipes and at a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.machine import Machine


@pytest.fixture(scope="module")
def pier(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A machine with a server, at which its administrator has logged in, and a workload that runs."""
    machine = Machine(tmp_path_factory.mktemp("pier"), settings={"MUELLE_ENGINE": "fake"})
    machine.settings["MUELLE_SERVER"] = machine.url
    with machine.running() as running:
        email, password = running.first_log_in
        assert machine.run("login", email, "--password-stdin", typed=f"{password}\n").code == 0
        assert machine.run("deploy", "fake/web", "--name", "shop", "-e", "GREETING=hello").code == 0
        yield machine


def test_its_output_and_its_exit_code_are_passed_on(pier: Machine) -> None:
    done = pier.quick("exec", "shop", "--", "sh", "-c", "echo $GREETING; exit 7")
    assert (done.code, done.out, done.err) == (7, "hello\n", "")
    assert pier.quick("exec", "shop", "no-such-program").code == 127


def test_what_comes_from_stdin_goes_in(pier: Machine) -> None:
    done = pier.quick("exec", "shop", "sh", typed="echo one\necho two\nexit 3\n")
    assert (done.code, done.out) == (3, "one\ntwo\n"), done.err


def test_a_terminal_is_passed_on_and_put_back_as_it_was(pier: Machine) -> None:
    terminal = pier.type_at("exec", "shop", "--", "sh", COLUMNS="101", LINES="31", TERM="xterm")
    terminal.until("$ ")
    terminal.type("stty size\n")
    terminal.until("31 101")
    terminal.type("exit 5\n")
    ended = terminal.end()
    assert ended.code == 5, ended.out


def test_ctrl_c_at_a_terminal_is_for_the_command(pier: Machine) -> None:
    terminal = pier.type_at("exec", "shop", "sh", TERM="xterm")
    terminal.until("$ ")
    terminal.type("\x03")
    assert terminal.end().code == 130


def test_what_cannot_be_done_is_told(pier: Machine, tmp_path: Path) -> None:
    assert pier.quick("exec", "shop").code == 2
    unknown = pier.quick("exec", "nobody", "ls")
    assert (unknown.code, unknown.err.splitlines()[0]) == (1, 'muelle: You have no workload "nobody".')
    assert pier.quick("deploy", "fake/web", "--name", "still").code == 0
    assert pier.quick("stop", "still").code == 0
    stopped = pier.quick("exec", "still", "ls")
    assert (stopped.code, "nothing running" in stopped.err) == (1, True), stopped.err
    stranger = Machine(tmp_path, settings={"MUELLE_SERVER": pier.url, "MUELLE_API_KEY": "mk_nonsense"})
    assert stranger.quick("exec", "shop", "ls").code == 1
