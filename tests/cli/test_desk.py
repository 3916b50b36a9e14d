"""Commands for whoever sits at the machine: beside a running server, without one, and where something is broken."""

from __future__ import annotations

import asyncio
import json
import shutil
import sqlite3
from pathlib import Path
from signal import SIGCONT, SIGSTOP

import pytest

from muelle.kit.ids import new_id
from tests.cli.machine import Machine, Running
from tests.servers.private import free_port
from tests.waiting import eventually


@pytest.fixture(scope="module")
def quiet_machine(tmp_path_factory: pytest.TempPathFactory) -> Machine:
    """One with an installation on which no server runs; tests that change it work on a copy."""
    machine = Machine(tmp_path_factory.mktemp("quiet"))
    assert machine.quick("admin", "create", "root@example.com", "--name", "Root").code == 0
    with machine.running():
        asyncio.run(eventually(lambda: read(machine, "SELECT count(*) FROM entries") == "2", 30))
    return machine


@pytest.fixture
def copy(quiet_machine: Machine, tmp_path: Path) -> Machine:
    shutil.copytree(quiet_machine.home, tmp_path / "home")
    return Machine(tmp_path)


# --- an administrator


def test_an_administrator_made_beside_a_running_server_can_log_in_at_once(
    shared_machine: Machine, server: Running
) -> None:
    made = shared_machine.run("admin", "create", "Root@Example.com")
    assert made.code == 0, made.err
    password = made.out.splitlines()[1].rpartition(" ")[2]
    status, tokens = server.log_in("root@example.com", password)
    assert (status, tokens["account"]["role"]) == (200, "admin")
    again = shared_machine.quick("admin", "create", "root@example.com")
    assert server.log_in("root@example.com", password)[0] == 401, "the old password is not good any more"
    assert server.log_in("root@example.com", again.out.split()[-1])[0] == 200


def test_an_administrator_made_before_the_first_start_takes_the_place_of_the_first_log_in(machine: Machine) -> None:
    made = machine.quick("admin", "create", "root@example.com", "--name", "Root")
    with machine.running() as running:
        assert "First log-in" not in running.out
        status, tokens = running.log_in("root@example.com", made.out.split()[-1])
        assert (status, tokens["account"]["name"]) == (200, "Root")


@pytest.mark.parametrize("words", [["root"], ["a b@example.com"], ["root@example.com", "--name", "\n"]])
def test_what_is_no_address_and_no_name_is_refused(machine: Machine, words: list[str]) -> None:
    refused = machine.quick("admin", "create", *words)
    assert refused.code == 1
    assert refused.err.startswith("muelle: ")
    assert not machine.home.exists()


# --- migrations


def test_migrate_says_what_it_has_done(machine: Machine) -> None:
    first = machine.quick("migrate")
    assert "identity: kit nothing → 00" in first.out
    assert "audit: audit nothing → 00" in first.out
    assert machine.quick("migrate").out == "Everything is up to date.\n"


def test_a_database_of_a_newer_muelle_is_left_alone(copy: Machine) -> None:
    change(copy, "audit", "UPDATE audit_revision SET version_num = '9999'")
    for words in (["up"], ["migrate"], ["audit", "verify"]):
        refused = copy.quick(*words)
        assert refused.code == 1
        assert 'The database "audit" was written by a newer Muelle: audit is at revision 9999' in refused.err
        assert "restore the backup" in refused.err
    assert "FAIL  db audit       SQLite, written by a newer Muelle" in copy.quick("doctor").out


# --- the audit log


def test_a_whole_audit_log_is_told_with_its_head(quiet_machine: Machine) -> None:
    whole = quiet_machine.quick("audit", "verify")
    assert whole.code == 0
    assert "The audit log is whole: 2 entries." in whole.out
    told = quiet_machine.quick("audit", "verify", "--json").json
    assert told["head"] in whole.out
    assert quiet_machine.quick("audit", "verify", "--expect", told["head"]).code == 0
    assert quiet_machine.quick("audit", "verify", "--expect", "f" * 64).code == 1


