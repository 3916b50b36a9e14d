"""Programs outlive Muelle, and are found again by what is on disk."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from muelle.engines.local.keeper import SPEECH
from muelle.engines.local.kept import State
from muelle.engines.protocol import Condition
from tests.engines.local.conftest import Workshop, in_each_manner
from tests.waiting import eventually

COUNTS = "i=0; while :; do i=$((i+1)); echo $i; sleep 0.02; done"
WAITS = "echo ready; while [ ! -e go ]; do sleep 0.01; done; echo gone; exit 7"

ANOTHER_MUELLE = """
import asyncio, sys
from pathlib import Path
from muelle.engines.local import LocalEngine
from muelle.kit.clock import SystemClock

async def main():
    sandboxed, grouped = sys.argv[3] == "sandboxed", sys.argv[3] != "plain"
    engine = LocalEngine(Path(sys.argv[1]), "test", SystemClock(), sandboxed=sandboxed, grouped=grouped)
    await engine.start(sys.argv[2])
    print("started", flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


async def started_by_a_muelle_that_is_killed(workshop: Workshop, script: str) -> str:
    name = await workshop.created(script)
    await workshop.engine.close()
    words = [sys.executable, "-c", ANOTHER_MUELLE, str(workshop.folder / "home"), name, workshop.manner]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as muelle:
        assert muelle.stdout is not None
        assert await asyncio.to_thread(muelle.stdout.readline) == b"started\n"
        muelle.kill()
    workshop.engine = workshop.connect()
    return name


@in_each_manner
async def test_a_program_goes_on_when_muelle_is_killed_and_is_stopped_by_the_next(workshop: Workshop) -> None:
    name = await started_by_a_muelle_that_is_killed(workshop, COUNTS)
    before = await workshop.sighting(name)
    assert before.condition is Condition.RUNNING
    await workshop.printed(name, "20")
    await workshop.engine.stop(name)
    after = await workshop.sighting(name)
    assert (after.condition, after.exit_code, after.started_at) == (Condition.EXITED, 143, before.started_at)
    assert (await workshop.texts(name))[:20] == [str(number) for number in range(1, 21)]


async def test_an_end_while_muelle_was_away_is_seen_with_its_code_and_time(workshop: Workshop) -> None:
    name = await started_by_a_muelle_that_is_killed(workshop, "sleep 0.2; echo last words; exit 9")
    await workshop.engine.close()
    await eventually(lambda: (State.read(workshop.home / "instances" / name) or State("")).ended_at)
    later = workshop.connect()
    sighting = await workshop.sighting(name, later)
    assert (sighting.exit_code, sighting.condition) == (9, Condition.EXITED)
    assert sighting.started_at is not None
    assert sighting.ended_at is not None
    assert 0.1 < (sighting.ended_at - sighting.started_at).total_seconds() < 10
    assert [line.text async for line in later.logs(name)] == ["last words"]


@in_each_manner
async def test_a_program_goes_on_when_its_keeper_is_killed_and_no_word_is_lost(workshop: Workshop) -> None:
    name = await workshop.started(COUNTS)
    await workshop.printed(name, "5")
    workshop.kill_keeper()
    await eventually(lambda: not workshop.keeper())
    workshop.engine = workshop.connect()
    assert (await workshop.sighting(name)).condition is Condition.RUNNING
    await workshop.printed(name, "30")
    await workshop.engine.stop(name)
    texts = await workshop.texts(name)
    assert [text for text in texts if text.isdigit()] == [str(number) for number in range(1, len(texts) + 1)]
    assert (await workshop.sighting(name)).condition is Condition.EXITED


@in_each_manner
async def test_an_end_that_no_keeper_saw_is_seen_without_a_code(workshop: Workshop) -> None:
    name = await workshop.started(WAITS)
    await workshop.printed(name, "ready")
    workshop.kill_keeper()
    await eventually(lambda: not workshop.keeper())
    (workshop.home / "instances" / name / "app" / "go").touch()
    state = State.read(workshop.home / "instances" / name)
    assert state is not None
    await eventually(lambda: not state.identity.alive)
    sighting = await workshop.ended(name)
    assert sighting.exit_code is None
    assert sighting.ended_at is not None


async def test_a_follower_goes_on_with_the_next_keeper(workshop: Workshop) -> None:
    name = await workshop.started(COUNTS)
    seen: list[str] = []

    async def follow() -> None:
        async for line in workshop.engine.logs(name):
            seen.append(line.text)

    following = asyncio.create_task(follow())
    await eventually(lambda: "5" in seen)
    workshop.kill_keeper()
    await eventually(lambda: len(seen) > 40)
    await workshop.engine.stop(name)
    await asyncio.wait_for(following, 10)
    assert seen == [str(number) for number in range(1, len(seen) + 1)]


async def test_a_pid_that_is_anothers_now_is_left_alone(workshop: Workshop) -> None:
    name = await workshop.started(COUNTS)
    workshop.kill_keeper()
    state = State.read(workshop.home / "instances" / name)
    assert state is not None
    os.killpg(state.pid, signal.SIGKILL)
    with subprocess.Popen(["sleep", "60"]) as stranger:
        changed = {**json.loads((workshop.home / "instances" / name / "state.json").read_text()), "pid": stranger.pid}
        (workshop.home / "instances" / name / "state.json").write_text(json.dumps(changed))
        assert (await workshop.sighting(name)).condition is Condition.EXITED
        await workshop.engine.remove(name)
        assert stranger.poll() is None
        stranger.kill()


async def test_after_a_restart_of_the_machine_all_have_ended(workshop: Workshop) -> None:
    name = await workshop.started("sleep 60")
    workshop.kill_keeper()
    path = workshop.home / "instances" / name / "state.json"
    changed = json.loads(path.read_text())
    os.killpg(changed["pid"], signal.SIGKILL)
    path.write_text(json.dumps({**changed, "boot": "another", "pid": os.getpid()}))
    sighting = await workshop.sighting(name)
    assert (sighting.condition, sighting.exit_code) == (Condition.EXITED, None)
    await workshop.engine.start(name)
    assert (await workshop.sighting(name)).condition is Condition.RUNNING


async def test_nothing_stays_when_nothing_runs_and_nobody_is_there(workshop: Workshop) -> None:
    name = await workshop.started("exit 0")
    await workshop.ended(name)
    assert workshop.keeper()
    await workshop.engine.close()
    await eventually(lambda: not workshop.keeper())


async def test_the_keeper_has_nothing_of_our_environment_and_little_of_our_code(workshop: Workshop) -> None:
    await workshop.engine.check()
    keeper = await eventually(workshop.keeper)
    assert Path("/proc", str(keeper), "environ").read_bytes() == b""
    words = "import sys; sys.path.insert(0, sys.argv[1]); import muelle.engines.local.keeper; print(*sys.modules)"
    source = str(Path(sys.modules["muelle"].__file__ or "").parents[1])
    done = subprocess.run([sys.executable, "-I", "-S", "-c", words, source], capture_output=True, text=True, check=True)
    assert not {"asyncio", "muelle.kit", "muelle.engines.protocol", "structlog"} & set(done.stdout.split())


async def test_a_keeper_that_speaks_otherwise_is_replaced_under_running_programs(workshop: Workshop) -> None:
    name = await workshop.started(COUNTS)
    old = workshop.keeper()
    talk = await workshop.engine._link.begin("greet")
    assert await talk.hear() == {"speech": SPEECH, "pid": old}
    talk.say(do="leave")
    assert await talk.hear() is None
    assert (await workshop.sighting(name)).condition is Condition.RUNNING
    await workshop.engine.stop(name)
    assert workshop.keeper() != old


async def test_programs_end_when_their_home_has_been_removed(workshop: Workshop) -> None:
    name = await workshop.started("exec sleep 61.5")
    assert await eventually(lambda: workshop.left("sleep 61.5"))
    workshop.home.rename(workshop.home.with_name("elsewhere"))
    workshop.home.mkdir()
    await eventually(lambda: not workshop.left("sleep 61.5"), 15)
    workshop.home.rmdir()
    workshop.home.with_name("elsewhere").rename(workshop.home)
    assert (await workshop.sighting(name)).condition is Condition.EXITED


@in_each_manner
async def test_an_end_is_told_at_once(workshop: Workshop) -> None:
    name = await workshop.started(WAITS)
    watching = workshop.engine.watch()
    told = asyncio.ensure_future(anext(watching))
    await workshop.printed(name, "ready")
    if workshop.manner == "sandboxed":
        session = await workshop.engine.execute(name, ["touch", "go"])
        await session.exit_code()  # which may be that it ended with the instance
        await session.close()
    else:
        (workshop.home / "instances" / name / "app" / "go").touch()
    before = time.monotonic()
    await workshop.printed(name, "gone")
    assert await asyncio.wait_for(told, 5) == "w"
    assert (await workshop.sighting(name)).exit_code == 7
    assert time.monotonic() - before < 2
    await watching.aclose()  # type: ignore[attr-defined]
