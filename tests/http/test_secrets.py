"""Secrets stay where they belong: not in a log line, not in an answer that need not show them, not in a database.

Each secret of a session in which much is done and much goes wrong is looked for, letter by letter, everywhere.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from muelle import config
from muelle.app import Application, Parts
from muelle.identity import totp
from muelle.kit.http import Access, RoomRouter
from muelle.kit.http.routes import put_up
from muelle.kit.mail import SmtpMailer
from tests.http.listening import Lines, listening
from tests.waiting import eventually
from tests.world import ONE, PREFIX, Person, World, installation

PASSWORD = "canary-old-password-77b1"
NEW_PASSWORD = "canary-new-password-90c4"
MASTER_KEY = "canary-master-key-5d2e-long-enough-for-anybody"
CLIENT_SECRET = "canary-client-secret-e810"
DATABASE_PASSWORD = "canary-database-password-41aa"
BROKER_PASSWORD = "canary-broker-password-cc02"
MAIL_PASSWORD = "canary-mail-password-3f6d"
PROVIDERS = f'{{"acme": {{"issuer": "https://login.invalid", "client_id": "us", "client_secret": "{CLIENT_SECRET}"}}}}'
NOWHERE = "127.0.0.1:1"


@pytest.fixture
def lines() -> Iterator[Lines]:
    with listening("debug") as lines:
        yield lines


SHORT = 20


class Witness:
    """Keeps every answer, and what may be told in which."""

    def __init__(self) -> None:
        self.secrets = {"password": PASSWORD, "new password": NEW_PASSWORD, "master key": MASTER_KEY}
        self.secrets |= {"client secret": CLIENT_SECRET}
        self._answers: list[httpx.Response] = []
        self._shown: dict[str, list[httpx.Response]] = {}

    def listen(self, world: World) -> None:
        real = world.ask

        async def overheard(*arguments: Any, **options: Any) -> httpx.Response:
            answer = await real(*arguments, **options)
            self._answers.append(answer)
            return answer

        world.ask = overheard  # type: ignore[method-assign]

    def shown(self, answer: httpx.Response, **secrets: str) -> None:
        """These are told in that answer, rightly; nowhere else."""
        for name, secret in secrets.items():
            assert secret in answer.text
            self.secrets[f"{name} {len(self.secrets)}"] = secret
            self._shown.setdefault(secret, []).append(answer)  # two tokens of one second are one

    def tokens(self, answer: httpx.Response) -> dict[str, Any]:
        told: dict[str, Any] = answer.json()
        self.shown(answer, access_token=told["access_token"], refresh_token=told["refresh_token"])
        return told

    def finds_nothing_in_answers(self) -> None:
        for answer in self._answers:
            for name, secret in self.secrets.items():
                assert secret not in answer.text or answer in self._shown.get(secret, ()), (name, answer.request.url)

    def finds_nothing_in(self, where: str, content: str | bytes) -> None:
        raw = content.encode() if isinstance(content, str) else content
        for name, secret in self.secrets.items():
            rest = secret[8:] if len(secret) > SHORT else secret  # a few digits are found anywhere, by chance
            for form in (secret, rest, base64.b64encode(secret.encode()).decode().rstrip("=")[:-2]):
                at = raw.find(form.encode())
                assert at < 0, f"the {name} is in {where}: … {raw[max(0, at - 300) : at + 100]!r} …"


async def test_no_secret_of_a_long_session_is_found_anywhere(tmp_path: Path, lines: Lines) -> None:
    witness = Witness()
    home = tmp_path / "home"
    settings = {"oidc_providers": PROVIDERS, "secret_key": MASTER_KEY}
    async with installation(ONE, home, **settings) as world:
        witness.listen(world)
        ana = await _a_full_life(world, witness)
        await _much_goes_wrong(world, ana, witness)
        await world.settled()
    witness.finds_nothing_in_answers()
    assert len(lines.all("request")) > 25
    witness.finds_nothing_in("the log", lines.text)
    files = [file for file in home.rglob("*") if file.is_file()]
    assert {"identity.db", "audit.db"} <= {file.name for file in files}
    for file in files:
        witness.finds_nothing_in(file.name, file.read_bytes())


async def _a_full_life(world: World, witness: Witness) -> Person:
    """Signs up, proves the address, makes keys, turns the second factor on, forgets the password, and gets it back."""
    key = {"Idempotency-Key": "canary-session"}
    sign_up = {"email": "ana@example.com", "password": PASSWORD, "name": "Ana"}
    told = await world.ask("POST", "/auth/signup", json=sign_up, headers=key)
    ana = Person(world, "ana@example.com", witness.tokens(told))
    proof = await world.letter_code(ana.email)
    witness.secrets["proof"] = proof
    assert (await ana.post("/auth/email/verify", {"token": proof})).status_code == 204
    made = await ana.post("/me/keys", {"name": "robot", "scopes": ["*"]}, headers=key | {"Idempotency-Key": "make"})
    witness.shown(made, api_key=made.json()["key"])
    robot = Person(world, ana.email, key=made.json()["key"])
    assert (await robot.get("/me/history")).status_code == 200
    setup = await ana.post("/me/second-factor")
    witness.shown(setup, totp_secret=setup.json()["secret"])
    secret = base64.b32decode(setup.json()["secret"])
    code = totp.code_at(secret, totp.step_at(world.clock.now()))
    codes = await ana.post("/me/second-factor/confirm", {"code": code})
    witness.shown(codes, **{f"recovery{number}": code for number, code in enumerate(codes.json()["recovery_codes"])})
    again = await world.ask("POST", "/auth/refresh", json={"refresh_token": ana.tokens["refresh_token"]})
    ana.tokens |= witness.tokens(again)
    changed = await ana.post("/me/password", {"present": PASSWORD, "password": NEW_PASSWORD})
    assert changed.status_code == 204
    await world.ask("POST", "/auth/password/forgot", json={"email": ana.email})
    reset = await world.letter_code(ana.email, "password")
    witness.secrets["reset code"] = reset
    back = await world.ask("POST", "/auth/password/reset", json={"token": reset, "password": PASSWORD})
    assert back.status_code == 204
    log_in = {"email": ana.email, "password": PASSWORD, "code": codes.json()["recovery_codes"][0]}
    told = await world.ask("POST", "/auth/login", json=log_in)
    ana.tokens |= witness.tokens(told)
    return ana


async def _much_goes_wrong(world: World, ana: Person, witness: Witness) -> None:
    """Wrong requests with right secrets in them; a provider, a mail server and a database that fail; bugs."""
    for body in (
        {"email": PASSWORD, "password": PASSWORD},
        {"email": ana.email, "password": {"x": PASSWORD}},
        {"email": ana.email, "password": PASSWORD, "code": NEW_PASSWORD},
        {"email": ana.email, "password": PASSWORD, "name": NEW_PASSWORD, "unknown": NEW_PASSWORD},
        [PASSWORD],
        PASSWORD,
    ):
        for path in ("/auth/login", "/auth/signup", "/auth/password/reset"):
            assert (await world.ask("POST", path, json=body)).status_code in (401, 403, 409, 422, 429)
    await ana.post("/auth/login", content=f'{{"password": "{PASSWORD}"'.encode())
    await ana.get(f"/me?password={PASSWORD}&access_token={ana.credential}")
    spent = {"refresh_token": ana.tokens["refresh_token"] + "0"}
    await world.ask("POST", "/auth/refresh", json=spent)
    await world.ask("GET", "/me", headers={"Authorization": f"Bearer {ana.credential}x"})
    await world.ask("GET", "/me", headers={"Authorization": f"Basic {PASSWORD}"})
    await world.ask("GET", "/auth/providers/acme/start")
    await world.ask("POST", "/auth/providers/acme/token", json={"id_token": f"{ana.credential}"})
    await world.ask("GET", "/auth/providers/acme/callback?code=canary-code&state=canary-state")
    await _bugs(world, ana)
    world.postbox.broken = True
    await world.ask("POST", "/auth/password/forgot", json={"email": ana.email})
    letters = next(loop for loop in world.identity.loops if loop.name == "identity.letters")
    await eventually(lambda: letters.outcome.runs)
    database = world.identity.rooms[0].furniture.database
    async with database.transaction() as tx:
        for table in ("api_keys", "one_time_tokens", "recovery_codes"):
            await tx.run(text(f"DROP TABLE {table}"))
    assert (await ana.post("/me/keys", {"name": "robot", "scopes": ["*"]})).status_code >= 500
    reset = {"token": witness.secrets["proof"], "password": PASSWORD}
    failing = await world.ask("POST", "/auth/password/reset", json=reset)
    assert failing.status_code >= 500
    key = next(secret for name, secret in witness.secrets.items() if name.startswith("api_key"))
    assert (await world.ask("GET", "/me", headers={"Authorization": f"Bearer {key}"})).status_code >= 500


async def _bugs(world: World, ana: Person) -> None:
    """Exceptions with secrets in their words."""
    router = RoomRouter("identity", prefix="/bugs")
    words = [
        f"the token {ana.credential} is odd",
        f"refresh_token={ana.tokens['refresh_token']}",
        f"password={PASSWORD} does not fit",
        f"{{'password': '{PASSWORD}', \"client_secret\": \"{CLIENT_SECRET}\"}}",
        f"Authorization: Bearer {ana.credential}",
    ]

    @router.get("/{number}", Access.anybody())
    async def bug(number: int) -> None:
        raise RuntimeError(words[number])

    put_up(world.identity.api, router, prefix=PREFIX)
    for number in range(len(words)):
        assert (await world.ask("GET", f"/bugs/{number}")).status_code == 500


async def test_the_passwords_of_what_does_not_answer_are_not_told(tmp_path: Path, lines: Lines) -> None:
    """A database, a broker and a mail server that nobody answers at."""
    secrets = {
        "MUELLE_DATABASE_URL": f"postgresql://muelle:{DATABASE_PASSWORD}@{NOWHERE}/muelle",
        "MUELLE_RABBIT_URL": f"amqp://muelle:{BROKER_PASSWORD}@{NOWHERE}/",
        "MUELLE_MAIL": f"smtp://muelle:{MAIL_PASSWORD}@{NOWHERE}",
    }
    loaded = config.load({"MUELLE_HOME": str(tmp_path), "MUELLE_SECRET_KEY": MASTER_KEY, **secrets})
    application = Application(Parts(loaded))
    told = []
    transport = httpx.ASGITransport(application.asgi, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://muelle") as client:
        health = await client.get("/health/ready")
        log_in = await client.post(f"{PREFIX}/auth/login", json={"email": "a@example.com", "password": PASSWORD})
    assert (health.status_code, log_in.status_code) == (503, 503)
    told += [health.text, log_in.text]
    for attempt in (application.start(), application.identity.accounts.get("0" * 24)):
        with pytest.raises(Exception, match=r"(?s).*") as failure:
            await asyncio.wait_for(attempt, 10)
        told += [str(failure.value), repr(failure.value)]
    for loop in application.loops:
        await loop.run_once()
        told.append(loop.outcome.last_error)
    await application.stop()
    witness = Witness()
    witness.secrets |= {"database": DATABASE_PASSWORD, "broker": BROKER_PASSWORD, "mail": MAIL_PASSWORD}
    witness.finds_nothing_in("what is told", "\n".join(told))
    witness.finds_nothing_in("the log", lines.text)
    assert isinstance(application.parts.make_mailer(), SmtpMailer)
