"""`muelle up`, from the first start to a power cut."""

from __future__ import annotations

import socket
import sqlite3
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from signal import SIGINT, SIGKILL, SIGTERM, Signals

import pytest
from sqlalchemy import create_engine
from sqlalchemy.exc import OperationalError

from muelle.cli.mishaps import as_ours
from muelle.kit.home import Holder, HomeLock, HomeTaken, HomeUnusable, holders_of
from tests.cli.machine import Machine, Running

STOPS_WITHIN_SECONDS = 5.0
ANA = {"email": "ana@example.com", "password": "correct horse", "name": "Ana"}


def test_a_first_start_says_where_it_listens_what_it_found_and_how_to_get_in(
    shared_machine: Machine, server: Running
) -> None:
    for told in (
        f"Listening  {shared_machine.url}",
        "Engine     plain processes",
        f"Database   SQLite, a file per room in {shared_machine.home}",
        f"Data       {shared_machine.home}",
        "First log-in, shown only this once",
        f"muelle login admin@localhost --server {shared_machine.url}",
        "muelle doctor",
    ):
        assert told in server.out
    status, tokens = server.log_in(*server.first_log_in)
    assert (status, tokens["account"]["role"]) == (200, "admin")


def test_what_it_keeps_is_for_its_owner_alone(shared_machine: Machine, server: Running) -> None:
    kept = [shared_machine.home, *shared_machine.home.iterdir()]
    assert {oct(stat.S_IMODE(path.stat().st_mode) & 0o077) for path in kept} == {"0o0"}


def test_a_second_start_on_the_same_home_is_refused_by_name_and_pid(shared_machine: Machine, server: Running) -> None:
    refused = shared_machine.run("up")
    assert refused.code == 1
    assert f"muelle up (process {server.process.pid}) already works in {shared_machine.home}" in refused.err
    assert f"kill {server.process.pid}" in refused.err
    assert "MUELLE_HOME" in refused.err
    assert refused.out == ""


def test_a_taken_port_is_told_with_the_name_of_its_setting(machine: Machine, server: Running) -> None:
    refused = machine.quick("up", MUELLE_PORT=str(server.port))
    assert refused.code == 1
    assert f"127.0.0.1:{server.port}" in refused.err
    assert "MUELLE_PORT" in refused.err
    with machine.running():  # and nothing of the failed start is in the way
        pass


@pytest.mark.parametrize("how", [SIGTERM, SIGINT], ids=["SIGTERM", "Ctrl-C"])
def test_it_ends_in_time_with_a_request_in_flight_and_everything_written(machine: Machine, how: Signals) -> None:
    with machine.running() as running:
        status, tokens = running.ask("POST", "/api/v1/auth/signup", ANA)
        assert status == 201
        with an_open_connection(running), a_request_in_flight(running) as asking:
            code, seconds = running.end(how)
            answer = asking.recv(4096)
        assert code == 0
        assert seconds < STOPS_WITHIN_SECONDS
        assert answer.startswith(b"HTTP/1.1 503")
        assert [event["event"] for event in running.events if event["logger"] == "muelle"] == ["started", "stopped"]
        assert not [event for event in running.events if event["level"] == "info" and "uvicorn" in event["logger"]]
    with sqlite3.connect(machine.home / "identity.db") as database:
        kept = database.execute("SELECT id FROM accounts WHERE email = 'ana@example.com'").fetchall()
    assert kept == [(tokens["account"]["id"],)]


def test_after_a_power_cut_it_starts_again_and_shows_no_password_again(machine: Machine) -> None:
    with machine.running() as first:
        password = first.first_log_in[1]
        assert first.ask("POST", "/api/v1/auth/signup", ANA)[0] == 201
        first.end(SIGKILL)
    with machine.running() as again:
        assert "First log-in" not in again.out
        assert password not in again.out + again.err
        assert again.log_in("admin@localhost", password)[0] == 200
        assert again.log_in(ANA["email"], ANA["password"])[0] == 200


def test_it_does_not_start_with_wrong_settings_and_names_each(machine: Machine) -> None:
    machine.home.mkdir(mode=0o700)
    (machine.home / "muelle.toml").write_text('signup = "maybe"\nhots = "0.0.0.0"\n')
    refused = machine.run("up", MUELLE_PROT="1", MUELLE_LOG_LEVEL="loud", MUELLE_SECRET_KEY="too short")
    assert refused.code == 1
    for told in (
        "MUELLE_PROT is not a setting. Did you mean MUELLE_PORT?",
        f"hots in {machine.home}/muelle.toml is not a setting. Did you mean host?",
        f"signup in {machine.home}/muelle.toml: input should be 'open' or 'closed'.",
        "MUELLE_LOG_LEVEL: input should be 'debug', 'info', 'warning' or 'error'.",
        "MUELLE_SECRET_KEY: must have 32 characters or more, or be empty.",
        "muelle config docs",
    ):
        assert told in refused.err
    assert "too short" not in refused.err
    assert [path.name for path in machine.home.iterdir()] == ["muelle.toml"]


def test_the_development_profile_does_not_leave_the_machine(machine: Machine) -> None:
    refused = machine.quick("up", MUELLE_PROFILE="development", MUELLE_HOST="0.0.0.0")  # noqa: S104
    assert refused.code == 1
    assert "MUELLE_HOST=127.0.0.1" in refused.err


