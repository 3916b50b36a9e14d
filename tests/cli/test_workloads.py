"""Commands about workloads, against a server whose engine only pretends."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from signal import SIGINT, SIGKILL
from typing import Any

import pytest

from tests.cli.machine import ENDS_WITHIN_SECONDS, Ended, Machine, Running

COMMANDS = ("deploy", "ps", "logs", "open", "stop", "start", "restart", "releases", "rollback", "history", "rename")
COMMANDS += ("cancel", "rm", "env", "env list", "env set", "env unset")
SLOW_BUILD = "FROM scratch\nRUN sleep 60\n"


@pytest.fixture(scope="module")
def pier(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A machine with a server, at which its administrator has logged in."""
    machine = Machine(tmp_path_factory.mktemp("pier"), settings={"MUELLE_ENGINE": "fake"})
    machine.settings["MUELLE_SERVER"] = machine.url
    with machine.running() as running:
        log_in(machine, running)
        yield machine


def test_each_command_tells_what_it_does(machine: Machine) -> None:
    for words in COMMANDS:
        helped = machine.quick(*words.split(), "--help")
        assert (helped.code, f"Usage: muelle {words} " in helped.out) == (0, True), words


@pytest.mark.parametrize(
    "words",
    [
        ["deploy", "--memory", "lots"],
        ["deploy", "-e", "1=2"],
        ["deploy", "--kind", "boat"],
        ["deploy", "fake/web", "--ref", "main"],
        ["deploy", "https://example.com/a/b", "--token", "NO_SUCH_VARIABLE"],
        ["deploy", "--env-file", "not-there"],
        ["logs", "x", "--since", "yesterday"],
        ["logs", "x", "-n", "0"],
        ["logs", "x", "--build", "--release", "1"],
        ["env", "set", "x"],
        ["rollback", "x", "minus one"],
        ["ps", "x"],
    ],
)
def test_a_wrong_command_line_ends_with_two(pier: Machine, words: list[str]) -> None:
    assert pier.quick(*words).code == 2


def test_from_a_folder_to_a_url_and_through_all_that_can_be_asked_of_it(pier: Machine) -> None:
    site = pier.folder / "Shop Window"
    write(site / "index.html", "<h1>Open</h1>")
    write(site / "node_modules" / "x" / "large.js", "x")
    deployed = pier.quick("deploy", site.name, "-e", "GREETING=hello", "--memory", "64m")
    assert deployed.code == 0, deployed.err
    url = deployed.out.strip()
    assert url.startswith("http://shop-window.admin.localhost")
    assert "1 file" in deployed.err
    assert "built" in deployed.err
    assert "Release 1 serves." in deployed.err
    assert "\x1b" not in deployed.out + deployed.err, "a pipe gets no colours"
    assert pier.quick("open", "shop-window").out == f"{url}\n"

    changed = pier.quick("env", "set", "shop-window", "A=1", "GREETING=bye")
    assert (changed.code, "runs release 2" in changed.out) == (0, True), changed.err
    assert pier.quick("env", "shop-window").out == "A=1\nGREETING=bye\n"
    assert "Nothing has changed." in pier.quick("env", "set", "shop-window", "A=1").err
    back = pier.quick("rollback", "shop-window", "--json")
    assert (back.code, back.json["phase"], back.json["serving"]) == (0, "running", 1), back.err
    assert pier.quick("env", "list", "shop-window", "--json").json == {"GREETING": "hello"}

    listed = pier.quick("releases", "shop-window", "--json").json
    assert [(release["number"], release["verdict"]) for release in listed] == [(2, "good"), (1, "good")]
    assert pier.quick("stop", "shop-window").out == "shop-window is stopped.\n"
    assert one(pier, "shop-window")["phase"] == "stopped"
    assert pier.quick("rename", "shop-window", "shop").out.startswith("shop-window is called shop now")
    started = pier.quick("start", "shop")
    assert (started.code, started.out.startswith("shop runs release 1 at http://shop.")) == (0, True), started.err
    restarted = pier.quick("restart", "shop", "--json")
    assert (restarted.code, restarted.json["phase"]) == (0, "running")
    happened = pier.quick("history", "shop", "-n", "100").out
    assert all(word in happened for word in ("made", "deployed", "switched", "rolled back", "renamed", "restarted"))

    unsure = pier.quick("rm", "shop")
    assert (unsure.code, "--yes" in unsure.err) == (1, True)
    assert pier.quick("rm", "shop", "--yes").out == "shop is deleted.\n"
    gone = pier.quick("stop", "shop")
    assert (gone.code, gone.err.splitlines()[0]) == (1, 'muelle: You have no workload "shop".')


