"""The ground that other tests stand on: servers are found, started once, shared, told apart, and always ended."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import aio_pika
import asyncpg  # type: ignore[import-untyped]
import pytest

from tests.servers import finding, processes
from tests.servers.postgres import Postgres
from tests.servers.rabbit import Rabbit
from tests.servers.supply import Servers
from tests.waiting import eventually

ROOT = Path(__file__).parents[1]
RUNS_WITHIN_SECONDS = 60.0

# A run on a machine that has nothing, whatever this one has.
BARE = """
from dataclasses import replace
from tests.servers import finding

pytest_plugins = ["tests.servers.plugin"]
for name, kind in finding.KINDS.items():
    finding.KINDS[name] = replace(kind, look=lambda: None)
"""
INSTALLED = 'pytest_plugins = ["tests.servers.plugin"]'

NEEDS_POSTGRES = """
import pytest

@pytest.mark.needs("postgres")
def test_by_mark():
    raise AssertionError("this test must not run")

def test_by_fixture(postgres_url):
    raise AssertionError("this test must not run")
"""
WRITES_THE_SERVERS_DOWN = """
import os, time, pathlib, pytest

@pytest.mark.parametrize("number", [1, 2])
def test_it(servers, postgres_url, number):
    processes = [path.name for path in (servers._run.folder / "processes").iterdir()]
    pathlib.Path(f"{number}.unfinished").write_text(" ".join([str(servers._run.folder), postgres_url, *processes]))
    pathlib.Path(f"{number}.unfinished").rename(f"{number}.seen")
    time.sleep(float(os.environ.get("LASTS_SECONDS", "0")))