def test_what_the_machine_does_not_let_us_do_is_told_in_a_sentence(machine: Machine) -> None:
    no_folder = machine.folder / "file"
    no_folder.write_text("in the way")
    broken = Machine(machine.folder / "broken")
    broken.home.mkdir(parents=True)
    (broken.home / "identity.db").write_text("this is no database, whatever its name says" * 100)
    key = Machine(machine.folder / "key")
    key.home.mkdir(parents=True)
    (key.home / "secret.key").write_text("")
    tries = {
        "cannot be used: Not a directory": machine.quick("up", MUELLE_HOME=str(no_folder / "home")),
        'The database of the room "identity" cannot be used: file is not a database': broken.quick("up"),
        "secret.key does not hold the secret key": key.quick("migrate"),
        "Nobody can listen on no.such.host.invalid": machine.quick("up", MUELLE_HOST="no.such.host.invalid"),
    }
    for told, ended in tries.items():
        assert (ended.code, told in ended.err) == (1, True), ended
        assert ended.err.startswith("muelle: ")


def test_a_database_that_is_away_or_silent_is_told_in_a_sentence(machine: Machine) -> None:
    with socket.socket() as silent, ThreadPoolExecutor() as pool:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        port = silent.getsockname()[1]
        address = {"MUELLE_DATABASE_URL": f"postgresql://ana:a-secret@127.0.0.1:{port}/x"}
        other = Machine(machine.folder / "other")
        other.folder.mkdir()
        waiting = pool.submit(other.run, "migrate", **address)
        asking = pool.submit(machine.run, "doctor", **address)
        away = machine.quick("up", MUELLE_DATABASE_URL="postgresql://ana:a-secret@127.0.0.1:1/x")
        too_late, examined = waiting.result(), asking.result()
    assert away.code == too_late.code == examined.code == 1
    assert 'database of the room "identity" cannot be used' in away.err
    assert "MUELLE_DATABASE_URL" in away.err
    assert "it does not answer in time" in too_late.err
    assert "FAIL  db identity    it does not answer in time" in examined.out
    assert "a-secret" not in away.err + too_late.err + examined.out + examined.err


def test_it_can_be_stopped_before_it_is_up(machine: Machine) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        silent.settimeout(20)
        port = silent.getsockname()[1]
        running = machine.start("up", MUELLE_DATABASE_URL=f"postgresql://ana@127.0.0.1:{port}/x")
        with silent.accept()[0]:  # now it waits for its database
            code, seconds = running.end(SIGTERM)
    assert (code, running.out) == (0, "")
    assert seconds < STOPS_WITHIN_SECONDS
    running.discard()


def test_what_a_database_complains_about_is_told_without_the_statement(tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path}/full.db")
    with engine.begin() as connection:
        connection.exec_driver_sql("PRAGMA max_page_count = 2")
        connection.exec_driver_sql("CREATE TABLE a (b)")
        with pytest.raises(OperationalError) as full:
            connection.exec_driver_sql("INSERT INTO a VALUES (zeroblob(100000))")
        with pytest.raises(OperationalError) as unknown:
            connection.exec_driver_sql("INSERT INTO no_such_table VALUES ('a secret value')")
    engine.dispose()
    told = [as_ours(problem.value) for problem in (full, unknown)]
    assert [str(error) for error in told] == [
        "The database cannot do that: database or disk is full.",
        "The database cannot do that: no such table: no_such_table.",
    ]
    assert as_ours(KeyError("a mistake of ours")) is None


# --- the lock, by itself


def test_a_lock_is_for_its_rooms(tmp_path: Path) -> None:
    home = tmp_path / "home"
    identity, audit = HomeLock(home, ["identity"]), HomeLock(home, ["audit"])
    identity.take(Holder("one", 1, ""))
    audit.take(Holder("two", 2, ""))
    assert holders_of(home, ["identity", "audit"]) == [Holder("one", 1, ""), Holder("two", 2, "")]
    whole = HomeLock(home, ["identity", "audit"])
    with pytest.raises(HomeTaken, match=r"one \(process 1\)"):
        whole.take(Holder("three", 3, ""))
    identity.let_go()
    with pytest.raises(HomeTaken, match=r"two \(process 2\)"):
        whole.take(Holder("three", 3, ""))
    audit.let_go()
    assert holders_of(home, ["identity", "audit"]) == []
    whole.take(Holder("three", 3, ""))
    assert holders_of(home, ["identity", "audit"]) == [Holder("three", 3, "")]
    with pytest.raises(HomeUnusable, match="Not a directory"):
        HomeLock(home / "audit.lock" / "home", ["audit"]).take(Holder("four", 4, ""))


def an_open_connection(running: Running) -> socket.socket:
    """One that asked something, has its answer, and stays."""
    connection = socket.create_connection(("127.0.0.1", running.port), timeout=20)
    connection.sendall(b"GET /health/live HTTP/1.1\r\nHost: muelle\r\n\r\n")
    assert connection.recv(4096).startswith(b"HTTP/1.1 200")
    return connection


def a_request_in_flight(running: Running) -> socket.socket:
    """One whose body is on its way, and stays so."""
    connection = socket.create_connection(("127.0.0.1", running.port), timeout=20)
    connection.sendall(b"POST /api/v1/auth/login HTTP/1.1\r\nHost: muelle\r\nContent-Length: 100\r\n\r\n{")
    return connection