def test_one_changed_bit_in_the_audit_log_is_found_and_named(copy: Machine) -> None:
    details = read(copy, "SELECT details FROM entries WHERE seq = 2")
    flipped = bytearray(details.encode())
    flipped[len(flipped) // 2] ^= 1
    change(copy, "audit", "UPDATE entries SET details = ? WHERE seq = 2", flipped.decode())
    broken = copy.quick("audit", "verify")
    assert broken.code == 1
    assert "entry 2: its details were changed" in broken.out
    told = copy.quick("audit", "verify", "--json")
    assert (told.code, told.json["whole"], told.json["entries"]) == (1, False, 1)


def test_an_audit_log_that_is_not_there_is_not_called_whole(machine: Machine) -> None:
    nothing = machine.quick("audit", "verify")
    assert nothing.code == 1
    assert "MUELLE_HOME" in nothing.err
    assert not machine.home.exists()


# --- deliveries


def test_a_dead_delivery_is_listed_and_tried_again(copy: Machine) -> None:
    assert copy.quick("bus", "deliveries").out == "Nothing is parked or dead.\n"
    event, type = bury_a_delivery(copy)
    listed = copy.quick("bus", "deliveries")
    assert f"dead    audit audit.record {event} {type}, 8 attempts: ValueError: no" in listed.out
    assert [row["event"] for row in copy.quick("bus", "deliveries", "--json").json] == [event]

    assert "1 to be tried again" in copy.quick("bus", "redrive", "audit", "audit.record", event).out
    assert copy.quick("bus", "deliveries", "--json").json[0]["state"] == "parked"
    bury_a_delivery(copy)
    assert "1 to be tried again" in copy.quick("bus", "redrive", "audit", "all").out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["nonsense", "all"], 'There is no room "nonsense"'),
        (["audit", "audit.record"], "Say which event"),
        (["audit", "audit.record", "0" * 24], "No parked or dead delivery"),
    ],
)
def test_what_cannot_be_tried_again_is_told(quiet_machine: Machine, words: list[str], told: str) -> None:
    refused = quiet_machine.quick("bus", "redrive", *words)
    assert (refused.code, told in refused.err) == (1, True), refused.err


# --- settings


def test_the_settings_in_force_are_shown_without_their_secrets(machine: Machine) -> None:
    machine.home.mkdir(mode=0o700)
    (machine.home / "muelle.toml").write_text(
        'signup = "closed"\nmail = "smtp://ana:hush-hush@mail.example.com:2525"\n'
    )
    secrets = {"MUELLE_SECRET_KEY": "hush-hush" * 4, "MUELLE_DATABASE_URL": "postgresql://ana:hush-hush@localhost/x"}
    providers = {"work": {"issuer": "https://login.example.com", "client_id": "me", "client_secret": "hush-hush"}}
    more = secrets | {"MUELLE_OIDC_PROVIDERS": json.dumps(providers)}
    shown, told = machine.run("config", "show", **more), machine.run("config", "show", "--json", **more)
    assert "hush-hush" not in shown.out + told.out
    assert told.json["signup"] == {"value": "closed", "from": "file"}
    assert told.json["secret_key"] == {"value": "(set)", "from": "environment"}
    assert told.json["mail"] == {"value": "smtp://(set)@mail.example.com:2525", "from": "file"}
    assert told.json["host"] == {"value": "127.0.0.1", "from": "default"}
    assert str(machine.home / "muelle.toml") in shown.out


def test_variables_of_kubernetes_and_of_the_client_are_no_settings(machine: Machine) -> None:
    others = {
        "MUELLE_PORT": "tcp://10.0.0.1:7070",
        "MUELLE_SERVICE_HOST": "10.0.0.1",
        "MUELLE_POSTGRES_PORT_5432_TCP_ADDR": "10.0.0.2",
        "MUELLE_SERVER": "http://127.0.0.1:7070",
        "MUELLE_API_KEY": "mk_00000000_x",
    }
    shown = machine.run("config", "show", "--json", **others)
    assert (shown.code, shown.json["port"]) == (0, {"value": 7070, "from": "default"})


# --- doctor


def test_doctor_on_an_empty_machine_says_how_to_begin(machine: Machine) -> None:
    examined = machine.run("doctor")
    assert examined.code == 0
    for told in ("note  db identity    not made yet", "note  server         not running", "→ muelle up"):
        assert told in examined.out
    assert not machine.home.exists(), "doctor changes nothing"


