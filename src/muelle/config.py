"""Settings: from one file and `MUELLE_*` variables, the variables winning.

Whatever is unknown or wrong stops the start with its name and what is allowed. Each setting's description below is its
documentation: `muelle config docs` prints them, and `docs/settings.md` is made from that.
"""

from __future__ import annotations

import difflib
import ipaddress
import json
import os
import re
import tomllib
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator, model_validator

from muelle.kit.errors import Invalid

PREFIX = "MUELLE_"
SAMPLE_ADMINISTRATOR = "lolerodiez@gmail.com"
_NOT_SETTINGS = re.compile(r"MUELLE_(TEST_.*|CONFIG|SERVICE_(HOST|PORT.*)|PORT_\d+_.*)")


class SettingsWrong(Invalid):
    """{problems}"""

    hint = "`muelle config docs` lists every setting."


class Profile(StrEnum):
    PRODUCTION = "production"
    DEVELOPMENT = "development"


class OidcProvider(BaseModel):
    """An OpenID Connect provider; the addresses are looked up at the issuer where they are not given."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    client_id: str
    client_secret: SecretStr = SecretStr("")
    issuer: str
    jwks_uri: str = ""
    authorization_endpoint: str = ""
    token_endpoint: str = ""


class Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    profile: Profile = Field(
        Profile.PRODUCTION,
        description="`production` is safe on a public address. `development` adds mock log-in (anybody is whoever they "
        "say) and a sample administrator, and refuses to listen beyond this machine.",
    )
    home: Path = Field(Path("~/.muelle"), description="The folder with everything that is kept.")
    host: str = Field("127.0.0.1", description="The address to listen on; `0.0.0.0` for every interface.")
    port: int = Field(7070, ge=1, le=65535, description="The main listener's port.")
    public_url: str = Field(
        "", description="How people reach it, such as `https://cloud.example.com`; used in links. Default: host and port."
    )
    trusted_proxies: list[str] = Field(
        [], description="Addresses of proxies whose `X-Forwarded-For` is believed, such as `127.0.0.1`."
    )
    cors_origins: list[str] = Field([], description="Origins of web pages that may call the API from a browser.")
    body_limit_bytes: int = Field(1_048_576, ge=1024, description="The largest body of an ordinary request.")

    database_url: SecretStr = Field(
        SecretStr(""),
        description="A PostgreSQL address, `postgresql://user:password@host/name`; `{room}` in it gives each room a "
        "database of its own, else each has its schema. Empty: a SQLite file per room in the home.",
    )
    rabbit_url: SecretStr = Field(
        SecretStr(""),
        description="A RabbitMQ address, `amqp://user:password@host/`; needed when rooms run as separate processes. "
        "Empty: facts stay inside the process.",
    )
    rabbit_namespace: str = Field(
        "muelle", pattern=r"^[a-z0-9-]{1,40}$", description="What the names of exchanges and queues begin with."
    )
    identity_url: str = Field(
        "", description="Where the identity room listens, for a process that serves only other rooms."
    )

    secret_key: SecretStr = Field(
        SecretStr(""),
        description="The master secret, 32 characters or more, the same for all processes of an installation. "
        "Empty: made at the first start and kept in the home.",
    )
    admin_emails: list[str] | None = Field(
        None,
        description="Who is an administrator once a provider has vouched for the address. A password sign-up never is. "
        f"Default: nobody; in the development profile `{SAMPLE_ADMINISTRATOR}`.",
    )
    signup: Literal["open", "closed"] = Field("open", description="Whether people may open accounts themselves.")
    access_token_minutes: int = Field(15, ge=1, le=1440, description="How long an access token is good.")
    session_days: int = Field(30, ge=1, le=365, description="How long a session lives without being used.")
    google_client_id: str = Field("", description="Turns on log-in with Google.")
    google_client_secret: SecretStr = Field(SecretStr(""), description="Belongs to the client id.")
    oidc_providers: dict[str, OidcProvider] = Field(
        {},
        description="More OpenID Connect providers by name: "
        '`{"work": {"issuer": "https://login.example.com", "client_id": "…", "client_secret": "…"}}`.',
    )

    mail: str = Field(
        "file",
        pattern=r"^(file|console|smtps?://.+)$",
        description="Where mail goes: `file` (into `mail/` in the home), `console`, or `smtp://user:password@host:587` "
        "(`smtps://` for TLS from the start).",
    )
    mail_from: str = Field("Muelle <muelle@localhost>", description="The sender of mail.")

    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="What is logged, and above.")
    log_format: Literal["auto", "json", "text"] = Field(
        "auto", description="`auto` is text on a terminal and JSON elsewhere."
    )

    @field_validator("home")
    @classmethod
    def _expand(cls, home: Path) -> Path:
        return home.expanduser().absolute()

    @field_validator("secret_key")
    @classmethod
    def _long_enough(cls, key: SecretStr) -> SecretStr:
        if 0 < len(key.get_secret_value()) < 32:
            raise ValueError("must have 32 characters or more, or be empty")
        return key

    @field_validator("database_url")
    @classmethod
    def _postgres_only(cls, url: SecretStr) -> SecretStr:
        if url.get_secret_value() and not url.get_secret_value().startswith(("postgresql://", "postgres://")):
            raise ValueError("must begin with postgresql:// (or be empty, for SQLite)")
        return SecretStr(re.sub("^postgres://", "postgresql://", url.get_secret_value()))

    @field_validator("rabbit_url")
    @classmethod
    def _amqp_only(cls, url: SecretStr) -> SecretStr:
        if url.get_secret_value() and not url.get_secret_value().startswith(("amqp://", "amqps://")):
            raise ValueError("must begin with amqp:// or amqps:// (or be empty)")
        return url

    @model_validator(mode="after")
    def _development_stays_at_home(self) -> Settings:
        if self.profile is Profile.DEVELOPMENT and not is_loopback(self.host):
            raise ValueError(
                f"host {self.host} is not this machine alone, and the development profile lets anybody log in: "
                "set MUELLE_HOST=127.0.0.1 or MUELLE_PROFILE=production"
            )
        return self

    @property
    def administrators(self) -> frozenset[str]:
        listed = self.admin_emails
        if listed is None:
            listed = [SAMPLE_ADMINISTRATOR] if self.profile is Profile.DEVELOPMENT else []
        return frozenset(email.strip().lower() for email in listed)

    @property
    def url(self) -> str:
        host = "127.0.0.1" if self.host in ("0.0.0.0", "::") else self.host  # noqa: S104 - compared, not bound
        return self.public_url.rstrip("/") or f"http://{f'[{host}]' if ':' in host else host}:{self.port}"


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def load(environment: Mapping[str, str] | None = None, file: Path | None = None) -> Settings:
    """Reads the settings or raises SettingsWrong with one line per problem."""
    environment = os.environ if environment is None else environment
    from_environment, problems = _read_environment(environment)
    home = Path(from_environment.get("home", Settings.model_fields["home"].default)).expanduser()
    named = file or (Path(environment["MUELLE_CONFIG"]) if "MUELLE_CONFIG" in environment else None)
    from_file, file_problems = _read_file(named or home / "muelle.toml", must_exist=named is not None)
    problems += file_problems
    if problems:
        raise SettingsWrong(problems="\n".join(problems))
    try:
        return Settings.model_validate(from_file | from_environment)
    except ValidationError as error:
        raise SettingsWrong(problems="\n".join(_complaint(item) for item in error.errors())) from None


def _read_environment(environment: Mapping[str, str]) -> tuple[dict[str, Any], list[str]]:
    found: dict[str, Any] = {}
    problems = []
    for variable, text in environment.items():
        if not variable.startswith(PREFIX) or _is_not_a_setting(variable, text):
            continue
        name = variable.removeprefix(PREFIX).lower()
        if name not in Settings.model_fields:
            problems.append(f"{variable} is not a setting.{_did_you_mean(name, PREFIX, str.upper)}")
        else:
            found[name] = _from_text(name, text)
    return found, problems


def _is_not_a_setting(variable: str, text: str) -> bool:
    """Kubernetes puts MUELLE_PORT=tcp://… and kin beside a service called "muelle"; tests have variables of their own."""
    return bool(_NOT_SETTINGS.fullmatch(variable)) or (variable == "MUELLE_PORT" and text.startswith("tcp://"))


