"""`muelle serve`: the rooms of one installation in processes of their own."""

from __future__ import annotations

from signal import SIGTERM
from typing import Any

import pytest

from muelle.app import ROOMS
from tests.cli.machine import Machine, Running
from tests.servers.private import free_port
from tests.waiting import eventually

SHARED = {"MUELLE_SECRET_KEY": "a secret that all processes of an installation share"}
RABBIT = {"MUELLE_RABBIT_URL": "amqp://127.0.0.1:1/"}


@pytest.mark.needs("postgres", "rabbitmq")
async def test_what_happens_in_one_process_is_known_in_the_other(
    machine: Machine, postgres_url: str, rabbit_url: str, rabbit_namespace: str
) -> None:
    machine.settings |= SHARED | {
        "MUELLE_DATABASE_URL": postgres_url,
        "MUELLE_RABBIT_URL": rabbit_url,
        "MUELLE_RABBIT_NAMESPACE": rabbit_namespace,
        "MUELLE_IDENTITY_URL": machine.url,
    }
    other_port = str(free_port())
    identity = machine.start("serve", "identity")
    audit = machine.start("serve", "audit", MUELLE_PORT=other_port)
    try:
        identity.wait_ready()
        audit.wait_ready()
        body = {"email": "ana@example.com", "password": "correct horse", "name": "Ana"}
        status, tokens = identity.ask("POST", "/api/v1/auth/signup", body)
        assert status == 201
        await eventually(lambda: {"AccountOpened", "LoggedIn"} <= history(audit, tokens), 30)
        assert identity.ask("GET", "/api/v1/me/history", token=tokens["access_token"])[0] == 404
        an_administrator_made_at_the_desk_is_known_to_both(machine, identity)
        assert [running.end(SIGTERM)[0] for running in (audit, identity)] == [0, 0]
    finally:
        identity.discard()
        audit.discard()


def an_administrator_made_at_the_desk_is_known_to_both(machine: Machine, identity: Running) -> None:
    """The command line works on the database; it needs no bus, whatever the settings say."""
    made = machine.quick("admin", "create", "root@example.com", MUELLE_RABBIT_URL="amqp://127.0.0.1:1/")
    assert made.code == 0, made.err
    status, tokens = identity.log_in("root@example.com", made.out.split()[-1])
    assert (status, tokens["account"]["role"]) == (200, "admin")
    verified = machine.quick("audit", "verify", "--json", MUELLE_RABBIT_URL="amqp://127.0.0.1:1/")
    assert (verified.code, verified.json["whole"]) == (0, True)


def history(audit: Running, tokens: dict[str, Any]) -> set[str]:
    status, page = audit.ask("GET", "/api/v1/me/history", token=tokens["access_token"])
    assert status == 200, page
    return {item["type"] for item in page["items"]}


@pytest.mark.parametrize(
    ("rooms", "settings", "told"),
    [
        (["nonsense"], {}, 'There is no room "nonsense".\n        There are: identity, audit, workloads, ingress.'),
        (["identity"], SHARED, "needs MUELLE_RABBIT_URL"),
        (["identity"], RABBIT, "needs MUELLE_SECRET_KEY"),
        (["audit"], RABBIT | SHARED, "needs MUELLE_IDENTITY_URL"),
        (["identity"], SHARED | {"MUELLE_RABBIT_URL": "amqp:127.0.0.1"}, "MUELLE_RABBIT_URL: must begin with amqp://"),
    ],
    ids=["no such room", "broker", "secret key", "identity", "address"],
)
def test_what_is_missing_for_it_is_told(
    machine: Machine, rooms: list[str], settings: dict[str, str], told: str
) -> None:
    refused = machine.quick("serve", *rooms, **settings)
    assert refused.code == 1
    assert told in refused.err


def test_a_room_is_served_once_on_files_of_its_own(machine: Machine) -> None:
    with machine.running("serve", *ROOMS) as running:
        named = f"muelle serve {' '.join(ROOMS)} (process {running.process.pid}) already works in {machine.home}"
        for words in (["serve", "audit"], ["up"]):
            more = SHARED | RABBIT | {"MUELLE_IDENTITY_URL": machine.url, "MUELLE_PORT": str(free_port())}
            refused = machine.quick(*words, **more)
            assert (refused.code, named in refused.err) == (1, True), refused.err
