"""A command in a running workload: over real WebSockets, on a pretended engine and on Docker, to each of its ends."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from muelle import serving
from muelle.app import PREFIX
from muelle.engines.docker import DockerEngine
from muelle.kit.clock import SystemClock
from muelle.kit.http.sockets import RoomSocket
from muelle.workloads.executing import MOST_SESSIONS
from tests.http.listening import listening
from tests.waiting import eventually
from tests.workloads.test_deploying import becomes, deploy
from tests.workloads.test_on_docker import everything_goes
from tests.world import ONE, Person, World, installation

PROTOCOL = "muelle.exec.v1"
PAGE = "https://console.example.com"
WITHIN = 20


@dataclass
class Pier:
    world: World
    port: int
    stop: serving.Stop
    server: asyncio.Task[None]

    def url(self, id: str, *command: str, **more: Any) -> str:
        query = urlencode([*(("command", word) for word in command), *more.items()])
        return f"ws://127.0.0.1:{self.port}{PREFIX}/workloads/{id}/exec?{query}"

    @asynccontextmanager
    async def run(self, person: Person, id: str, *command: str, **more: Any) -> AsyncIterator[Talk]:
        headers = {"Authorization": f"Bearer {person.credential}"} if person.credential else {}
        async with connect(self.url(id, *command, **more), additional_headers=headers, proxy=None) as connection:
            yield Talk(connection)

    @property
    def route(self) -> RoomSocket:
        return next(route for route in self.world.workloads.api.routes if isinstance(route, RoomSocket))


class Talk:
    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self.output = b""
        self.texts: list[Any] = []

    async def type(self, text: str) -> None:
        await self.connection.send(text.encode())

    async def say(self, **told: Any) -> None:
        await self.connection.send(json.dumps(told))

    async def until(self, text: str) -> None:
        """Reads on until the output has it."""
        async with asyncio.timeout(WITHIN):
            while text.encode() not in self.output:
                self._take(await self.connection.recv())

    async def end(self) -> tuple[int, str]:
        """With what code and reason it is closed."""
        async with asyncio.timeout(WITHIN):
            with suppress(ConnectionClosed):
                while True:
                    self._take(await self.connection.recv())
        connection = self.connection
        assert connection.close_code is not None
        return connection.close_code, connection.close_reason or ""

    async def exit(self) -> int:
        """The command's exit code, told before all is closed in good order."""
        assert await self.end() == (1000, ""), self.texts
        return int(self.texts[-1]["exit"])

    def _take(self, came: str | bytes) -> None:
        if isinstance(came, bytes):
            self.output += came
        else:
            self.texts.append(json.loads(came))


@asynccontextmanager
async def served(world: World) -> AsyncIterator[Pier]:
    listener = serving.bind("127.0.0.1", 0)
    stop, ready = serving.Stop(), asyncio.Event()
    server = asyncio.create_task(serving.serve(world.identity.asgi, listener, (), stop, ready.set))
    await ready.wait()
    yield Pier(world, listener.getsockname()[1], stop, server)
    stop.told.set()
    await asyncio.wait_for(server, 10)


@pytest.fixture
async def pier(tmp_path: Path) -> AsyncIterator[Pier]:
    async with installation(ONE, tmp_path / "home", cors_origins=PAGE) as world, served(world) as pier:
        yield pier


@pytest.fixture
async def ana(pier: Pier) -> Person:
    return await pier.world.sign_up("ana@example.com")


@pytest.fixture
async def shop(ana: Person) -> str:
    """A workload of Ana's that runs."""
    id = str((await deploy(ana, environment={"GREETING": "hello"}))["id"])
    await becomes(ana, id, "running", serving=1)
    return id


async def test_a_command_runs_says_something_and_ends_with_its_code(pier: Pier, ana: Person, shop: str) -> None:
    async with pier.run(ana, shop, "sh", "-c", "echo $GREETING; echo oops >&2; exit 7") as talk:
        assert await talk.exit() == 7
    assert talk.output == b"hello\noops\n"
    assert talk.connection.response is not None
    assert talk.connection.response.headers["x-request-id"]