def _from_text(name: str, text: str) -> Any:
    """Lists are comma-separated, objects are JSON."""
    kind = str(Settings.model_fields[name].annotation)
    if "dict[" in kind:
        try:
            return json.loads(text or "{}")
        except ValueError:
            return text
    if "list[" in kind:
        return [part.strip() for part in text.split(",") if part.strip()]
    return text


def _read_file(path: Path, *, must_exist: bool) -> tuple[dict[str, Any], list[str]]:
    if not path.exists():
        return {}, [f"The settings file {path} does not exist."] if must_exist else []
    try:
        found = tomllib.loads(path.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        return {}, [f"The settings file {path} cannot be read: {error}."]
    unknown = [name for name in found if name not in Settings.model_fields]
    return found, [f"{name} in {path} is not a setting.{_did_you_mean(name, '', str)}" for name in unknown]


def _did_you_mean(name: str, prefix: str, case: Any) -> str:
    close = difflib.get_close_matches(name, list(Settings.model_fields), n=1)
    return f" Did you mean {prefix}{case(close[0])}?" if close else ""


def _complaint(item: Any) -> str:
    """A setting's name, what is wrong with it, and what is allowed; never its value, which may be a secret."""
    if not item["loc"]:
        return str(item["msg"]).removeprefix("Value error, ")
    name = PREFIX + ".".join(str(part) for part in item["loc"]).upper()
    allowed = str(item["msg"]).removeprefix("Value error, ")
    return f"{name}: {allowed[0].lower()}{allowed[1:]}."


def documentation() -> str:
    """The settings as a page, from the code."""
    lines = [
        "# Settings",
        "",
        "Made by `make docs`. Each is a variable, or without `MUELLE_` and in lower case a line of `muelle.toml` in the "
        "home (another file: `MUELLE_CONFIG`). Lists are comma-separated in a variable, objects are JSON.",
        "",
        "| Setting | Default | What it does |",
        "|---|---|---|",
    ]
    for name, field in Settings.model_fields.items():
        default = field.default.get_secret_value() if isinstance(field.default, SecretStr) else field.default
        shown = "" if default in ("", None, [], {}) else f"`{default}`"
        lines.append(f"| `{PREFIX}{name.upper()}` | {shown} | {field.description} |")
    return "\n".join(lines) + "\n"
