"""A whole installation inside a test: in one process or split, on SQLite or PostgreSQL, with disorder on the bus.

    async def test_a_new_client_sees_their_history(world):
        ana = await world.sign_up("ana@example.com")
        await world.settled()
        page = await ana.get("/me/history")

The fixture `world` runs a story in every shape; `one` only in the simplest, for what does not depend on it.
"""

from __future__ import annotations

import random
import re
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
from argon2 import PasswordHasher

from muelle import config
from muelle.app import PREFIX, ROOMS, SUBSCRIPTIONS, Application, Parts
from muelle.engines.fake import FakeEngine, FakeWorld
from muelle.engines.protocol import Engine
from muelle.identity.passwords import Passwords
from muelle.kit.bus import Bus, Subscription, Taker
from muelle.kit.bus.memory import Disorder, MemoryBus
from muelle.kit.bus.rabbit import RabbitBus
from muelle.kit.clock import SystemClock
from muelle.kit.mail import Mail
from tests.waiting import eventually

SECRET_KEY = "a secret that is only good for tests, but long enough"
PASSWORD = "correct horse battery"
PUBLIC_ADDRESS = "203.0.113.7"


@dataclass(frozen=True)
class Shape:
    """How an installation is put together."""

    split: bool
    postgres: bool
    rabbit: bool

    def __str__(self) -> str:
        parts = "split" if self.split else "one", "postgres" if self.postgres else "sqlite"
        return "-".join([*parts, *(["rabbit"] if self.rabbit else [])])


ONE = Shape(split=False, postgres=False, rabbit=False)
SHAPES = (
    ONE,
    Shape(split=False, postgres=True, rabbit=False),
    Shape(split=True, postgres=False, rabbit=False),
    Shape(split=True, postgres=True, rabbit=True),
)


class LeapingClock(SystemClock):
    """Real time, some hours or days on: sleeps stay short, expiries come at once."""

    def __init__(self) -> None:
        self.offset = timedelta(0)

    def now(self) -> datetime:
        return super().now() + self.offset

    def leap(self, **time: float) -> None:
        self.offset += timedelta(**time)


class Postbox:
    """A mailer that keeps what it was given; `broken` makes it refuse."""

    def __init__(self) -> None:
        self.mails: list[Mail] = []
        self.broken = False

    async def send(self, mail: Mail) -> None:
        if self.broken:
            raise OSError("the mail server is down")
        self.mails.append(mail)

    def to(self, email: str) -> list[Mail]:
        return [mail for mail in self.mails if mail.to == email]


class Person:
    """Somebody with a client: what they send carries who they are."""

    def __init__(self, world: World, email: str, tokens: dict[str, Any] | None = None, key: str = "") -> None:
        self.world = world
        self.email = email
        self.tokens = tokens or {}
        self.key = key

    @property
    def id(self) -> str:
        return str(self.tokens["account"]["id"])

    @property
    def credential(self) -> str:
        return self.key or str(self.tokens.get("access_token", ""))

    async def ask(self, method: str, path: str, body: Any = None, **options: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.credential}"} if self.credential else {}
        headers |= options.pop("headers", {})
        if body is not None:
            options["json"] = body
        return await self.world.ask(method, path, headers=headers, **options)

    async def get(self, path: str, **options: Any) -> httpx.Response:
        return await self.ask("GET", path, **options)

    async def post(self, path: str, body: Any = None, **options: Any) -> httpx.Response:
        return await self.ask("POST", path, body, **options)

    async def delete(self, path: str, body: Any = None, **options: Any) -> httpx.Response:
        return await self.ask("DELETE", path, body, **options)


class World:
    def __init__(
        self,
        shape: Shape,
        apps: Sequence[Application],
        clock: LeapingClock,
        postbox: Postbox,
        engines: FakeWorld | None = None,
    ) -> None:
        self.shape = shape
        self.apps = list(apps)
        self.clock = clock
        self.postbox = postbox
        self.engines = engines or FakeWorld()
        """What the pretended engine pretends, where no other was given."""
        self._clients = [_client(app) for app in self.apps]

    @property
    def identity(self) -> Application:
        return self._serving("identity")

    @property
    def audit(self) -> Application:
        return self._serving("audit")

    @property
    def workloads(self) -> Application:
        return self._serving("workloads")

    @property
    def apps_port(self) -> int:
        """Where workloads are reached."""
        listening = self._serving("ingress").listening
        assert listening is not None
        return listening.port

    def app_for(self, path: str) -> Application:
        """Which service a gateway would send this to."""
        if path.startswith("/ingress"):
            return self._serving("ingress")
        if re.match(r"/(workloads|deployments|uploads|live|statistics|quotas?|rooms/workloads)\b", path):
            return self.workloads
        return self.audit if re.match(r"/(audit|me/history|rooms/audit)\b", path) else self.identity

    async def ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        """`path` is one of the native API's, without its prefix; a full path begins with `//`."""
        if path.startswith("//"):
            return await _send(self._clients[self.apps.index(self.identity)], method, path[1:], options)
        client = self._clients[self.apps.index(self.app_for(path))]
        return await _send(client, method, PREFIX + path, options)

    def nobody(self) -> Person:
        return Person(self, "")

    async def sign_up(self, email: str, password: str = PASSWORD, name: str = "Somebody") -> Person:
        answer = await self.ask("POST", "/auth/signup", json={"email": email, "password": password, "name": name})
        assert answer.status_code == 201, answer.text
        return Person(self, email, answer.json())

    async def log_in(self, email: str, password: str = PASSWORD, **more: str) -> Person:
        answer = await self.ask("POST", "/auth/login", json={"email": email, "password": password, **more})
        assert answer.status_code == 200, answer.text
        return Person(self, email, answer.json())

    async def administrator(self, email: str = "root@example.com") -> Person:
        await self.identity.identity.accounts.make_administrator(email, PASSWORD)
        return await self.log_in(email)

    async def letter_code(self, email: str, subject: str = "") -> str:
        """The code in the last letter to somebody."""

        def last() -> Mail | None:
            mails = [mail for mail in self.postbox.to(email) if subject in mail.subject]
            return mails[-1] if mails else None

        mail = await eventually(last)
        found = re.search(r"^    (\S{30,})$", mail.text, re.M)
        assert found, mail.text
        return found[1]

    async def settled(self) -> None:
        """When every fact has been told and taken in."""

        async def quiet() -> bool:
            for app in self.apps:
                for room in app.rooms:
                    if await room.furniture.outbox.waiting() or (await room.furniture.inbox.counts())["parked"]:
                        return False
            return True

        await eventually(quiet)

    async def recorded(self, type: str, subject: str) -> list[Any]:
        """What the audit log has of that type about somebody, once it has any."""
        from muelle.kit.http import Cursor

        async def entries() -> list[Any]:
            return await self.audit.audit.list(Cursor(None, 100), subject=subject, type=type)

        return await eventually(entries)

    def _serving(self, room: str) -> Application:
        return next(app for app in self.apps if any(r.name == room for r in app.rooms))