async def test_bytes_go_in_and_out_as_they_are(pier: Pier, ana: Person, shop: str) -> None:
    async with pier.run(ana, shop, "cat") as talk:
        await talk.connection.send(b"\xff\x00 and more\n")
        await talk.until("and more\n")
        assert talk.output == b"\xff\x00 and more\n"


async def test_a_terminal_has_the_size_of_the_window_and_changes_with_it(pier: Pier, ana: Person, shop: str) -> None:
    async with pier.run(ana, shop, "sh", terminal=1, rows=30, columns=100) as talk:
        await talk.type("stty size\n")
        await talk.until("30 100")
        await talk.say(resize=[50, 120])
        await talk.type("stty size\n")
        await talk.until("50 120")
        await talk.type("exit 3\n")
        assert await talk.exit() == 3


async def test_that_it_was_done_is_known_and_what_was_typed_is_not(pier: Pier, ana: Person, shop: str) -> None:
    async with pier.run(ana, shop, "sh") as talk:
        await talk.type("echo a-secret\nexit\n")
        assert await talk.exit() == 0

    async def executed() -> list[str]:
        """What the audit log has of it."""
        facts = [entry.details for entry in await pier.world.recorded("WorkloadAsked", shop)]
        return [fact for fact in facts if '"executed"' in fact]

    (fact,) = await eventually(executed)
    assert "a-secret" not in fact
    happened = (await ana.get(f"/workloads/{shop}/history")).json()["items"]
    assert [one["actor"] for one in happened if one["what"] == "executed"] == [ana.id]


async def test_a_page_vouches_for_itself_in_the_second_protocol(pier: Pier, ana: Person, shop: str) -> None:
    offered: list[Any] = [PROTOCOL, f"bearer.{ana.credential}"]
    for page in (PAGE, f"http://127.0.0.1:{pier.port}", None):
        async with connect(pier.url(shop, "echo", "hi"), subprotocols=offered, origin=page, proxy=None) as connection:  # type: ignore[arg-type]
            assert connection.subprotocol == PROTOCOL
            assert await Talk(connection).exit() == 0


@pytest.mark.parametrize("page", ["https://evil.example.com", "null", "", "http://[", f"{PAGE}.evil.example.com"])
async def test_a_page_of_a_foreign_origin_is_refused_whatever_it_holds(
    pier: Pier, ana: Person, shop: str, page: str
) -> None:
    headers = {"Authorization": f"Bearer {ana.credential}", "Origin": page}
    assert await refusal(pier.url(shop, "cat"), headers) == (403, "origin_not_allowed")


async def test_a_token_in_the_address_or_in_the_wrong_place_counts_for_nothing(
    pier: Pier, ana: Person, shop: str
) -> None:
    token = ana.credential
    assert await refusal(pier.url(shop, "cat", token=token, access_token=token), {}) == (401, "unrecognised")
    for offered in (f"bearer.{token}", f"bearer.{token}, {PROTOCOL}", f"{PROTOCOL}, {token}", f"other, bearer.{token}"):
        assert await refusal(pier.url(shop, "cat"), {"Sec-WebSocket-Protocol": offered}) == (401, "unrecognised")
    assert await refusal(pier.url(shop, "cat"), {"Authorization": "Bearer nonsense"}) == (401, "token_invalid")


async def test_what_cannot_be_done_is_told_in_words_and_in_the_closing_code(pier: Pier, ana: Person, shop: str) -> None:
    ben = await pier.world.sign_up("ben@example.com")
    idle = str((await deploy(ana, "idle"))["id"])
    await becomes(ana, idle, "running", serving=1)
    await ana.post(f"/workloads/{idle}/stop")
    await becomes(ana, idle, "stopped", serving=0)
    cases = (
        (ana, idle, ["cat"], {}, (4409, "nothing_runs")),
        (ben, shop, ["cat"], {}, (4404, "no_such_workload")),
        (ana, "nonsense", ["cat"], {}, (4422, "fields_invalid")),
        (ana, shop, [], {}, (4422, "fields_invalid")),
        (ana, shop, ["a\0b"], {}, (4422, "fields_invalid")),
        (ana, shop, ["cat"], {"rows": 0}, (4422, "fields_invalid")),
        (ana, shop, ["cat"], {"force": 1}, (4422, "fields_invalid")),
    )
    for person, id, command, more, expected in cases:
        async with pier.run(person, id, *command, **more) as talk:
            assert await talk.end() == expected
        assert talk.texts[-1]["problem"]["code"] == expected[1]
        assert talk.texts[-1]["problem"]["detail"]
    async with pier.run(ana, shop, "no-such-program") as talk:
        assert await talk.exit() == 127


