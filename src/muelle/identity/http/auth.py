"""/api/v1/auth: signing up, in and out, and getting back in."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query, Response
from starlette.requests import Request
from starlette.responses import RedirectResponse

from muelle.identity.attempts import TooManyAttempts
from muelle.identity.browser_log_in import ROUND_TRIP_SECONDS, NoSuchProvider
from muelle.identity.http.desk import AgentNow, IdentityNow
from muelle.identity.http.shapes import (
    EmailBody,
    IdTokenBody,
    MockLogIn,
    PasswordLogIn,
    RefreshBody,
    ResetBody,
    ShownProviders,
    ShownTokens,
    SignUp,
    TokenBody,
)
from muelle.identity.log_in import RefreshReused
from muelle.identity.model import (
    EmailTaken,
    EmailUnproven,
    LinkSpent,
    LogInFailed,
    SecondFactorNeeded,
    SecondFactorWrong,
    SignupClosed,
)
from muelle.identity.oidc.errors import ProviderUnavailable, TokenNotVouched
from muelle.kit.http import Access, CallerNow, RoomRouter
from muelle.kit.http.access import TokenExpired, TokenInvalid

router = RoomRouter("identity", prefix="/auth", tags=["Signing in"])
mock_router = RoomRouter("identity", prefix="/auth", tags=["Signing in"])

Provider = Annotated[str, Path(pattern=r"^[a-z0-9][a-z0-9-]{0,39}$", examples=["google"])]
SetByProvider = Annotated[
    str, Query(min_length=1, max_length=4096, pattern=r"^[\x21-\x7e]+$", description="Set by the provider.")
]


@router.post("/signup", Access.anybody(), raises=[EmailTaken, SignupClosed, TooManyAttempts], status_code=201)
async def sign_up(body: SignUp, identity: IdentityNow, agent: AgentNow) -> ShownTokens:
    """Opens a client's account and logs in. A letter with a code confirms the address."""
    logged_in = await identity.log_in.sign_up(body.email, body.password.get_secret_value(), body.name, agent)
    return ShownTokens.of(logged_in, identity.access_seconds)


@router.post("/login", Access.anybody(), raises=[LogInFailed, SecondFactorNeeded, SecondFactorWrong, TooManyAttempts])
async def log_in(body: PasswordLogIn, identity: IdentityNow, agent: AgentNow) -> ShownTokens:
    """Logs in with the password, and a code where the account has a second factor."""
    password = body.password.get_secret_value()
    logged_in = await identity.log_in.with_password(body.email, password, body.code, agent)
    return ShownTokens.of(logged_in, identity.access_seconds)


@router.post("/refresh", Access.anybody(), raises=[TokenInvalid, TokenExpired, RefreshReused])
async def refresh_tokens(body: RefreshBody, identity: IdentityNow) -> ShownTokens:
    """Gives fresh tokens for a refresh token, which is spent by that: using one twice closes the session."""
    return ShownTokens.of(await identity.log_in.refresh(body.refresh_token), identity.access_seconds)


@router.post("/logout", Access.account("identity:write", even_suspended=True, session_only=True), status_code=204)
async def log_out(caller: CallerNow, identity: IdentityNow) -> None:
    """Closes this session: its tokens are worth nothing from now on."""
    await identity.log_in.log_out(caller)


@router.post("/password/forgot", Access.anybody(), raises=[TooManyAttempts], status_code=202)
async def forgot_password(body: EmailBody, identity: IdentityNow) -> None:
    """Sends a code to the address, if there is such an account; the answer is the same if not."""
    await identity.recovery.ask(body.email)


@router.post("/password/reset", Access.anybody(), raises=[LinkSpent], status_code=204)
async def reset_password(body: ResetBody, identity: IdentityNow) -> None:
    """Sets a new password with a code from the mailbox, and closes all sessions."""
    await identity.recovery.reset(body.token, body.password.get_secret_value())


@router.post(
    "/email/send",
    Access.account("identity:write", even_suspended=True, session_only=True),
    raises=[TooManyAttempts],
    status_code=202,
)
async def send_code(caller: CallerNow, identity: IdentityNow) -> None:
    """Sends the code for confirming the address once more."""
    await identity.proof.ask_again(caller)


@router.post(
    "/email/verify",
    Access.account("identity:write", even_suspended=True, session_only=True),
    raises=[LinkSpent],
    status_code=204,
)
async def verify_email(body: TokenBody, caller: CallerNow, identity: IdentityNow) -> None:
    """Confirms the address with the code from the mailbox."""
    await identity.proof.confirm(caller, body.token)


@router.get("/providers", Access.anybody())
async def list_providers(identity: IdentityNow) -> ShownProviders:
    """Who else one can log in with."""
    return ShownProviders(providers=identity.browser.names, mock=identity.browser.mock)


@router.post(
    "/providers/{provider}/token",
    Access.anybody(),
    raises=[NoSuchProvider, TokenNotVouched, EmailUnproven, SignupClosed, ProviderUnavailable],
)
async def log_in_with_id_token(
    provider: Provider, body: IdTokenBody, identity: IdentityNow, agent: AgentNow
) -> ShownTokens:
    """Logs in with an ID token that the provider gave to the client."""
    logged_in = await identity.browser.with_id_token(provider, body.id_token, body.nonce, agent)
    return ShownTokens.of(logged_in, identity.access_seconds)


@router.get(
    "/providers/{provider}/start",
    Access.anybody(),
    raises=[NoSuchProvider, ProviderUnavailable],
    status_code=302,
    response_class=RedirectResponse,
)
async def start_at_provider(provider: Provider, identity: IdentityNow) -> Response:
    """Sends the browser to the provider."""
    on_the_way, cookie = await identity.browser.begin(provider), identity.browser.cookie
    response = RedirectResponse(on_the_way.url, 302)
    response.set_cookie(
        cookie.name,
        on_the_way.cookie,
        max_age=ROUND_TRIP_SECONDS,
        path=cookie.path,
        secure=cookie.secure,
        httponly=True,
        samesite="lax",
    )
    return response


@router.get(
    "/providers/{provider}/callback",
    Access.anybody(),
    raises=[NoSuchProvider, LinkSpent, TokenNotVouched, EmailUnproven, SignupClosed, ProviderUnavailable],
)
async def back_from_provider(
    provider: Provider,
    *,
    code: SetByProvider,
    state: SetByProvider,
    request: Request,
    response: Response,
    identity: IdentityNow,
    agent: AgentNow,
) -> ShownTokens:
    """Where the provider sends the browser back to."""
    cookie = identity.browser.cookie
    kept = request.cookies.get(cookie.name, "")
    logged_in = await identity.browser.finish(provider, code, state, kept, agent)
    response.delete_cookie(cookie.name, cookie.path, secure=cookie.secure, httponly=True, samesite="lax")
    return ShownTokens.of(logged_in, identity.access_seconds)


@mock_router.post("/mock", Access.anybody(), raises=[SignupClosed])
async def mock_log_in(body: MockLogIn, identity: IdentityNow, agent: AgentNow) -> ShownTokens:
    """Development only: logs in as whoever one says."""
    return ShownTokens.of(await identity.browser.mocked(body.email, agent), identity.access_seconds)


def routers(*, mock: bool) -> list[APIRouter]:
    """Mock log-in is a route of its own, so that in production there is nothing to switch on by mistake."""
    return [router, mock_router] if mock else [router]
