"""The bodies of identity's requests and answers."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, ConfigDict, FailFast, Field

from muelle.identity.log_in import LoggedIn
from muelle.identity.model import LONGEST_NAME, LONGEST_PASSWORD, Account, ApiKey, Session, State
from muelle.kit.http import Body, EmailText, PlainText, Role, Secret, Shown
from muelle.kit.http.values import Id, Moment

LAST_YEAR = 2199


def _foreseeable(moment: datetime) -> datetime:
    if moment.year > LAST_YEAR:
        raise ValueError(f"must not lie beyond the year {LAST_YEAR}")
    return moment


Name = Annotated[PlainText, Field(min_length=1, max_length=LONGEST_NAME, examples=["Ana"])]
NewPassword = Annotated[Secret, Field(min_length=8, max_length=LONGEST_PASSWORD, examples=["correct horse"])]
Password = Annotated[Secret, Field(max_length=LONGEST_PASSWORD, examples=["correct horse"])]
Until = Annotated[Moment, AfterValidator(_foreseeable)]
Code = Annotated[str, Field(pattern=r"^([0-9]{6}|[0-9a-f]{6}-[0-9a-f]{6})$", examples=["123456"])]
Token = Annotated[
    str,
    Field(
        min_length=1,
        max_length=500,
        pattern=r"^[\x21-\x7e]+$",
        description="As it came by mail.",
        examples=["N1ZQSi0xYmQxLTQ4ZjktYjdlMS1jYjY2YTk2ZTJkYzk"],
    ),
]
AccessToken = Annotated[
    str,
    Field(
        description="For the header `Authorization: Bearer …`.",
        examples=["eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIwMTlhIn0.c2ln"],
    ),
]
RefreshToken = Annotated[
    str,
    Field(
        min_length=1,
        max_length=500,
        pattern=r"^[\x21-\x7e]+$",
        description="For one refresh, which gives the next one.",
        examples=["mr_019a2b3c4d5e6f708192a3b4_1_" + "5f" * 32],
    ),
]
Scope = Annotated[str, Field(pattern=r"^(\*|[a-z]+:(\*|[a-z]+))$", examples=["identity:read"])]


class SignUp(Body):
    """A new account."""

    email: EmailText
    password: NewPassword
    name: Name


class PasswordLogIn(Body):
    """Who logs in, and how they show it."""

    email: EmailText
    password: Password
    code: Code | None = Field(None, description="Where the account has a second factor.")


class RefreshBody(Body):
    """The refresh token that was given last."""

    refresh_token: RefreshToken


class EmailBody(Body):
    """An address."""

    email: EmailText


class ResetBody(Body):
    """A code from the mailbox, and the new password."""

    token: Token
    password: NewPassword


class TokenBody(Body):
    """A code from the mailbox."""

    token: Token


class IdTokenBody(Body):
    """What a provider says of a person."""

    id_token: Annotated[
        str,
        Field(
            min_length=1,
            max_length=16_384,
            pattern=r"^[\x21-\x7e]+$",
            description="As the provider signed it.",
            examples=["eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiIxMDc2OSJ9.c2ln"],
        ),
    ]
    nonce: Annotated[str, Field(max_length=200, pattern=r"^[\x21-\x7e]*$", examples=["n-0S6_WzA2Mj"])] | None = Field(
        None, description="The one that the client had asked the provider to put into the token."
    )


class MockLogIn(Body):
    """Who to be."""

    email: EmailText


class Rename(Body):
    """A new name."""

    name: Name


class Closing(Body):
    """The password, so that nobody else closes an account."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"password": "correct horse"}]})

    password: Password | None = Field(None, description="The present one, where the account has one.")


class ChangePassword(Body):
    """The new password, and the present one."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"present": "correct horse", "password": "battery staple"}]}
    )

    present: Password | None = Field(None, description="The present one, where the account has one.")
    password: NewPassword


class CodeBody(Body):
    """A code of the authenticator."""

    code: Code


class TurnOff(Body):
    """What turns the second factor off."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"password": "correct horse", "code": "123456"}]})

    password: Password | None = Field(None, description="The present one, where the account has one.")
    code: Code


