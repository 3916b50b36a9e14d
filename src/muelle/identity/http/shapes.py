"""The bodies of identity's requests and answers."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from muelle.identity.log_in import LoggedIn
from muelle.identity.model import LONGEST_PASSWORD, Account, ApiKey, Session, State
from muelle.kit.http import Body, EmailText, PlainText, Role, Secret, Shown
from muelle.kit.http.values import Id, Moment

Name = Annotated[PlainText, Field(min_length=1, max_length=200, examples=["Ana"])]
NewPassword = Annotated[Secret, Field(min_length=8, max_length=LONGEST_PASSWORD, examples=["correct horse"])]
Password = Annotated[Secret, Field(max_length=LONGEST_PASSWORD, examples=["correct horse"])]
Code = Annotated[str, Field(pattern=r"^([0-9]{6}|[0-9a-f]{6}-[0-9a-f]{6})$", examples=["123456"])]
Token = Annotated[str, Field(min_length=1, max_length=500, pattern=r"^[\x21-\x7e]+$")]
Scope = Annotated[str, Field(pattern=r"^(\*|[a-z]+:(\*|[a-z]+))$", examples=["identity:read"])]


class SignUp(Body):
    email: EmailText
    password: NewPassword
    name: Name


class PasswordLogIn(Body):
    email: EmailText
    password: Password
    code: Code | None = Field(None, description="Where the account has a second factor.")


class RefreshBody(Body):
    refresh_token: Token


class EmailBody(Body):
    email: EmailText


class ResetBody(Body):
    token: Token
    password: NewPassword


class TokenBody(Body):
    token: Token


class IdTokenBody(Body):
    id_token: Annotated[str, Field(min_length=1, max_length=16_384, pattern=r"^[\x21-\x7e]+$")]
    nonce: Annotated[str, Field(max_length=200, pattern=r"^[\x21-\x7e]*$")] | None = None


class MockLogIn(Body):
    email: EmailText


class Rename(Body):
    name: Name


class Closing(Body):
    password: Password | None = Field(None, description="The present one, where the account has one.")


class ChangePassword(Body):
    present: Password | None = Field(None, description="The present one, where the account has one.")
    password: NewPassword


class CodeBody(Body):
    code: Code


class TurnOff(Body):
    password: Password | None = Field(None, description="The present one, where the account has one.")
    code: Code


class NewKey(Body):
    name: Annotated[PlainText, Field(min_length=1, max_length=100, examples=["deploy from CI"])]
    scopes: Annotated[frozenset[Scope], Field(min_length=1, max_length=20, examples=[["identity:read"]])]
    expires_at: Moment | None = None


class Suspension(Body):
    reason: Annotated[PlainText, Field(max_length=200)] = ""


class RoleBody(Body):
    role: Role


class ShownAccount(Shown):
    id: Id
    email: str = Field(examples=["ana@example.com"])
    name: str = Field(examples=["Ana"])
    role: Role
    state: State
    email_verified: bool
    second_factor: bool
    created_at: Moment

    @classmethod
    def of(cls, account: Account) -> ShownAccount:
        return cls(
            id=account.id,
            email=account.email,
            name=account.name,
            role=account.role,
            state=account.state,
            email_verified=account.email_verified,
            second_factor=account.totp_on,
            created_at=account.created_at,
        )


class ShownMe(Shown):
    """Who is asking, as far as it is known without looking anything up."""

    id: Id
    email: str = Field(examples=["ana@example.com"])
    name: str = Field(examples=["Ana"])
    role: Role
    state: State
    session_id: str | None
    key_id: str | None
    scopes: list[str]


class ShownTokens(Shown):
    access_token: str
    token_type: Literal["Bearer"] = "Bearer"  # noqa: S105 - not a password
    expires_in: int = Field(description="Seconds that the access token is good for.", examples=[900])
    refresh_token: str
    account: ShownAccount

    @classmethod
    def of(cls, logged_in: LoggedIn, seconds: int) -> ShownTokens:
        return cls(
            access_token=logged_in.access_token,
            expires_in=seconds,
            refresh_token=logged_in.refresh_token,
            account=ShownAccount.of(logged_in.account),
        )


class ShownSession(Shown):
    id: Id
    by: str = Field(examples=["password"])
    agent: str
    address: str
    created_at: Moment
    seen_at: Moment
    expires_at: Moment
    current: bool

    @classmethod
    def of(cls, session: Session, current: str) -> ShownSession:
        return cls(
            id=session.id,
            by=session.by,
            agent=session.agent,
            address=session.address,
            created_at=session.created_at,
            seen_at=session.seen_at,
            expires_at=session.expires_at,
            current=session.id == current,
        )


class ShownKey(Shown):
    id: Id
    name: str
    prefix: str = Field(description="How the key begins, to recognise it by.", examples=["mk_1a2b3c4d"])
    scopes: list[str]
    created_at: Moment
    expires_at: Moment | None
    last_used_at: Moment | None

    @classmethod
    def fields_of(cls, key: ApiKey) -> dict[str, object]:
        return {
            "id": key.id,
            "name": key.name,
            "prefix": f"mk_{key.prefix}",
            "scopes": sorted(key.scopes),
            "created_at": key.created_at,
            "expires_at": key.expires_at,
            "last_used_at": key.last_used_at,
        }


class ShownMadeKey(ShownKey):
    key: str = Field(description="The key itself: shown now and never again.")


class ShownSetup(Shown):
    secret: str
    url: str = Field(description="For a QR code that an authenticator reads.")


class ShownCodes(Shown):
    recovery_codes: list[str] = Field(description="Each works once, in place of a code: shown now and never again.")


class ShownProviders(Shown):
    providers: list[str] = Field(examples=[["google"]])
    mock: bool = Field(description="Whether mock log-in is there: in development only.")


class ShownRevoked(Shown):
    revoked: int