"""


def test_a_lacking_server_is_skipped_by_name(tmp_path: Path) -> None:
    run = run_pytest(tmp_path, BARE, NEEDS_POSTGRES)
    assert run.returncode == 0, run.stdout
    assert "needs postgres: no MUELLE_TEST_POSTGRES_URL and no installed postgres" in run.stdout
    assert "SKIPPED [2]" in run.stdout, "mark and fixture share a line of the summary"
    assert "2 skipped" in run.stdout


@pytest.mark.parametrize("required", ["all", "docker, postgres"])
def test_a_lacking_server_that_is_required_is_a_failure(tmp_path: Path, required: str) -> None:
    run = run_pytest(tmp_path, BARE, NEEDS_POSTGRES, MUELLE_TEST_REQUIRE=required)
    assert run.returncode == 1, run.stdout
    assert "needs postgres: no MUELLE_TEST_POSTGRES_URL and no installed postgres" in run.stdout
    assert "2 errors" in run.stdout
    assert "skipped" not in run.stdout


def test_another_server_being_required_changes_nothing(tmp_path: Path) -> None:
    run = run_pytest(tmp_path, BARE, NEEDS_POSTGRES, MUELLE_TEST_REQUIRE="rabbitmq")
    assert run.returncode == 0, run.stdout


def test_requiring_what_is_no_server_is_refused(tmp_path: Path) -> None:
    run = run_pytest(tmp_path, BARE, NEEDS_POSTGRES, MUELLE_TEST_REQUIRE="postgres,oracle")
    assert run.returncode == pytest.ExitCode.USAGE_ERROR
    assert "MUELLE_TEST_REQUIRE names oracle; allowed are all, postgres, rabbitmq" in run.stderr


def test_needing_what_is_no_server_is_refused(tmp_path: Path) -> None:
    run = run_pytest(tmp_path, BARE, NEEDS_POSTGRES.replace('"postgres"', '"oracle"'))
    assert run.returncode == pytest.ExitCode.USAGE_ERROR
    assert "test_by_mark needs oracle, which is no server of ours" in run.stderr


def test_a_server_that_a_setting_points_at_is_used(tmp_path: Path) -> None:
    asks = "def test_it(docker_host): assert docker_host == 'tcp://docker.example'"
    run = run_pytest(tmp_path, BARE, asks, MUELLE_TEST_DOCKER_HOST="tcp://docker.example", MUELLE_TEST_REQUIRE="all")
    assert run.returncode == 0, run.stdout


def test_a_server_that_a_setting_points_at_is_never_killed(tmp_path: Path) -> None:
    asks = "def test_it(own_rabbit): raise AssertionError"
    run = run_pytest(tmp_path, BARE, asks, MUELLE_TEST_RABBIT_URL="amqp://rabbit.example/")
    assert "needs rabbitmq: no installed rabbitmq-server to start one of its own" in run.stdout
    assert run.returncode == 0, run.stdout


@pytest.mark.needs("postgres")
def test_a_server_that_does_not_start_is_a_failure_told_once(tmp_path: Path) -> None:
    broken = f'{INSTALLED}\nfrom tests.servers import postgres\npostgres.SETTINGS["fsync"] = "perhaps"\n'
    run = run_pytest(
        tmp_path, broken, NEEDS_POSTGRES.replace('@pytest.mark.needs("postgres")\n', "").replace("()", "(postgres_url)")
    )
    assert run.returncode == 1, run.stdout
    assert 'parameter "fsync" requires a Boolean value' in run.stdout
    assert "2 errors" in run.stdout


@pytest.mark.needs("postgres")
def test_workers_share_one_server_and_have_a_database_each(tmp_path: Path) -> None:
    run = run_pytest(tmp_path, INSTALLED, WRITES_THE_SERVERS_DOWN, "-n2")
    assert run.returncode == 0, run.stdout
    (folder, url, *pids), (other_folder, other_url, *other_pids) = seen(tmp_path, 1), seen(tmp_path, 2)
    assert folder == other_folder
    assert sorted(pids) == sorted(other_pids)
    assert url.rpartition("/")[0] == other_url.rpartition("/")[0]
    assert url != other_url
    assert_all_gone(folder, pids)


@pytest.mark.needs("postgres")
@pytest.mark.parametrize(
    ("workers", "how"),
    [("-n0", signal.SIGINT), ("-n2", signal.SIGINT), ("-n2", signal.SIGKILL)],
)
def test_servers_end_with_a_run_that_is_ended(tmp_path: Path, workers: str, how: signal.Signals) -> None:
    with start_pytest(tmp_path, INSTALLED, WRITES_THE_SERVERS_DOWN, workers, LASTS_SECONDS="60") as run:
        folder, _, *pids = wait_until_seen(tmp_path, run)
        os.killpg(run.pid, how)  # as a terminal's Ctrl-C does, and those who end a job
        run.communicate(timeout=RUNS_WITHIN_SECONDS)
    assert run.returncode != 0
    assert_all_gone(folder, pids)


async def test_two_databases_know_nothing_of_each_other(postgres_url: str, servers: Servers) -> None:
    with servers.postgres_url() as other_url:
        one, other = await asyncpg.connect(postgres_url), await asyncpg.connect(other_url)
        await one.execute("CREATE TABLE ships (name text)")
        with pytest.raises(asyncpg.UndefinedTableError):
            await other.execute("SELECT * FROM ships")
        await one.close()
    # `other` was left open: its database goes away all the same
    with pytest.raises(asyncpg.InvalidCatalogNameError):
        await asyncpg.connect(other_url)


async def test_a_killed_postgres_starts_again_with_what_was_committed(own_postgres: Postgres) -> None:
    connection = await asyncpg.connect(own_postgres.url)
    await connection.execute("CREATE TABLE ships (name text)")
    await connection.execute("INSERT INTO ships VALUES ('Pinta')")
    own_postgres.kill()
    with pytest.raises(OSError):
        await asyncpg.connect(own_postgres.url)
    own_postgres.start()
    connection = await asyncpg.connect(own_postgres.url)
    assert await connection.fetchval("SELECT name FROM ships") == "Pinta"
    await connection.close()
    own_postgres.stop()
    own_postgres.start()


async def test_a_killed_rabbit_starts_again_with_what_it_had_confirmed(own_rabbit: Rabbit) -> None:
    async with await aio_pika.connect(own_rabbit.url) as connection:
        channel = await connection.channel(publisher_confirms=True)
        await channel.declare_queue("ships", durable=True, arguments={"x-queue-type": "quorum"})
        message = aio_pika.Message(b"Pinta", delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
        await channel.default_exchange.publish(message, "ships")
        await eventually(lambda: own_rabbit.has_written_down("ships"))
        own_rabbit.kill()
    with pytest.raises(OSError):
        await aio_pika.connect(own_rabbit.url)
    own_rabbit.start()
    async with await aio_pika.connect(own_rabbit.url) as connection:
        channel = await connection.channel()
        queue = await channel.declare_queue("ships", durable=True, arguments={"x-queue-type": "quorum"})
        assert (await queue.get()).body == b"Pinta"


async def test_tests_share_a_rabbit_under_names_of_their_own(rabbit_url: str, rabbit_namespace: str) -> None:
    async with await aio_pika.connect(rabbit_url) as connection:
        channel = await connection.channel()
        queue = await channel.declare_queue(f"{rabbit_namespace}.ships", durable=True)
        assert queue.declaration_result.message_count == 0


def test_the_newest_of_several_installed_is_taken(tmp_path: Path) -> None:
    for version in ("9.6", "15", "9.10"):
        (tmp_path / version / "bin").mkdir(parents=True)
        (tmp_path / version / "bin" / "postgres").touch()
    assert finding.newest((f"{tmp_path}/*/bin/postgres",)) == f"{tmp_path}/15/bin/postgres"


def run_pytest(
    folder: Path, conftest: str, tests: str, *arguments: str, **settings: str
) -> subprocess.CompletedProcess[str]:
    """A pytest run of its own, to its end."""
    with start_pytest(folder, conftest, tests, *arguments, **settings) as run:
        output, errors = run.communicate(timeout=RUNS_WITHIN_SECONDS)
    return subprocess.CompletedProcess(run.args, run.returncode, output, errors)


def start_pytest(folder: Path, conftest: str, tests: str, *arguments: str, **settings: str) -> subprocess.Popen[str]:
    (folder / "conftest.py").write_text(conftest)
    (folder / "test_it.py").write_text(tests)
    return subprocess.Popen(
        [sys.executable, "-m", "pytest", f"-c{ROOT / 'pyproject.toml'}", f"--rootdir={folder}", *arguments, folder],
        cwd=folder,
        env=without_settings(os.environ) | settings,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=_heed_ctrl_c,  # noqa: PLW1509 - this process has no threads that matter
    )


def _heed_ctrl_c() -> None:
    """Who runs the tests in the background has it ignored, and so would they."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def without_settings(environment: Mapping[str, str]) -> dict[str, str]:
    """An environment as if no pytest ran and nothing were set."""
    return {name: value for name, value in environment.items() if not name.startswith(("MUELLE_TEST_", "PYTEST_"))}


def wait_until_seen(folder: Path, run: subprocess.Popen[str]) -> list[str]:
    """Until the inner run's first test has written its servers down."""
    while not any(folder.glob("*.seen")):
        try:
            run.wait(0.05)
        except subprocess.TimeoutExpired:
            continue
        pytest.fail(f"the inner run ended too early:\n{run.communicate()[0]}")
    return seen(folder, int(next(folder.glob("*.seen")).stem))


def seen(folder: Path, number: int) -> list[str]:
    return (folder / f"{number}.seen").read_text().split()


def assert_all_gone(run_folder: str, pids: list[str]) -> None:
    assert len(pids) == 2, "a server and the guardian"
    for pid in pids:
        with processes.watched([int(pid)]) as watched:
            assert all(processes.ended(process, RUNS_WITHIN_SECONDS) for process in watched), f"{pid} lives on"
    assert not Path(run_folder).exists()