def test_a_bad_release_is_told_with_its_reason_its_last_words_and_what_goes_on_serving(pier: Machine) -> None:
    good = pier.quick("deploy", "fake/web", "--name", "steady", "--json")
    assert (good.code, good.json["workload"]["phase"], good.json["deployment"]["release"]) == (0, "running", 1)
    bad = pier.quick("deploy", "fake/crash", "--name", "steady")
    assert (bad.code, bad.out) == (1, ""), bad.err
    assert "  crashed\n" in bad.err
    assert "muelle: steady: release 2 failed. It ended by itself with exit code 1." in bad.err
    assert "Release 1 goes on serving at http://steady." in bad.err
    unknown = pier.quick("deploy", "missing/image", "--name", "steady")
    assert (unknown.code, "is not to be had" in unknown.err) == (1, True)
    assert "Release 1 goes on serving" in unknown.err

    first = pier.quick("deploy", "fake/exit-7", "--name", "never")
    assert (first.code, "Nothing serves at http://never." in first.err) == (1, True), first.err
    shown = pier.quick("ps").out
    assert [line.split()[:4] for line in shown.splitlines()] == [
        ["NAME", "KIND", "PHASE", "RELEASE"],
        ["never", "container", "failed", "1"],
        ["steady", "container", "running", "1"],
    ]
    assert "exit code 7" in shown
    refused = pier.quick("rollback", "steady", "2")
    assert (refused.code, "Release 2 has failed before" in refused.err) == (1, True)
    late = pier.quick("deploy", "fake/deaf", "--name", "late", "--timeout", "3")
    assert (late.code, "not done within 3 seconds" in late.err, "muelle cancel late" in late.err) == (1, True, True)


def test_the_log_is_asked_for_by_number_text_time_and_release(pier: Machine) -> None:
    assert pier.quick("deploy", "fake/lines-300", "--name", "poet").code == 0
    assert pier.quick("logs", "poet", "-n", "2").out == "line 298\nline 299\n"
    assert len(pier.quick("logs", "poet").out.splitlines()) == 100
    assert len(pier.quick("logs", "poet", "--since", "1h").out.splitlines()) == 301
    assert pier.quick("logs", "poet", "--grep", "LINE 17", "--release", "1", "-n", "1").out == "line 179\n"
    assert pier.quick("logs", "poet", "--release", "2").out == ""
    told = json.loads(pier.quick("logs", "poet", "-n", "1", "--json").out)
    assert (told["text"], told["release"], told["stream"]) == ("line 299", 1, "out")
    assert "#1  line 299\n" in pier.quick("logs", "poet", "-n", "1", "--times").out
    assert pier.quick("logs", "poet", "--build").out.startswith("fetching fake/lines-300")
    with following(pier, "poet", "-n", "1", "--build") as follower:
        assert follower.wait(ENDS_WITHIN_SECONDS) == 0, "a build that is over is followed to its end"