def test_doctor_beside_a_server_finds_it_and_knows_a_way_back_in(shared_machine: Machine, server: Running) -> None:
    findings = {item["what"]: item for item in shared_machine.quick("doctor", "--json").json}
    assert findings["server"]["detail"] == f"answers at {shared_machine.url}"
    assert findings["loops"]["works"]
    assert {what for what, item in findings.items() if item["works"] is False} == set()


def test_doctor_tells_what_to_do_when_the_first_password_was_lost(quiet_machine: Machine) -> None:
    examined = quiet_machine.quick("doctor")
    assert examined.code == 0
    assert "root@example.com is not logged in anywhere" in examined.out
    assert "→ muelle admin create root@example.com " in examined.out


def test_doctor_finds_a_server_that_is_stuck(copy: Machine) -> None:
    with copy.running() as running:
        running.process.send_signal(SIGSTOP)
        examined = copy.quick("doctor")
        running.process.send_signal(SIGCONT)
    assert examined.code == 1
    assert f"muelle up (process {running.process.pid}) holds the home and does not answer" in examined.out
    assert f"→ kill -9 {running.process.pid}; muelle up" in examined.out


def test_doctor_names_everything_that_is_broken_at_once(copy: Machine, server: Running) -> None:
    (copy.home / "identity.db").write_text("no database" * 1000)
    change(copy, "audit", "DELETE FROM audit_revision")
    (copy.home / "secret.key").write_text("no key")
    mail = f"smtp://127.0.0.1:{free_port()}"
    examined = copy.quick(
        "doctor", MUELLE_PORT=str(server.port), MUELLE_RABBIT_URL="amqp://a:b@127.0.0.1:1/", MUELLE_MAIL=mail
    )
    assert examined.code == 1
    for told in (
        "FAIL  db identity    file is not a database",
        "FAIL  db audit       SQLite, behind in audit",
        "→ muelle migrate",
        "FAIL  secret key",
        "FAIL  facts          RabbitMQ: ",
        "FAIL  mail           The mail server at 127.0.0.1",
    ):
        assert told in examined.out


def test_doctor_tells_wrong_settings_one_by_one(machine: Machine) -> None:
    examined = machine.quick("doctor", "--json", MUELLE_PORT="no", MUELLE_HOSTT="no")
    assert examined.code == 1
    assert [item["works"] for item in examined.json] == [False, False]
    assert "Did you mean MUELLE_HOST?" in examined.out


# --- the command line itself


def test_each_command_has_a_help_text(machine: Machine) -> None:
    assert machine.run("--version").out.startswith("muelle 0.")
    commands = [
        (),
        ("up",),
        ("serve",),
        ("migrate",),
        ("doctor",),
        ("login",),
        ("logout",),
        ("whoami",),
        ("verify-email",),
    ]
    commands += [("admin", "create"), ("config", "show"), ("config", "docs"), ("audit", "verify")]
    commands += [("bus", "deliveries"), ("bus", "redrive"), ("keys", "list"), ("keys", "create"), ("keys", "revoke")]
    for words in commands:
        helped = machine.quick(*words, "--help")
        assert helped.code == 0
        assert " ".join(("Usage: muelle", *words)) in helped.out


def test_a_command_that_is_none_is_a_wrong_command_line(machine: Machine) -> None:
    assert machine.quick("upp").code == 2
    assert machine.quick("keys", "create").code == 2
    assert machine.quick("keys", "create", "x", "--days", "99999999999").code == 2


def change(machine: Machine, room: str, statement: str, *values: str) -> None:
    with sqlite3.connect(machine.home / f"{room}.db") as database:
        assert database.execute(statement, values).rowcount == 1


def read(machine: Machine, query: str) -> str:
    with sqlite3.connect(machine.home / "audit.db") as database:
        return str(database.execute(query).fetchone()[0])


def bury_a_delivery(machine: Machine) -> tuple[str, str]:
    """What is left where a handler has failed for the last time."""
    event = new_id()
    row = {
        "event_id": event,
        "type": "LoggedIn",
        "body": "{}",
        "last_error": "ValueError: no",
        "consumer": "audit.record",
    }
    with sqlite3.connect(machine.home / "audit.db") as database:
        database.execute("DELETE FROM deliveries")
        database.execute(
            "INSERT INTO deliveries (event_id, type, body, last_error, consumer, state, attempts, next_at)"
            " VALUES (:event_id, :type, :body, :last_error, :consumer, 'dead', 8, 0)",
            row,
        )
    return event, "LoggedIn"
