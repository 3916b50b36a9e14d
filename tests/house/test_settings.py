"""Settings: one file and variables, the variables winning; what is wrong is told by name, and each is documented."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muelle import config
from muelle.config import Profile, Settings, SettingsWrong

ROOT = Path(__file__).parents[2]
SAMPLES = {
    "profile": "development",
    "home": "/tmp/elsewhere",  # noqa: S108 - nothing is written there
    "host": "::1",
    "port": "8080",
    "public_url": "https://cloud.example.com/",
    "trusted_proxies": "127.0.0.1, 10.0.0.0/8",
    "cors_origins": "https://a.example.com,http://localhost:3000",
    "body_limit_bytes": "2048",
    "database_url": "postgres://ana:secret@db.example.com/{room}",
    "rabbit_url": "amqps://ana:secret@mq.example.com/",
    "rabbit_namespace": "test-1",
    "identity_url": "http://identity:7070",
    "engine": "fake",
    "ingress": "caddy",
    "apps_domain": "apps.example.com",
    "apps_port": "8081",
    "apps_url": "https://apps.example.com",
    "git_private_hosts": "git.example.lan",
    "trusted_certificates": "/etc/ssl/ours.pem",
    "build_environment": '{"HTTPS_PROXY": "http://proxy.example.com:3128"}',
    "secret_key": "x" * 32,
    "admin_emails": "Ana@example.com",
    "signup": "closed",
    "access_token_minutes": "5",
    "session_days": "1",
    "google_client_id": "google",
    "google_client_secret": "secret",
    "oidc_providers": '{"work": {"issuer": "https://login.example.com", "client_id": "me"}}',
    "mail": "smtps://ana:secret@mail.example.com",
    "mail_from": "Cloud <cloud@example.com>",
    "log_level": "debug",
    "log_format": "json",
}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


def load(home: Path, file: str = "", **variables: str) -> Settings:
    if file:
        (home / "muelle.toml").write_text(file)
    return config.load({"MUELLE_HOME": str(home), **variables})


def wrong(home: Path, file: str = "", **variables: str) -> list[str]:
    with pytest.raises(SettingsWrong) as told:
        load(home, file, **variables)
    return told.value.message.splitlines()


# --- the documentation


def test_the_page_about_settings_is_what_the_code_says() -> None:
    assert (ROOT / "docs/settings.md").read_text() == config.documentation(), "make docs"


@pytest.mark.parametrize("name", Settings.model_fields)
def test_each_setting_is_described(name: str) -> None:
    description = Settings.model_fields[name].description
    assert description
    assert description.endswith(".")
    assert f"| `MUELLE_{name.upper()}` |" in config.documentation()


# --- where they come from


def test_every_setting_can_be_a_variable(home: Path) -> None:
    assert set(SAMPLES) == set(Settings.model_fields)
    settings = config.load({f"MUELLE_{name.upper()}": text for name, text in SAMPLES.items()})
    assert settings.model_fields_set == set(SAMPLES)
    assert settings.trusted_proxies == ["127.0.0.1", "10.0.0.0/8"]
    assert settings.oidc_providers["work"].client_id == "me"
    assert settings.database_url.get_secret_value().startswith("postgresql://")
    assert settings.administrators == {"ana@example.com"}
    assert (settings.url, settings.local_url) == ("https://cloud.example.com", "http://[::1]:8080")


def test_a_variable_wins_over_the_file_and_the_file_over_the_default(home: Path) -> None:
    file = 'port = 8080\nsignup = "closed"\ntrusted_proxies = ["10.0.0.1"]\n'
    loaded = load(home, file, MUELLE_PORT="9090")
    assert (loaded.port, loaded.signup, loaded.trusted_proxies, loaded.host) == (
        9090,
        "closed",
        ["10.0.0.1"],
        "127.0.0.1",
    )


def test_the_file_may_lie_elsewhere_and_then_has_to_be_there(home: Path) -> None:
    elsewhere = home / "other.toml"
    assert wrong(home, MUELLE_CONFIG=str(elsewhere)) == [f"The settings file {elsewhere} does not exist."]
    elsewhere.write_text("port = 8080")
    assert load(home, MUELLE_CONFIG=str(elsewhere)).port == 8080
    assert load(home, MUELLE_CONFIG="").port == 7070


def test_lists_are_comma_separated_and_objects_json(home: Path) -> None:
    assert load(home, MUELLE_CORS_ORIGINS="").cors_origins == []
    assert load(home, MUELLE_CORS_ORIGINS="http://a, http://b,").cors_origins == ["http://a", "http://b"]
    assert load(home, MUELLE_OIDC_PROVIDERS="").oidc_providers == {}
    assert wrong(home, MUELLE_OIDC_PROVIDERS="{not json")[0].startswith("MUELLE_OIDC_PROVIDERS: ")
    inner = wrong(home, MUELLE_OIDC_PROVIDERS='{"work": {"issuer": "x", "client_id": "y", "colour": "red"}}')
    assert inner == ["MUELLE_OIDC_PROVIDERS.work.colour: extra inputs are not permitted."]


def test_no_secret_is_in_what_the_settings_show_of_themselves() -> None:
    settings = config.load({f"MUELLE_{name.upper()}": text for name, text in SAMPLES.items()})
    assert "mail=SecretStr" in repr(settings)
    assert not any(hush in repr(settings) for hush in ("ana:secret", "x" * 32, "client_secret='"))


# --- what is wrong


@pytest.mark.parametrize(
    ("variable", "text", "allowed"),
    [
        ("PROFILE", "prod", "'production' or 'development'"),
        ("HOME", "", "a folder's path"),
        ("HOME", "~nobody-of-that-name/x", "the whole path"),
        ("HOST", "", "an address or a host name"),
        ("HOST", "http://127.0.0.1", "an address or a host name"),
        ("PORT", "seven", "a valid integer"),
        ("PORT", "0", "greater than or equal to 1"),
        ("PORT", "70707", "less than or equal to 65535"),
        ("PUBLIC_URL", "cloud.example.com", "http:// or https://"),
        ("TRUSTED_PROXIES", "proxy", "addresses or networks"),
        ("CORS_ORIGINS", "https://a.example.com/", "without a path"),
        ("BODY_LIMIT_BYTES", "1", "1024"),
        ("DATABASE_URL", "mysql://x", "postgresql://"),
        ("DATABASE_URL", "postgresql://ana:hush@h:port/x", "postgresql://user:password@host:port/name"),
        ("RABBIT_URL", "http://x", "amqp://"),
        ("RABBIT_URL", "amqp://ana:hu/sh@h", "amqp://user:password@host"),
        ("RABBIT_NAMESPACE", "Ñ", "pattern"),
        ("IDENTITY_URL", "identity:7070", "http:// or https://"),
        ("SECRET_KEY", "hush", "32 characters or more"),
        ("ADMIN_EMAILS", "ana", "e-mail addresses"),
        ("SIGNUP", "maybe", "'open' or 'closed'"),
        ("SESSION_DAYS", "366", "less than or equal to 365"),
        ("MAIL", "sendmail", "`file`, `console`"),
        ("MAIL", "smtp://", "`file`, `console`"),
        ("MAIL_FROM", "Muelle", "an address"),
        ("MAIL_FROM", "Muelle <m@example.com>\nBcc: x@example.com", "an address"),
        ("LOG_LEVEL", "loud", "'debug', 'info', 'warning' or 'error'"),
    ],
)
def test_a_wrong_setting_is_told_with_its_name_and_what_is_allowed(
    home: Path, variable: str, text: str, allowed: str
) -> None:
    (told,) = wrong(home, **{f"MUELLE_{variable}": text})
    assert told.startswith(f"MUELLE_{variable}: ")
    assert allowed in told
    assert not any(hush in told for hush in ("hush", "hu/sh"))


def test_everything_that_is_wrong_is_told_at_once(home: Path) -> None:
    told = wrong(home, "hots = 1\nport = 0\n", MUELLE_PROT="1", MUELLE_SIGNUP="?")
    assert told == [
        "MUELLE_PROT is not a setting. Did you mean MUELLE_PORT?",
        f"hots in {home}/muelle.toml is not a setting. Did you mean host?",
        f"port in {home}/muelle.toml: input should be greater than or equal to 1.",
        "MUELLE_SIGNUP: input should be 'open' or 'closed'.",
    ]


def test_a_file_that_cannot_be_read_is_told(home: Path) -> None:
    assert "cannot be read: " in wrong(home, "port = ")[0]
    (home / "muelle.toml").write_bytes(b"\xff\xfe")
    assert "cannot be read: " in wrong(home)[0]
    (home / "muelle.toml").unlink()
    (home / "muelle.toml").mkdir()
    assert wrong(home) == [f"The settings file {home}/muelle.toml cannot be read: Is a directory."]


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "example.com"])  # noqa: S104
def test_the_development_profile_stays_on_this_machine(home: Path, host: str) -> None:
    assert load(home, MUELLE_HOST=host).profile is Profile.PRODUCTION
    (told,) = wrong(home, MUELLE_HOST=host, MUELLE_PROFILE="development")
    assert "MUELLE_HOST=127.0.0.1 or MUELLE_PROFILE=production" in told
    for loopback in ("127.0.0.1", "::1", "localhost"):
        assert load(home, MUELLE_HOST=loopback, MUELLE_PROFILE="development").administrators


def test_what_kubernetes_tells_a_container_is_no_setting(home: Path) -> None:
    names = ("MUELLE", "MUELLE_POSTGRES", "MUELLE_DATABASE")
    told: dict[str, str] = {}
    for name in names:
        told |= {
            f"{name}_SERVICE_HOST": "10.0.0.1",
            f"{name}_SERVICE_PORT": "7070",
            f"{name}_SERVICE_PORT_HTTP": "7070",
            f"{name}_PORT": "tcp://10.0.0.1:7070",
            f"{name}_PORT_7070_TCP": "tcp://10.0.0.1:7070",
            f"{name}_PORT_7070_TCP_PROTO": "tcp",
            f"{name}_PORT_7070_TCP_PORT": "7070",
            f"{name}_PORT_7070_TCP_ADDR": "10.0.0.1",
        }
    assert load(home, **told) == load(home)


@given(st.text(st.characters(codec="ascii", categories=["Lu", "Nd"]), min_size=1), st.text(max_size=30))
def test_no_name_and_no_value_brings_it_down(name: str, value: str) -> None:
    assert loads_or_tells({"MUELLE_HOME": "/nowhere", f"MUELLE_{name}": value})


@given(st.sampled_from(sorted(SAMPLES)), st.text(max_size=40))
def test_no_text_in_a_setting_brings_it_down(name: str, value: str) -> None:
    assert loads_or_tells({"MUELLE_HOME": "/nowhere", f"MUELLE_{name.upper()}": value})


def loads_or_tells(variables: dict[str, str]) -> bool:
    try:
        config.load(variables)
    except SettingsWrong as told:
        return "MUELLE_" in told.message
    return True