def test_ctrl_c_leaves_a_deployment_alone_and_cancel_does_not(pier: Machine) -> None:
    write(pier.folder / "slow" / "Dockerfile", SLOW_BUILD)
    terminal = pier.type_at("deploy", "slow", TERM="xterm")
    terminal.until("RUN sleep 60")
    terminal.type("\x03")
    ended = terminal.end()
    assert ended.code == 130
    assert "The deployment goes on. `muelle cancel slow` gives it up" in ended.out
    assert one(pier, "slow")["phase"] == "building"
    began = time.monotonic()
    assert pier.quick("cancel", "slow").out == "slow: the deployment is cancelled.\n"
    assert time.monotonic() - began < 10
    again = pier.quick("cancel", "slow")
    assert (again.code, "no deployment under way; the last one was cancelled" in again.err) == (1, True)


def test_a_server_that_goes_away_is_told_and_who_follows_a_log_misses_and_doubles_nothing(machine: Machine) -> None:
    machine.settings |= {"MUELLE_ENGINE": "fake", "MUELLE_SERVER": machine.url}
    write(machine.folder / "slow" / "Dockerfile", SLOW_BUILD)
    with ExitStack() as stack:
        first = stack.enter_context(machine.running())
        log_in(machine, first)
        assert machine.quick("deploy", "fake/chatty", "--name", "talker").code == 0
        follower = stack.enter_context(following(machine, "talker", "-n", "1000"))
        eventually(lambda: len(followed(machine)) > 1000)
        deploying = machine.start("deploy", "slow", "--timeout", "6")
        eventually(lambda: "RUN sleep 60" in deploying.err)
        first.end(SIGKILL)
        assert deploying.process.wait(ENDS_WITHIN_SECONDS) == 1
        assert f"muelle: {machine.url} does not answer any more." in deploying.err
        assert "The deployment goes on." in deploying.err

        second = stack.enter_context(machine.running())
        assert machine.quick("deploy", "fake/chatty", "--name", "talker", "--no-wait").code == 0
        eventually(lambda: followed(machine)[-1]["release"] == 2)
        follower.send_signal(SIGINT)
        assert follower.wait(ENDS_WITHIN_SECONDS) == 130
        seen = [line["cursor"] for line in followed(machine)]
        assert seen == kept(machine, second, seen[0])[: len(seen)]


def log_in(machine: Machine, running: Running) -> None:
    email, password = running.first_log_in
    ended: Ended = machine.quick("login", email, "--password-stdin", typed=f"{password}\n")
    assert ended.code == 0, ended.err


def one(machine: Machine, name: str) -> dict[str, Any]:
    found = [workload for workload in machine.quick("ps", "--json").json if workload["name"] == name]
    assert len(found) == 1
    return dict(found[0])


@contextmanager
def following(machine: Machine, *words: str) -> Iterator[subprocess.Popen[bytes]]:
    with (machine.folder / "followed").open("w") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "muelle", "logs", "-f", "--json", *words],
            env=machine.environment({}),
            cwd=machine.folder,
            stdin=subprocess.DEVNULL,
            stdout=out,
            start_new_session=True,
            preexec_fn=heed_interrupts,  # noqa: PLW1509 - this process has no threads that matter
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def heed_interrupts() -> None:
    import signal

    signal.signal(SIGINT, signal.default_int_handler)  # who runs the tests in the background has it ignored


def followed(machine: Machine) -> list[dict[str, Any]]:
    return [
        json.loads(line)
        for line in (machine.folder / "followed").read_text().splitlines(keepends=True)
        if line[-1] == "\n"
    ]


def kept(machine: Machine, running: Running, first: int) -> list[int]:
    """The cursors of all lines that the server has, from that one on."""
    token = json.loads(machine.session_file.read_text())["access_token"]
    path = f"/api/v1/workloads/{one(machine, 'talker')['id']}/logs"
    found, after = [], first - 1
    while True:
        status, page = running.ask("GET", f"{path}?after={after}&limit=1000", token=token)
        assert status == 200
        found += [line["cursor"] for line in page["items"]]
        if page["next"] is None:
            return found
        after = page["next"]


def eventually(condition: Callable[[], object]) -> None:
    until = time.monotonic() + ENDS_WITHIN_SECONDS
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


def write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