class NewKey(Body):
    """What a new API key is for."""

    name: Annotated[PlainText, Field(min_length=1, max_length=100, examples=["deploy from CI"])]
    scopes: Annotated[tuple[Scope, ...], FailFast(), Field(min_length=1, max_length=20, examples=[["identity:read"]])]
    expires_at: Until | None = Field(None, description="When it stops working; without it, never.")


class Suspension(Body):
    """Why."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"reason": "unpaid since May"}]})

    reason: Annotated[
        PlainText, Field(max_length=200, description="For the audit log.", examples=["unpaid since May"])
    ] = ""


class RoleBody(Body):
    """The new role."""

    role: Role


class ShownAccount(Shown):
    """An account."""

    id: Id
    email: str = Field(examples=["ana@example.com"])
    name: str = Field(examples=["Ana"])
    role: Role
    state: State
    email_verified: bool = Field(description="Whether somebody has shown that the address is theirs.", examples=[True])
    second_factor: bool = Field(description="Whether logging in asks for a code, too.", examples=[False])
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
    session_id: Id | None = Field(description="The session that asks, if it is one.")
    key_id: Id | None = Field(description="The API key that asks, if it is one.")
    scopes: list[str] = Field(description="What the credential may be used for; `*` is everything.", examples=[["*"]])


class ShownTokens(Shown):
    """A session's tokens, and whose it is."""

    access_token: AccessToken
    token_type: Literal["Bearer"] = "Bearer"  # noqa: S105 - not a password
    expires_in: int = Field(description="Seconds that the access token is good for.", examples=[900])
    refresh_token: RefreshToken
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
    """Somewhere that the account is logged in."""

    id: Id
    by: str = Field(description="How it was logged in: `password`, or a provider's name.", examples=["password"])
    agent: str = Field(description="What the client called itself.", examples=["Mozilla/5.0 (X11; Linux x86_64)"])
    address: str = Field(description="Where the log-in came from.", examples=["203.0.113.7"])
    created_at: Moment
    seen_at: Moment = Field(description="When it was last refreshed.")
    expires_at: Moment = Field(description="When it ends, unless it is refreshed before.")
    current: bool = Field(description="Whether it is the one that asks.", examples=[True])

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
    """An API key, without its secret."""

    id: Id
    name: str = Field(examples=["deploy from CI"])
    prefix: str = Field(description="How the key begins, to recognise it by.", examples=["mk_1a2b3c4d"])
    scopes: list[str] = Field(description="What it may be used for.", examples=[["identity:read"]])
    created_at: Moment
    expires_at: Moment | None = Field(description="Null: never.")
    last_used_at: Moment | None = Field(description="To the minute; null: never yet.")

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
    """A new API key, with its secret."""

    key: str = Field(
        description="The key itself: shown now and never again.",
        examples=["mk_1a2b3c4d_Zm9yIGV4YW1wbGUgb25seSwgbm90IGEgcmVhbCBrZXk"],
    )


class ShownSetup(Shown):
    """What an authenticator needs."""

    secret: str = Field(description="To type in by hand.", examples=["JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"])
    url: str = Field(
        description="For a QR code that an authenticator reads.",
        examples=["otpauth://totp/Muelle%3Aana%40example.com?secret=JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP&issuer=Muelle"],
    )


class ShownCodes(Shown):
    """For the day that the authenticator is lost."""

    recovery_codes: list[str] = Field(
        description="Each works once, in place of a code: shown now and never again.",
        examples=[["1f2e3d-4c5b6a", "a1b2c3-d4e5f6"]],
    )


class ShownProviders(Shown):
    """Who else one can log in with."""

    providers: list[str] = Field(examples=[["google"]])
    mock: bool = Field(description="Whether mock log-in is there: in development only.", examples=[False])


class ShownRevoked(Shown):
    """How many sessions were closed."""

    revoked: int = Field(examples=[2])
