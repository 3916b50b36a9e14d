"""/api/v1/me: one's own account, sessions, API keys and second factor."""

from __future__ import annotations

from starlette.requests import Request

from muelle.identity.attempts import TooManyAttempts
from muelle.identity.http.desk import IdentityNow
from muelle.identity.http.shapes import (
    ChangePassword,
    Closing,
    CodeBody,
    NewKey,
    Rename,
    ShownAccount,
    ShownCodes,
    ShownKey,
    ShownMadeKey,
    ShownMe,
    ShownRevoked,
    ShownSession,
    ShownSetup,
    TurnOff,
)
from muelle.identity.model import (
    KeyringFull,
    LastAdministrator,
    NoSuchAccount,
    NoSuchKey,
    NoSuchSession,
    NotInThePast,
    PasswordNeeded,
    PasswordWrong,
    SecondFactorIsOff,
    SecondFactorIsOn,
    SecondFactorWrong,
    State,
    UnknownScope,
)
from muelle.kit.http import Access, CallerNow, RoomRouter
from muelle.kit.http.routes import caller_of
from muelle.kit.http.values import Id

router = RoomRouter("identity", prefix="/me", tags=["Me"])

READ = Access.account("identity:read")
WRITE = Access.account("identity:write")
CREDENTIALS = Access.account("identity:write", even_suspended=True, session_only=True)
"""What touches the ways in: never with an API key, which could make itself stronger."""


@router.get("", READ)
async def get_me(request: Request) -> ShownMe:
    """Who is asking."""
    caller = await caller_of(request)  # what is asked most often asks FastAPI for no dependency
    return ShownMe(
        id=caller.account_id,
        email=caller.email,
        name=caller.name,
        role=caller.role,
        state=State.SUSPENDED if caller.suspended else State.ACTIVE,
        session_id=caller.session_id or None,
        key_id=caller.key_id or None,
        scopes=sorted(caller.scopes),
    )


@router.get("/account", READ, raises=[NoSuchAccount])
async def get_my_account(caller: CallerNow, identity: IdentityNow) -> ShownAccount:
    """The whole of one's own account."""
    return ShownAccount.of(await identity.accounts.get(caller.account_id))


@router.patch("", WRITE)
async def rename_me(body: Rename, caller: CallerNow, identity: IdentityNow) -> ShownAccount:
    """Changes one's name."""
    return ShownAccount.of(await identity.accounts.rename(caller, body.name))


@router.delete(
    "",
    CREDENTIALS,
    raises=[PasswordNeeded, PasswordWrong, LastAdministrator, TooManyAttempts],
    status_code=204,
)
async def close_my_account(body: Closing, caller: CallerNow, identity: IdentityNow) -> None:
    """Closes one's account for ever."""
    await identity.accounts.close(caller, body.password.get_secret_value() if body.password else None)


@router.post(
    "/password",
    CREDENTIALS,
    raises=[PasswordNeeded, PasswordWrong, TooManyAttempts],
    status_code=204,
)
async def change_password(body: ChangePassword, caller: CallerNow, identity: IdentityNow) -> None:
    """Sets a new password and closes all other sessions."""
    present = body.present.get_secret_value() if body.present else None
    await identity.recovery.change(caller, present, body.password.get_secret_value())


@router.get("/sessions", READ)
async def list_my_sessions(caller: CallerNow, identity: IdentityNow) -> list[ShownSession]:
    """Where one is logged in, the latest first."""
    return [ShownSession.of(session, caller.session_id) for session in await identity.log_in.sessions(caller)]


@router.delete("/sessions", CREDENTIALS)
async def revoke_my_other_sessions(caller: CallerNow, identity: IdentityNow) -> ShownRevoked:
    """Closes all sessions but this one."""
    return ShownRevoked(revoked=await identity.log_in.revoke_others(caller))


@router.delete(
    "/sessions/{session_id}",
    Access.owner("identity:write", even_suspended=True, session_only=True),
    raises=[NoSuchSession],
    status_code=204,
)
async def revoke_my_session(session_id: Id, caller: CallerNow, identity: IdentityNow) -> None:
    """Closes one session."""
    await identity.log_in.revoke(caller, session_id)


@router.get("/keys", READ)
async def list_my_keys(caller: CallerNow, identity: IdentityNow) -> list[ShownKey]:
    """One's API keys, without their secrets."""
    return [ShownKey.model_validate(ShownKey.fields_of(key)) for key in await identity.keyring.list(caller)]


@router.post(
    "/keys",
    Access.account("identity:write", session_only=True),
    raises=[UnknownScope, NotInThePast, KeyringFull],
    status_code=201,
)
async def make_key(body: NewKey, caller: CallerNow, identity: IdentityNow) -> ShownMadeKey:
    """Makes an API key. The answer is the only place where it can ever be read."""
    made = await identity.keyring.make(caller, body.name, frozenset(body.scopes), body.expires_at)
    return ShownMadeKey.model_validate(ShownKey.fields_of(made.key) | {"key": made.text})


@router.delete(
    "/keys/{key_id}",
    Access.owner("identity:write", even_suspended=True, session_only=True),
    raises=[NoSuchKey],
    status_code=204,
)
async def revoke_my_key(key_id: Id, caller: CallerNow, identity: IdentityNow) -> None:
    """Revokes an API key."""
    await identity.keyring.revoke(caller, key_id)


@router.post("/second-factor", CREDENTIALS, raises=[SecondFactorIsOn], status_code=201)
async def begin_second_factor(caller: CallerNow, identity: IdentityNow) -> ShownSetup:
    """Begins to set up an authenticator; nothing changes before a code of it is confirmed."""
    setup = await identity.second_factor.begin(caller)
    return ShownSetup(secret=setup.secret, url=setup.url)


@router.post(
    "/second-factor/confirm",
    CREDENTIALS,
    raises=[SecondFactorIsOn, SecondFactorIsOff, SecondFactorWrong, TooManyAttempts],
)
async def confirm_second_factor(body: CodeBody, caller: CallerNow, identity: IdentityNow) -> ShownCodes:
    """Turns the second factor on, with a first code."""
    return ShownCodes(recovery_codes=await identity.second_factor.confirm(caller, body.code))


@router.delete(
    "/second-factor",
    CREDENTIALS,
    raises=[SecondFactorIsOff, SecondFactorWrong, PasswordNeeded, PasswordWrong, TooManyAttempts],
    status_code=204,
)
async def turn_off_second_factor(body: TurnOff, caller: CallerNow, identity: IdentityNow) -> None:
    """Turns the second factor off, with a code."""
    password = body.password.get_secret_value() if body.password else None
    await identity.second_factor.turn_off(caller, password, body.code)
