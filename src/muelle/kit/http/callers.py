"""`RemoteCallers`: asks the identity room, in another process, who is asking; and remembers it for a moment."""

from __future__ import annotations

from datetime import datetime, timedelta

import httpx
import structlog
from pydantic import BaseModel

from muelle.kit.clock import Clock
from muelle.kit.errors import MuelleError, Unavailable
from muelle.kit.http.access import Caller, Role, TokenExpired, TokenInvalid

REMEMBERED_SECONDS = 2
REMEMBERED_CREDENTIALS = 10_000

_log = structlog.get_logger("muelle.http")


class IdentitySilent(Unavailable):
    """Who is asking cannot be told now: the identity service does not answer."""

    hint = "Try again in a moment."


class ShownCaller(BaseModel):
    account_id: str
    email: str
    name: str
    role: Role
    suspended: bool
    session_id: str
    key_id: str
    scopes: list[str]

    @classmethod
    def of(cls, caller: Caller) -> ShownCaller:
        return cls(**{**vars(caller), "scopes": sorted(caller.scopes)})

    def as_caller(self) -> Caller:
        return Caller(**{**self.model_dump(), "scopes": frozenset(self.scopes)})


class RemoteCallers:
    """Implements `Callers` over HTTP."""

    def __init__(self, http: httpx.AsyncClient, url: str, service_token: str, clock: Clock) -> None:
        self._http = http
        self._url = f"{url.rstrip('/')}/internal/callers"
        self._headers = {"Authorization": f"Muelle-Service {service_token}"}
        self._clock = clock
        self._known: dict[str, tuple[Caller, datetime]] = {}

    async def identify(self, credential: str) -> Caller:
        known = self._known.get(credential)
        if known is not None and self._clock.now() < known[1]:
            return known[0]
        caller = await self._ask(credential)
        if len(self._known) >= REMEMBERED_CREDENTIALS:
            self._known.clear()
        self._known[credential] = caller, self._clock.now() + timedelta(seconds=REMEMBERED_SECONDS)
        return caller

    async def _ask(self, credential: str) -> Caller:
        try:
            answer = await self._http.post(self._url, json={"credential": credential}, headers=self._headers)
        except httpx.HTTPError as error:
            raise IdentitySilent from error
        if answer.status_code != 200:
            raise _refusal(answer)
        return ShownCaller.model_validate_json(answer.content).as_caller()


def _refusal(answer: httpx.Response) -> MuelleError:
    """What identity says of the credential, in its own words; or that it says nothing of it, and then why."""
    try:
        code = str(answer.json()["code"])
    except (ValueError, KeyError, TypeError):
        code = ""
    match answer.status_code, code:
        case 401, TokenExpired.code:
            return TokenExpired()
        case (401, TokenInvalid.code) | (422, _):
            return TokenInvalid()
    _log.error("identity does not tell who is asking", status=answer.status_code, code=code)
    return IdentitySilent()
