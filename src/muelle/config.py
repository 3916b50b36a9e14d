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
from dataclasses import dataclass
from email.utils import parseaddr
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal, get_args
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from muelle.kit.errors import Invalid
from muelle.kit.hosts import is_loopback

PREFIX = "MUELLE_"
SAMPLE_ADMINISTRATOR = "lolerodiez@gmail.com"
FILE_VARIABLE = "MUELLE_CONFIG"
SERVER_VARIABLE = "MUELLE_SERVER"
API_KEY_VARIABLE = "MUELLE_API_KEY"
VARIABLES = {
    FILE_VARIABLE: "The settings file, where it is not `muelle.toml` in the home.",
    SERVER_VARIABLE: "For commands that talk to a server: where it listens.",
    API_KEY_VARIABLE: "For commands that talk to a server: an API key, in place of a log-in.",
}
"""What else begins with MUELLE_ and is no setting: it does not go into the file."""

_FOR_TESTS = re.compile(r"MUELLE_TEST_\w+")
_FROM_KUBERNETES = re.compile(r"MUELLE_(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_\w+)?)")
_MAIL = re.compile(r"file|console|smtps?://.+")


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
        "",
        description="How people reach it, such as `https://cloud.example.com`; used in links. Empty: host and port.",
    )
    trusted_proxies: list[str] = Field(
        [], description="Addresses or networks of proxies whose `X-Forwarded-For` is believed, such as `127.0.0.1`."
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

    engine: Literal["auto", "docker", "local", "fake"] = Field(
        "auto",
        description="What runs workloads: Docker, processes of this machine, or a pretence for trying out. `auto` is "
        "the best that answers.",
    )
    ingress: Literal["builtin", "caddy"] = Field(
        "builtin",
        description="What stands in front of workloads: the built-in proxy, or an installed Caddy, run and told by "
        "Muelle.",
    )
    apps_domain: str = Field(
        "localhost",
        pattern=r"^[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*$",
        description="Workloads are reached at `<name>.<user>.` and this.",
    )
    apps_port: int = Field(7080, ge=0, le=65535, description="The port at which workloads are reached; 0: any.")
    apps_url: str = Field(
        "",
        description="How people reach workloads where something stands in front, such as `https://apps.example.com`: "
        "scheme and port of it are shown. Empty: `http` and the port.",
    )
    git_private_hosts: list[str] = Field(
        [],
        description="Hosts of this machine or of a private network that sources may be fetched from, such as "
        "`git.example.lan`.",
    )

    trusted_certificates: Path | None = Field(
        None,
        description="A file of certificates (PEM) that fetching sources and builds trust beside the usual ones, for "
        "people behind a proxy of their company.",
    )
    build_environment: dict[str, str] = Field(
        {},
        description="Variables that builds see and programs do not, such as "
        '`{"HTTPS_PROXY": "http://proxy.example.com:3128", "PIP_INDEX_URL": "https://packages.example.com/simple"}`.',
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

    mail: SecretStr = Field(
        SecretStr("file"),
        description="Where mail goes: `file` (into `mail/` in the home), `console`, or `smtp://user:password@host:587` "
        "(`smtps://` for TLS from the start).",
    )
    mail_from: str = Field("Muelle <muelle@localhost>", description="The sender of mail.")

    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="What is logged, and above.")
    log_format: Literal["auto", "json", "text"] = Field(
        "auto", description="`auto` is text on a terminal and JSON elsewhere."
    )

    @field_validator("home", mode="before")
    @classmethod
    def _expand(cls, home: object) -> Path:
        if not isinstance(home, str | Path) or not str(home) or "\0" in str(home):
            raise ValueError("must be a folder's path")
        try:
            return Path(home).expanduser().absolute()
        except RuntimeError:
            raise ValueError("begins with `~`, and whose home that is cannot be told: give the whole path") from None

    @field_validator("host")
    @classmethod
    def _one_address(cls, host: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9.:_-]+", host):
            raise ValueError("must be an address or a host name, such as 127.0.0.1 (0.0.0.0 is every interface)")
        return host

    @field_validator("public_url", "identity_url", "apps_url")
    @classmethod
    def _web_address(cls, url: str) -> str:
        if url and not _is_web_address(url):
            raise ValueError("must begin with http:// or https:// and have a host (or be empty)")
        return url

    @field_validator("cors_origins")
    @classmethod
    def _origins(cls, origins: list[str]) -> list[str]:
        for origin in origins:
            if origin != "*" and (not _is_web_address(origin) or urlsplit(origin).path):
                raise ValueError("must be origins such as https://app.example.com, without a path")
        return origins

    @field_validator("trusted_proxies")
    @classmethod
    def _networks(cls, proxies: list[str]) -> list[str]:
        for proxy in proxies:
            try:
                ipaddress.ip_network(proxy, strict=False)
            except ValueError:
                raise ValueError("must be addresses or networks, such as 127.0.0.1 or 10.0.0.0/8") from None
        return proxies

    @field_validator("admin_emails")
    @classmethod
    def _addresses(cls, emails: list[str] | None) -> list[str] | None:
        if emails and not all(re.fullmatch(r"[^@\s]+@[^@\s]+", email.strip()) for email in emails):
            raise ValueError("must be e-mail addresses")
        return emails

    @field_validator("mail")
    @classmethod
    def _driver(cls, mail: SecretStr) -> SecretStr:
        told = mail.get_secret_value()
        if not _MAIL.fullmatch(told) or ("://" in told and not _has_host(told)):
            raise ValueError("must be `file`, `console`, or smtp://user:password@host:587 (smtps:// for TLS at once)")
        return mail

    @field_validator("mail_from")
    @classmethod
    def _sender(cls, sender: str) -> str:
        if not sender.isprintable() or not re.fullmatch(r"[^@\s]+@[^@\s]+", parseaddr(sender)[1]):
            raise ValueError("must be an address, such as Muelle <muelle@example.com>")
        return sender

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
        if not _is_readable(url.get_secret_value()):
            raise ValueError("must have the form postgresql://user:password@host:port/name")
        return SecretStr(re.sub("^postgres://", "postgresql://", url.get_secret_value()))

    @field_validator("rabbit_url")
    @classmethod
    def _amqp_only(cls, url: SecretStr) -> SecretStr:
        if url.get_secret_value() and not url.get_secret_value().startswith(("amqp://", "amqps://")):
            raise ValueError("must begin with amqp:// or amqps:// (or be empty)")
        if url.get_secret_value() and not _has_host(url.get_secret_value()):
            raise ValueError("must have the form amqp://user:password@host:port/")
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
        """Where people find it."""
        return self.public_url.rstrip("/") or self.local_url

    @property
    def local_url(self) -> str:
        """Where this machine finds it."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)  # noqa: S104 - compared, not bound
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}"


def _is_web_address(url: str) -> bool:
    return url.startswith(("http://", "https://")) and _has_host(url) and not re.search(r"\s", url)


def _has_host(url: str) -> bool:
    return _is_readable(url) and bool(urlsplit(url).hostname)


def _is_readable(url: str) -> bool:
    """Whether the parts of an address can be told apart; a port that is no number shows only when it is asked for."""
    try:
        _ = urlsplit(url).port
    except ValueError:
        return False
    return True


@dataclass(frozen=True)
class Loaded:
    """Settings, and where they are from."""

    settings: Settings
    from_environment: frozenset[str]
    from_file: frozenset[str]
    file: Path

    def source(self, name: str) -> str:
        return "environment" if name in self.from_environment else "file" if name in self.from_file else "default"


def load(environment: Mapping[str, str] | None = None, file: Path | None = None) -> Settings:
    """Reads the settings or raises SettingsWrong with one line per problem."""
    return load_with_sources(environment, file).settings


def load_with_sources(environment: Mapping[str, str] | None = None, file: Path | None = None) -> Loaded:
    environment = os.environ if environment is None else environment
    from_environment, problems = _read_environment(environment)
    home = Path(from_environment.get("home") or Settings.model_fields["home"].default)
    named = file or (Path(environment[FILE_VARIABLE]) if environment.get(FILE_VARIABLE) else None)
    path = _expanded(named or home / "muelle.toml")
    from_file, file_problems = _read_file(path, must_exist=named is not None)
    problems += file_problems
    try:
        settings = Settings.model_validate(
            {name: value for name, value in from_file.items() if name in Settings.model_fields} | from_environment
        )
    except ValidationError as error:
        problems += [_complaint(item, frozenset(from_environment), path) for item in error.errors()]
    if problems:
        raise SettingsWrong(problems="\n".join(problems))
    return Loaded(settings, frozenset(from_environment), frozenset(from_file), path)


def _expanded(path: Path) -> Path:
    try:
        return path.expanduser()
    except RuntimeError:
        return path


def _read_environment(environment: Mapping[str, str]) -> tuple[dict[str, Any], list[str]]:
    found: dict[str, Any] = {}
    problems = []
    for variable, text in environment.items():
        if not variable.startswith(PREFIX) or _is_not_a_setting(variable, text):
            continue
        name = variable.removeprefix(PREFIX).lower()
        if name not in Settings.model_fields:
            problems.append(f"{variable} is not a setting.{_did_you_mean(variable, [*_variables(), *VARIABLES])}")
        else:
            found[name] = _from_text(name, text)
    return found, problems


def _variables() -> list[str]:
    return [PREFIX + name.upper() for name in Settings.model_fields]


def _is_not_a_setting(variable: str, text: str) -> bool:
    """Kubernetes tells each container where services are: beside one called "muelle" or "muelle-postgres" there are
    MUELLE_PORT=tcp://… and MUELLE_POSTGRES_SERVICE_HOST. Tests have variables of their own."""
    if variable in VARIABLES or _FOR_TESTS.fullmatch(variable):
        return True
    is_port = variable.endswith("_PORT") and text.startswith(("tcp://", "udp://", "sctp://"))
    return is_port or bool(_FROM_KUBERNETES.fullmatch(variable))


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
    try:
        found = tomllib.loads("" if "\0" in str(path) else path.read_text("utf-8"))
    except FileNotFoundError:
        return {}, [f"The settings file {path} does not exist."] if must_exist else []
    except NotADirectoryError:  # the home is none; that is told where it is needed
        return {}, []
    except OSError as error:
        return {}, [f"The settings file {path} cannot be read: {error.strerror}."]
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        return {}, [f"The settings file {path} cannot be read: {error}."]
    unknown = [name for name in found if name not in Settings.model_fields]
    names = list(Settings.model_fields)
    return found, [f"{name} in {path} is not a setting.{_did_you_mean(name.lower(), names)}" for name in unknown]


def _did_you_mean(name: str, names: list[str]) -> str:
    close = difflib.get_close_matches(name, names, n=1)
    return f" Did you mean {close[0]}?" if close else ""


def _complaint(item: ErrorDetails, from_environment: frozenset[str], file: Path) -> str:
    """A setting's name, what is wrong with it, and what is allowed; never its value, which may be a secret."""
    allowed = item["msg"].removeprefix("Value error, ")
    if not item["loc"]:
        return f"{allowed[0].upper()}{allowed[1:]}."
    first, *inner = (str(part) for part in item["loc"])
    where = "".join(f".{part}" for part in inner)
    name = f"{PREFIX}{first.upper()}{where}" if first in from_environment else f"{first}{where} in {file}"
    return f"{name}: {allowed[0].lower()}{allowed[1:]}."


def documentation() -> str:
    """The settings as a page, from the code."""
    lines = [
        "# Settings",
        "",
        "Made by `make docs`. Each is a variable, or without `MUELLE_` and in lower case a line of `muelle.toml` in",
        f"the home (another file: `{FILE_VARIABLE}`). A variable wins over the file. In a variable, lists are",
        "comma-separated and objects are JSON.",
        "",
        "| Setting | Default | Allowed | What it does |",
        "|---|---|---|---|",
    ]
    for name, field in Settings.model_fields.items():
        default = field.default.get_secret_value() if isinstance(field.default, SecretStr) else field.default
        shown = "" if default in ("", None, [], {}) else f"`{default}`"
        lines.append(f"| `{PREFIX}{name.upper()}` | {shown} | {_allowed(field)} | {field.description} |")
    lines += ["", "Variables that are no settings:", "", "| Variable | What it does |", "|---|---|"]
    lines += [f"| `{name}` | {what} |" for name, what in VARIABLES.items()]
    return "\n".join(lines) + "\n"


def _allowed(field: FieldInfo) -> str:
    kind = field.annotation
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        return ", ".join(f"`{value}`" for value in kind)
    found = ((name, getattr(limit, name, None)) for limit in field.metadata for name in ("ge", "le"))
    bounds = {name: value for name, value in found if value is not None}
    if bounds:
        return f"{bounds['ge']} to {bounds['le']}" if "le" in bounds else f"{bounds['ge']} or more"
    text = str(kind)
    if "Literal" in text:
        return ", ".join(f"`{value}`" for value in get_args(kind))
    return "a list" if "list[" in text else "an object" if "dict[" in text else "text"