async def test_an_engine_that_is_away_is_told_and_so_is_one_that_cannot(pier: Pier, ana: Person, shop: str) -> None:
    pier.world.engines.fail("execute", times=1)
    async with pier.run(ana, shop, "cat") as talk:
        assert await talk.end() == (4503, "engine_unavailable")


@pytest.mark.parametrize("text", ["", "resize", "[]", '{"resize":[0,1]}', '{"resize":[1,2],"x":1}', '{"exit":0}', "{}"])
async def test_a_text_that_says_nothing_ends_it(pier: Pier, ana: Person, shop: str, text: str) -> None:
    async with pier.run(ana, shop, "cat") as talk:
        await talk.connection.send(text)
        assert await talk.end() == (4422, "message_unreadable")


async def test_a_message_that_is_too_large_ends_it(pier: Pier, ana: Person, shop: str) -> None:
    async with pier.run(ana, shop, "cat") as talk:
        await talk.connection.send(b"x" * (serving.SOCKET_MESSAGE_BYTES + 1))
        assert (await talk.end())[0] == 1009


async def test_an_owner_has_so_many_at_once_and_no_more(pier: Pier, ana: Person, shop: str) -> None:
    open_ones = [pier.run(ana, shop, "cat") for _ in range(MOST_SESSIONS)]
    talks = [await one.__aenter__() for one in open_ones]
    for talk in talks:
        await talk.type("here\n")
        await talk.until("here")
    async with pier.run(ana, shop, "cat") as talk:
        assert await talk.end() == (4409, "too_many_sessions")
    for one in open_ones:
        await one.__aexit__(None, None, None)

    async def is_free() -> bool:
        async with pier.run(ana, shop, "echo", "hi") as talk:
            return await talk.end() == (1000, "")

    await eventually(is_free)
    assert not sessions(pier), "whoever leaves takes the command along"


async def test_what_nobody_uses_is_ended(pier: Pier, ana: Person, shop: str) -> None:
    pier.world.workloads.workloads.executing.idle_seconds = 0.2
    async with pier.run(ana, shop, "cat") as talk:
        assert await talk.end() == (4409, "session_idle")
    await eventually(lambda: not sessions(pier))


async def test_it_ends_with_the_workload(pier: Pier, ana: Person, shop: str) -> None:
    async with pier.run(ana, shop, "cat") as talk:
        await talk.type("here\n")
        await talk.until("here")
        await ana.post(f"/workloads/{shop}/stop")
        assert await talk.exit() == 137


async def test_it_ends_when_its_caller_would_not_be_let_in_any_more(pier: Pier, ana: Person, shop: str) -> None:
    pier.route.recheck_seconds = 0.05
    async with pier.run(ana, shop, "cat") as talk:
        await talk.type("here\n")
        await talk.until("here")
        assert (await ana.post("/auth/logout")).status_code < 300
        assert (await talk.end())[0] == 4401
    await eventually(lambda: not sessions(pier))


async def test_a_fresh_token_of_the_same_account_keeps_it_open(pier: Pier, ana: Person, shop: str) -> None:
    pier.route.recheck_seconds = 0.05
    other, ben = await pier.world.log_in("ana@example.com"), await pier.world.sign_up("ben@example.com")
    async with pier.run(ana, shop, "cat") as talk:
        await talk.say(token=other.credential)
        await talk.type("here\n")
        await talk.until("here")
        assert (await ana.post("/auth/logout")).status_code < 300
        for number in range(5):  # more than one recheck
            await asyncio.sleep(0.05)
            await talk.type(f"still here {number}\n")
            await talk.until(f"still here {number}")
        await talk.say(token=ben.credential)
        assert await talk.end() == (4401, "unrecognised")


