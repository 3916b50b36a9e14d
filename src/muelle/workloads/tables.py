"""The tables of the workloads room. None of them says how far anything has got: see decision 11."""

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
    text,
)

from muelle.kit.db import Instant

metadata = MetaData()

owners = Table(
    "owners",
    metadata,
    Column("id", String(24), primary_key=True),
    Column("slug", String(40), nullable=False, unique=True),
    Column("quota", Text, nullable=False),
    Column("state", String(10), nullable=False),
    Column("version", Integer, nullable=False),
)

workloads = Table(
    "workloads",
    metadata,
    Column("id", String(24), primary_key=True),
    Column("owner_id", String(24), ForeignKey("owners.id"), nullable=False),
    Column("kind", String(10), nullable=False),
    Column("name", String(40), nullable=False),
    Column("claim", String(24), nullable=False),
    Column("description", String(500), nullable=False),
    Column("wish", String(10), nullable=False),
    Column("release", Integer, nullable=False),
    Column("good", Integer, nullable=False),
    Column("turn", Integer, nullable=False),
    Column("serving", String(80), nullable=False),
    Column("switched_at", Instant, nullable=True),
    Column("keep_volumes", Boolean, nullable=False),
    Column("spec", Text, nullable=False),
    Column("environment", LargeBinary, nullable=False),
    Column("cpu_millis", Integer, nullable=False),
    Column("memory_bytes", BigInteger, nullable=False),
    Column("made_at", Instant, nullable=False),
    Column("version", Integer, nullable=False),
    Column("phase", String(12), nullable=False),
    Column("why_code", String(60), nullable=False),
    Column("why_words", Text, nullable=False),
    Column("address", String(80), nullable=False),
    CheckConstraint("wish IN ('running', 'stopped', 'deleted')", name="workload_wish"),
    Index(
        "workload_names",
        "owner_id",
        "name",
        unique=True,
        sqlite_where=text("wish <> 'deleted'"),
        postgresql_where=text("wish <> 'deleted'"),
    ),
)

hosts = Table(
    "hosts",
    metadata,
    Column("host", String(253), primary_key=True),
    Column("workload_id", String(24), ForeignKey("workloads.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("claim", String(24), nullable=False),
)

releases = Table(
    "releases",
    metadata,
    Column("workload_id", String(24), ForeignKey("workloads.id", ondelete="CASCADE"), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("image", String(200), nullable=False),
    Column("spec", Text, nullable=False),
    Column("environment", LargeBinary, nullable=False),
    Column("source", Text, nullable=False),
    Column("revision", String(200), nullable=False),
    Column("made_at", Instant, nullable=False),
    Column("verdict", String(10), nullable=False),
    Column("why_code", String(60), nullable=False),
    Column("why_words", Text, nullable=False),
)

deployments = Table(
    "deployments",
    metadata,
    Column("id", String(24), primary_key=True),
    Column("workload_id", String(24), ForeignKey("workloads.id", ondelete="CASCADE"), nullable=False),
    Column("owner_id", String(24), nullable=False),
    Column("state", String(10), nullable=False),
    Column("source", Text, nullable=False),
    Column("secret", LargeBinary, nullable=False),
    Column("described", Text, nullable=False),
    Column("template", String(20), nullable=False),
    Column("asked_at", Instant, nullable=False),
    Column("began_at", Instant, nullable=True),
    Column("ended_at", Instant, nullable=True),
    Column("attempts", Integer, nullable=False),
    Column("cancel", Boolean, nullable=False),
    Column("release", Integer, nullable=False),
    Column("why_code", String(60), nullable=False),
    Column("why_words", Text, nullable=False),
    Column("lease_owner", String(24), nullable=False),
    Column("lease_until", Instant, nullable=False),
    CheckConstraint("state IN ('queued', 'building', 'released', 'failed', 'cancelled')", name="deployment_state"),
    Index("deployments_of", "workload_id", "id"),
    Index("deployments_due", "state", "id"),
)

history = Table(
    "history",
    metadata,
    Column("id", String(24), primary_key=True),
    Column("workload_id", String(24), nullable=False),
    Column("owner_id", String(24), nullable=False),
    Column("at", Instant, nullable=False),
    Column("what", String(30), nullable=False),
    Column("release", Integer, nullable=False),
    Column("why_code", String(60), nullable=False),
    Column("why_words", Text, nullable=False),
    Column("actor", String(100), nullable=False),
    Index("history_of", "workload_id", "id"),
    Index("history_of_owner", "owner_id", "at"),
)

uploads = Table(
    "uploads",
    metadata,
    Column("id", String(24), primary_key=True),
    Column("owner_id", String(24), nullable=False),
    Column("made_at", Instant, nullable=False),
    Column("bytes", BigInteger, nullable=False),
)