@asynccontextmanager
async def installation(
    shape: Shape,
    home: Path,
    *,
    postgres_url: str = "",
    rabbit_url: str = "",
    namespace: str = "muelle",
    seed: int = 0,
    replicas: int = 1,
    bus: Callable[[], Bus] | None = None,
    passwords: Passwords | None = None,
    engine: Callable[[], Engine] | None = None,
    **settings: str,
) -> AsyncIterator[World]:
    """Brings an installation up and takes it down. `replicas` of each process work on the same databases."""
    clock, postbox, wire, engines = LeapingClock(), Postbox(), _Wire(), FakeWorld(real_sockets=True)
    environment = {
        "MUELLE_SECRET_KEY": SECRET_KEY,
        "MUELLE_HOME": str(home),
        "MUELLE_IDENTITY_URL": "http://identity",
        "MUELLE_APPS_PORT": "0",
        "MUELLE_INGRESS": "builtin",
        **({"MUELLE_DATABASE_URL": postgres_url} if shape.postgres else {}),
        **{f"MUELLE_{name.upper()}": value for name, value in settings.items()},
    }
    loaded = config.load(environment)
    shared = MemoryBus(SUBSCRIPTIONS, Disorder(seed))

    def make_bus() -> Bus:
        if bus is not None:
            return bus()
        return DisorderlyRabbit(rabbit_url, SUBSCRIPTIONS, clock, namespace, seed) if shape.rabbit else shared

    processes = [(room,) for room in ROOMS] if shape.split else [ROOMS]
    async with AsyncExitStack() as stack:
        apps = []
        for rooms in [rooms for rooms in processes for _ in range(replicas)]:
            parts = Parts(
                loaded,
                clock=clock,
                bus=make_bus(),
                passwords=passwords or Passwords(PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)),
                mailer=postbox,
                transport=wire,
                engine=engine() if engine else FakeEngine(clock, "test", engines),
            )
            apps.append(await stack.enter_async_context(Application(parts, rooms).running()))
        world = World(shape, apps, clock, postbox, engines)
        wire.identity = world.identity
        yield world


class DisorderlyRabbit(RabbitBus):
    """The real broker, whose consumers get every batch shuffled and partly twice."""

    def __init__(self, url: str, subscriptions: Sequence[Subscription], clock: Any, namespace: str, seed: int) -> None:
        super().__init__(url, subscriptions, clock, namespace)
        self._dice = random.Random(seed)

    def attach(self, taker: Taker) -> None:
        super().attach(_Disturbed(taker, self._dice))


@dataclass(frozen=True)
class _Disturbed:
    taker: Taker
    dice: random.Random

    @property
    def subscription(self) -> Subscription:
        return self.taker.subscription

    async def take(self, bodies: Sequence[bytes]) -> list[int]:
        doubled = [body for body in bodies if self.dice.random() < 0.3]
        order = list(range(len(bodies)))
        self.dice.shuffle(order)
        rejected = await self.taker.take([bodies[place] for place in order])
        if doubled:
            await self.taker.take(doubled)
        return sorted(order[place] for place in rejected)


class _Wire(httpx.AsyncBaseTransport):
    """HTTP between the processes of an installation, without a network."""

    identity: Application | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        assert self.identity is not None, "the identity service is not up"
        if request.url.host != "identity":
            raise httpx.ConnectError(f"there is no {request.url.host} in a test")
        return await httpx.ASGITransport(self.identity.asgi).handle_async_request(request)


def _client(app: Application) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app.asgi, raise_app_exceptions=False, client=(PUBLIC_ADDRESS, 4711))
    return httpx.AsyncClient(transport=transport, base_url="http://muelle")


async def _send(client: httpx.AsyncClient, method: str, path: str, options: dict[str, Any]) -> httpx.Response:
    return await client.request(method, path, **options)
