"""The one place that knows everyone: builds the application from settings, whole or as some of its rooms.

One process or many, SQLite or PostgreSQL, in-process bus or RabbitMQ: chosen here and nowhere else.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta

import httpx
from fastapi import APIRouter, FastAPI
from prometheus_client import CollectorRegistry
from starlette.types import ASGIApp

from muelle import __version__
from muelle.audit import http as audit_http
from muelle.audit import room as audit_room
from muelle.audit.verbs import Verbs as AuditVerbs
from muelle.config import Profile, Settings
from muelle.engines.found import chosen, docker_address
from muelle.engines.protocol import Engine
from muelle.identity import http as identity_http
from muelle.identity import room as identity_room
from muelle.identity.accounts import FirstLogIn
from muelle.identity.browser_log_in import Providers
from muelle.identity.core import Policy
from muelle.identity.passwords import Passwords
from muelle.identity.verbs import Verbs as IdentityVerbs
from muelle.ingress import http as ingress_http
from muelle.ingress import room as ingress_room
from muelle.ingress.drivers import BuiltIn
from muelle.ingress.metrics import IngressMetrics
from muelle.ingress.proxy import Proxy
from muelle.ingress.table import Table
from muelle.ingress.verbs import Verbs as IngressVerbs
from muelle.kit.bus import Bus, Consumer, Inbox, Outbox, Subscription
from muelle.kit.bus.memory import MemoryBus
from muelle.kit.clock import Clock, SystemClock
from muelle.kit.db import Database, open_database
from muelle.kit.db.migrations import Line, Step, is_behind, migrate
from muelle.kit.errors import Invalid
from muelle.kit.http import Callers, openapi
from muelle.kit.http.callers import RemoteCallers
from muelle.kit.http.client import outgoing
from muelle.kit.http.deliveries import deliveries_router
from muelle.kit.http.docs_pages import add_docs_pages
from muelle.kit.http.edge import Edge, JsonByDefault
from muelle.kit.http.health import Check, Health
from muelle.kit.http.health import router as health_router
from muelle.kit.http.idempotency import Answers
from muelle.kit.http.problems import add_problem_handlers
from muelle.kit.http.routes import declared, put_up
from muelle.kit.ids import new_id
from muelle.kit.mail import Mailer, mailer
from muelle.kit.room import Furniture, Room
from muelle.kit.vault import Vault, master_key
from muelle.workloads import http as workloads_http
from muelle.workloads import plan as workloads_plan
from muelle.workloads import room as workloads_room
from muelle.workloads.verbs import Verbs as WorkloadVerbs

LINES: Mapping[str, Line] = {
    identity_room.NAME: identity_room.MIGRATIONS,
    audit_room.NAME: audit_room.MIGRATIONS,
    workloads_room.NAME: workloads_room.MIGRATIONS,
    ingress_room.NAME: ingress_room.MIGRATIONS,
}
ROOMS = tuple(LINES)
SUBSCRIPTIONS: Sequence[Subscription] = (
    *identity_room.SUBSCRIPTIONS,
    *audit_room.SUBSCRIPTIONS,
    *workloads_room.SUBSCRIPTIONS,
    *ingress_room.SUBSCRIPTIONS,
)
PREFIX = "/api/v1"
SECRET_KEY_FILE = "secret.key"  # noqa: S105 - its name
TAGS = [
    {"name": "Signing in", "description": "Opening an account, logging in and out, and getting back in."},
    {"name": "Me", "description": "One's own account: name, password, sessions, API keys, second factor, history."},
    {"name": "Accounts", "description": "Other people's accounts, for administrators."},
    {"name": "Workloads", "description": "What runs: projects, services, containers and pods."},
    {"name": "Logs", "description": "What programs and builds say, as it comes and as it was."},
    {"name": "Ingress", "description": "Which name leads where."},
    {"name": "Audit", "description": "What happened, in an order that nobody can change unseen."},
    {"name": "System", "description": "How everything is doing."},
]
"""The parts of the native API, in the order in which its pages show them."""


class NoSuchRoom(Invalid):
    """There is no room "{name}"."""

    hint = "There are: {rooms}."


class CertificatesUnreadable(Invalid):
    """The certificates in {file} cannot be read: {reason}."""

    hint = "MUELLE_TRUSTED_CERTIFICATES has to name a file in PEM."


class SharedPartsMissing(Invalid):
    """A process that serves only some rooms needs {setting}."""

    hint = "{why}"


@dataclass(frozen=True)
class Parts:
    """What an application is built with. Each has a default from the settings; tests hand in theirs."""

    settings: Settings
    clock: Clock = field(default_factory=SystemClock)
    process: str = field(default_factory=new_id)
    bus: Bus | None = None
    passwords: Passwords | None = None
    mailer: Mailer | None = None
    transport: httpx.AsyncBaseTransport | None = None
    engine: Engine | None = None
    pace: workloads_plan.Policy = field(default_factory=workloads_plan.Policy)
    """How long a new release is watched, and an old one drained."""

    def vault(self) -> Vault:
        settings = self.settings
        return Vault(master_key(settings.secret_key.get_secret_value(), settings.home / SECRET_KEY_FILE))

    def open(self, room: str) -> Database:
        return open_database(room, folder=self.settings.home, url=self.settings.database_url.get_secret_value())

    def make_bus(self) -> Bus:
        if self.bus is not None:
            return self.bus
        url = self.settings.rabbit_url.get_secret_value()
        if not url:
            return MemoryBus(SUBSCRIPTIONS)
        from muelle.kit.bus.rabbit import RabbitBus  # noqa: PLC0415 - large, and not everybody's

        return RabbitBus(url, SUBSCRIPTIONS, self.clock, self.settings.rabbit_namespace)

    def make_engine(self, vault: Vault) -> Engine:
        """The one that the setting says; `auto` is Docker where it answers, else processes of this machine."""
        if self.engine is not None:
            return self.engine
        installation = vault.mac("installation", b"v1")[:12]
        found = chosen(self.settings.engine)
        if found == "docker":
            from muelle.engines.docker import DockerEngine  # noqa: PLC0415 - each is large, and not everybody's

            doors = (self.settings.apps_port,) if self.settings.apps_port else ()
            return DockerEngine(docker_address(), installation, self.clock, doors=doors)
        if found == "fake":
            from muelle.engines.fake import FakeEngine, FakeWorld  # noqa: PLC0415

            return FakeEngine(self.clock, installation, FakeWorld(real_sockets=True))
        from muelle.engines.local import LocalEngine  # noqa: PLC0415

        return LocalEngine(self.settings.home / "local", installation, self.clock)

    def make_mailer(self) -> Mailer:
        settings = self.settings
        return self.mailer or mailer(settings.mail.get_secret_value(), settings.home / "mail", settings.mail_from)


@dataclass(frozen=True)
class Desk:
    """What routes find at `app.state.desk` (see `kit.http.routes.Desk`)."""

    callers: Callers
    answers: Mapping[str, Answers]
    service_token: str
    verbs: Mapping[str, object]
    health: Health


class Application:
    """Rooms, the bus between them, and their front. `start` brings it up, `stop` takes it down in good order."""

    def __init__(self, parts: Parts, names: Sequence[str] = ROOMS) -> None:
        _check_names(parts.settings, names)
        self.parts = parts
        self.settings = parts.settings
        self.registry = CollectorRegistry()
        self.bus = parts.make_bus()
        self.http = outgoing(parts.transport)
        self.listening: ingress_room.Listening | None = None
        self._vault = parts.vault()
        self._names = tuple(names)
        self._alone = set(names) == set(ROOMS)
        self.rooms = self._build_rooms()
        self.loops = [loop for room in self.rooms for loop in (*room.furniture.loops, *room.loops)]
        self.desk = self._build_desk()
        self.asgi = self._build_front()

    @property
    def identity(self) -> IdentityVerbs:
        verbs = self.desk.verbs[identity_room.NAME]
        assert isinstance(verbs, IdentityVerbs)  # noqa: S101 - for the type checker
        return verbs

    @property
    def audit(self) -> AuditVerbs:
        verbs = self.desk.verbs[audit_room.NAME]
        assert isinstance(verbs, AuditVerbs)  # noqa: S101 - for the type checker
        return verbs

    async def behind(self) -> dict[str, Line]:
        """The rooms whose databases `migrate` would upgrade, each with its line of migrations."""
        databases = {room.name: room.furniture.database for room in self.rooms}
        return {name: LINES[name] for name, database in databases.items() if await is_behind(database, LINES[name])}

    @property
    def workloads(self) -> WorkloadVerbs:
        verbs = self.desk.verbs[workloads_room.NAME]
        assert isinstance(verbs, WorkloadVerbs)  # noqa: S101 - for the type checker
        return verbs

    async def migrate(self) -> list[Step]:
        return [step for room in self.rooms for step in await migrate(room.furniture.database, LINES[room.name])]

    async def start(self) -> FirstLogIn | None:
        """Upgrades databases, attaches consumers, starts loops; tells the first log-in where there was nobody yet."""
        await self.migrate()
        first = await self.identity.accounts.ensure_administrator() if identity_room.NAME in self._names else None
        for room in self.rooms:
            await room.open()
            for taker in room.furniture.inbox.takers():
                self.bus.attach(taker)
        await self.bus.start()
        for loop in self.loops:
            loop.start()
        return first

    async def stop(self) -> None:
        """Intake first, then loops, then databases: what is not done stays written down."""
        await self.bus.stop()
        await asyncio.gather(*(loop.stop() for loop in self.loops))
        await self.http.aclose()
        for room in self.rooms:
            await room.close()
            await room.furniture.database.close()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Application]:
        await self.start()
        try:
            yield self
        finally:
            await self.stop()

    def _build_rooms(self) -> list[Room]:
        builders: dict[str, Callable[[], Room]] = {
            identity_room.NAME: self._build_identity,
            audit_room.NAME: self._build_audit,
            workloads_room.NAME: self._build_workloads,
            ingress_room.NAME: self._build_ingress,
        }
        return [builders[name]() for name in self._names]

    def _build_identity(self) -> Room:
        furniture = self._furnish(identity_room.NAME, self.parts.open(identity_room.NAME), [])
        settings = self.settings
        verbs = identity_room.verbs(
            furniture,
            clock=self.parts.clock,
            vault=self._vault,
            mailer=self.parts.make_mailer(),
            passwords=self.parts.passwords or Passwords(),
            policy=Policy(
                administrators=settings.administrators,
                signup_open=settings.signup == "open",
                access_lifetime=timedelta(minutes=settings.access_token_minutes),
                session_lifetime=timedelta(days=settings.session_days),
                url=settings.url,
            ),
            providers=_providers(settings, lambda: outgoing(self.parts.transport), self.parts.clock),
            scopes=SCOPES,
            mock=settings.profile is Profile.DEVELOPMENT,
        )
        return identity_room.build(furniture, verbs)

    def _build_audit(self) -> Room:
        database = self.parts.open(audit_room.NAME)
        verbs = AuditVerbs(database)
        return audit_room.build(self._furnish(audit_room.NAME, database, audit_room.consumers(verbs)), verbs)

    def _build_workloads(self) -> Room:
        settings = self.settings
        return workloads_room.build(
            self._furnish(workloads_room.NAME, self.parts.open(workloads_room.NAME), []),
            clock=self.parts.clock,
            vault=self._vault,
            engine=self.parts.make_engine(self._vault),
            rules=workloads_room.Rules(
                home=settings.home,
                apps_domain=settings.apps_domain,
                apps_port=settings.apps_port,
                apps_url=settings.apps_url,
                git_private_hosts=tuple(settings.git_private_hosts),
                trusted=_certificates(settings),
                build_environment=settings.build_environment,
                policy=self.parts.pace,
            ),
        )

    def _build_ingress(self) -> Room:
        settings = self.settings
        database = self.parts.open(ingress_room.NAME)
        verbs = IngressVerbs(database, self.parts.clock)
        furniture = self._furnish(ingress_room.NAME, database, ingress_room.consumers(verbs))
        self.listening = _door(settings, verbs.table, self.parts.clock)
        self.registry.register(IngressMetrics(self.listening.proxy))
        return ingress_room.build(furniture, verbs, self.listening, self.parts.clock)

    def _furnish(self, name: str, database: Database, consumers: Sequence[Consumer]) -> Furniture:
        clock, process = self.parts.clock, self.parts.process
        return Furniture(
            process=process,
            database=database,
            outbox=Outbox(name, database, self.bus, clock, process),
            inbox=Inbox(name, database, clock, consumers),
            answers=Answers(name, database, clock, self._vault, process),
        )

    def _build_desk(self) -> Desk:
        verbs = {room.name: room.verbs for room in self.rooms}
        token = self._vault.mac("service token", b"v1")
        identity = verbs.get(identity_room.NAME)
        callers: Callers = (
            identity.core.recognition
            if isinstance(identity, IdentityVerbs)
            else RemoteCallers(self.http, self.settings.identity_url, token, self.parts.clock)
        )
        checks: dict[str, Check] = {f"database.{r.name}": r.furniture.database.check for r in self.rooms}
        if self.listening is not None:
            checks["ingress"] = self.listening.check
        if isinstance(workloads := verbs.get(workloads_room.NAME), WorkloadVerbs):
            checks["engine"] = workloads.core.engine.check
        return Desk(
            callers=callers,
            answers={room.name: room.furniture.answers for room in self.rooms},
            service_token=token,
            verbs=verbs,
            health=Health(
                __version__,
                self.rooms,
                self.loops,
                checks | {"bus": self.bus.check},
                self.parts.clock,
                self.registry,
                beside=frozenset({"engine", "ingress"}),
            ),
        )

    def _build_front(self) -> Edge:
        api = FastAPI(
            title="Muelle",
            version=__version__,
            description="Accounts, what they run, and what happened. Errors are `application/problem+json`.",
            docs_url=None,
            redoc_url=None,
            openapi_url=f"{PREFIX}/openapi.json",
            openapi_tags=TAGS,
            license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
            strict_content_type=False,
            telemetry={"tracing": False, "metrics": False, "logs": False},
        )
        api.state.desk = self.desk
        add_problem_handlers(api)
        put_up(api, health_router)
        for room in self.rooms:
            for router in (*room.routers, deliveries_router(room.name, room.furniture.inbox)):
                put_up(api, router, prefix=PREFIX)
            for router in () if self._alone else room.internal:
                put_up(api, router)
        add_docs_pages(api, title="Muelle API")
        openapi.complete(api)
        self.api = api
        front = JsonByDefault(_with_cors(api, self.settings.cors_origins))
        return Edge(front, self.registry, body_limit=self.settings.body_limit_bytes)


def all_scopes() -> frozenset[str]:
    """Every scope that some route of some room asks for, whichever process serves it."""
    routers: list[APIRouter] = [
        health_router,
        *identity_http.routers(mock=True),
        audit_http.router,
        *workloads_http.ROUTERS,
        ingress_http.router,
    ]
    found = (declared(getattr(route, "endpoint", None)) for router in routers for route in router.routes)
    return frozenset(stands.access.scope for stands in found if stands and stands.access.scope) | {"system:write"}


def _check_names(settings: Settings, names: Sequence[str]) -> None:
    for name in names:
        if name not in ROOMS:
            raise NoSuchRoom(name=name, rooms=", ".join(ROOMS))


def _certificates(settings: Settings) -> str:
    file = settings.trusted_certificates
    try:
        return file.read_text("ascii") if file else ""
    except (OSError, ValueError) as error:
        raise CertificatesUnreadable(file=file, reason=error) from error


def _door(settings: Settings, table: Table, clock: Clock) -> ingress_room.Listening:
    if settings.ingress == "builtin":
        proxy = Proxy(table, clock, trusted_proxies=settings.trusted_proxies)
        return ingress_room.Listening(BuiltIn(proxy, settings.host, settings.apps_port), proxy)
    from muelle.ingress.caddy import Caddy, Door  # noqa: PLC0415 - not everybody's

    proxy = Proxy(table, clock, trusted_proxies=["127.0.0.1"])
    door = Door(settings.host, settings.apps_port)
    caddy = Caddy(shutil.which("caddy") or "caddy", settings.home / "caddy", door, table, proxy, clock)
    return ingress_room.Listening(caddy, proxy)


def _with_cors(app: ASGIApp, origins: Sequence[str]) -> ASGIApp:
    if not origins:
        return app
    from muelle.kit.http.cors import Cors  # noqa: PLC0415 - not everybody's

    return Cors(app, origins)


def _providers(settings: Settings, http: Callable[[], httpx.AsyncClient], clock: Clock) -> Providers | None:
    if not settings.oidc_providers and not settings.google_client_id:
        return None
    from muelle.identity.oidc.model import Provider, google  # noqa: PLC0415 - large, and not everybody's
    from muelle.identity.oidc.openid import OpenId  # noqa: PLC0415

    known = [
        Provider(name=name, **{field: value for field, value in dict(given).items() if value})
        for name, given in settings.oidc_providers.items()
    ]
    if settings.google_client_id:
        known.append(google(settings.google_client_id, settings.google_client_secret.get_secret_value()))
    return OpenId(known, http=http, clock=clock)


SCOPES = all_scopes()