async def test_it_ends_when_the_program_stops(pier: Pier, ana: Person, shop: str) -> None:
    async with pier.run(ana, shop, "cat") as talk:
        await talk.type("here\n")
        await talk.until("here")
        pier.stop.told.set()
        code, _ = await talk.end()
        assert code == 1012
    async with asyncio.timeout(4):
        await pier.server
    assert not sessions(pier)


async def test_it_is_logged_and_counted_like_any_request_and_no_secret_is_in_the_log(
    pier: Pier, ana: Person, shop: str
) -> None:
    with listening() as lines:
        async with pier.run(ana, shop, "echo", "a-secret") as talk:
            assert await talk.exit() == 0
        await refusal(pier.url(shop, "cat"), {})
        told = await eventually(lambda: found if len(found := lines.all("request")) >= 2 else None)
        assert "a-secret" not in lines.text
        assert ana.credential not in lines.text
    assert {(line["method"], line["status"], line["actor"]) for line in told if "exec" in line["path"]} == {
        ("WEBSOCKET", 101, ana.id),
        ("WEBSOCKET", 401, "anonymous"),
    }
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{pier.port}", trust_env=False) as client:
        metrics = (await client.get("/metrics")).text
        assert (await client.get(f"{PREFIX}/workloads/{shop}/exec?command=cat")).status_code == 404, "no socket"
    assert "muelle_http_sockets 0.0" in metrics
    assert 'method="WEBSOCKET",route="/api/v1/workloads/{workload_id}/exec",status="101"' in metrics


@pytest.mark.needs("docker")
@pytest.mark.timeout(300)
async def test_the_same_on_docker(docker_host: str, tmp_path: Path) -> None:
    engine = DockerEngine(docker_host, f"exec{secrets.token_hex(4)}", SystemClock())
    async with installation(ONE, tmp_path / "home", engine=lambda: engine) as world, served(world) as pier:
        try:
            ana = await world.sign_up("ana@example.com")
            answer = await ana.post(
                "/workloads", {"name": "shop", "file": {"name": "app.py", "text": APP}, "template": "python", "port": 0}
            )
            assert answer.status_code == 202, answer.text
            shop = str(answer.json()["workload"]["id"])
            await becomes(ana, shop, "running", within=120, serving=1)
            await on_docker(pier, ana, shop)
        finally:
            await everything_goes(engine)


APP = "import time\nwhile True:\n    time.sleep(1)\n"


async def on_docker(pier: Pier, ana: Person, shop: str) -> None:
    async with pier.run(ana, shop, "sh", "-c", "echo out; echo err >&2; exit 7") as talk:
        assert await talk.exit() == 7
    assert sorted(talk.output.split()) == [b"err", b"out"]
    async with pier.run(ana, shop, "sh", terminal=1, rows=30, columns=100) as talk:
        await talk.type("stty size\n")
        await talk.until("30 100")
        await talk.say(resize=[50, 120])
        await eventually(lambda: typed(talk, "stty size\n", "50 120"), pause=0.2)
        await talk.type("exit 3\n")
        assert await talk.exit() == 3
    async with pier.run(ana, shop, "cat") as talk:
        await talk.connection.send(b"\xff\x00!\n")
        await talk.until("!\n")
        assert talk.output == b"\xff\x00!\n"
        await ana.post(f"/workloads/{shop}/stop")
        assert await talk.exit() == 137


async def typed(talk: Talk, text: str, answer: str) -> bool:
    await talk.type(text)
    await asyncio.wait_for(talk.until(answer), 1)
    return True


async def refusal(url: str, headers: dict[str, str]) -> tuple[int, str]:
    """The answer of a server that opens no socket."""
    with pytest.raises(InvalidStatus) as refused:
        async with connect(url, additional_headers=headers, proxy=None):
            pass
    answer = refused.value.response
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["x-request-id"]
    return answer.status_code, json.loads(answer.body or b"{}")["code"]


def sessions(pier: Pier) -> list[Any]:
    """The commands that run in pretended instances."""
    return [one for estate in pier.world.engines._estates.values() for i in estate.of("") for one in i._sessions or ()]
