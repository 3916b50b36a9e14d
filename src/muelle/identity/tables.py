"""The room's tables, as the newest migration leaves them."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
)

from muelle.kit.db import Instant

metadata = MetaData()


def _account_id(*, primary_key: bool = False) -> Column[str]:
    account = ForeignKey("accounts.id", ondelete="CASCADE")
    return Column("account_id", String(24), account, nullable=False, primary_key=primary_key)


accounts = Table(
    "accounts",
    metadata,
    Column("id", String(24), primary_key=True),
    Column("email", String(254), nullable=False, unique=True),
    Column("name", String(200), nullable=False),
    Column("password_hash", String(255), nullable=True),
    Column("role", String(10), nullable=False),
    Column("role_why", String(10), nullable=False),
    Column("state", String(10), nullable=False),
    Column("email_verified", Boolean, nullable=False),
    Column("totp_sealed", LargeBinary, nullable=True),
    Column("totp_on", Boolean, nullable=False),
    Column("totp_last_step", BigInteger, nullable=False),
    Column("version", Integer, nullable=False),
    Column("created_at", Instant, nullable=False),
    CheckConstraint("role IN ('client', 'admin')", name="account_role"),
    CheckConstraint("state IN ('active', 'suspended')", name="account_state"),
)

provider_links = Table(
    "provider_links",
    metadata,
    Column("issuer", String(255), primary_key=True),
    Column("subject", String(255), primary_key=True),
    _account_id(),
    Column("provider", String(50), nullable=False),
    Column("linked_at", Instant, nullable=False),
    Index("provider_links_of_account", "account_id"),
)

sessions = Table(
    "sessions",
    metadata,
    Column("id", String(24), primary_key=True),
    _account_id(),
    Column("generation", Integer, nullable=False),
    Column("by", String(50), nullable=False),
    Column("agent", String(200), nullable=False),
    Column("address", String(64), nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("seen_at", Instant, nullable=False),
    Column("expires_at", Instant, nullable=False),
    Index("sessions_of_account", "account_id"),
    Index("sessions_by_expiry", "expires_at"),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", String(24), primary_key=True),
    _account_id(),
    Column("name", String(100), nullable=False),
    Column("prefix", String(8), nullable=False, unique=True),
    Column("secret_hash", String(64), nullable=False),
    Column("scopes", Text, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("expires_at", Instant, nullable=True),
    Column("last_used_at", Instant, nullable=True),
    Index("api_keys_of_account", "account_id"),
)

recovery_codes = Table(
    "recovery_codes",
    metadata,
    _account_id(primary_key=True),
    Column("code_hash", String(64), primary_key=True),
)

one_time_tokens = Table(
    "one_time_tokens",
    metadata,
    Column("token_hash", String(64), primary_key=True),
    Column("purpose", String(20), nullable=False),
    _account_id(),
    Column("email", String(254), nullable=False),
    Column("expires_at", Instant, nullable=False),
    Index("one_time_tokens_of_account", "account_id"),
)

attempts = Table(
    "attempts",
    metadata,
    Column("key", String(64), primary_key=True),
    Column("arrival", Instant, nullable=False),
)

letters = Table(
    "letters",
    metadata,
    Column("id", String(24), primary_key=True),
    Column("kind", String(20), nullable=False),
    Column("sealed", LargeBinary, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("next_at", Instant, nullable=False),
    Index("letters_due", "next_at"),
)
