"""Owners, workloads and their names, releases, deployments, history and uploads."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def why() -> list[sa.Column[str]]:
    return [sa.Column("why_code", sa.String(60), nullable=False), sa.Column("why_words", sa.Text, nullable=False)]


def upgrade() -> None:
    _owners_and_workloads()
    _releases_and_deployments()
    _history_and_uploads()


def _owners_and_workloads() -> None:
    op.create_table(
        "owners",
        sa.Column("id", sa.String(24), primary_key=True),
        sa.Column("slug", sa.String(40), nullable=False, unique=True),
        sa.Column("quota", sa.Text, nullable=False),
        sa.Column("state", sa.String(10), nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
    )
    op.create_table(
        "workloads",
        sa.Column("id", sa.String(24), primary_key=True),
        sa.Column("owner_id", sa.String(24), sa.ForeignKey("owners.id"), nullable=False),
        sa.Column("kind", sa.String(10), nullable=False),
        sa.Column("name", sa.String(40), nullable=False),
        sa.Column("claim", sa.String(24), nullable=False),
        sa.Column("description", sa.String(500), nullable=False),
        sa.Column("wish", sa.String(10), nullable=False),
        sa.Column("release", sa.Integer, nullable=False),
        sa.Column("good", sa.Integer, nullable=False),
        sa.Column("turn", sa.Integer, nullable=False),
        sa.Column("serving", sa.String(80), nullable=False),
        sa.Column("switched_at", sa.BigInteger, nullable=True),
        sa.Column("keep_volumes", sa.Boolean, nullable=False),
        sa.Column("spec", sa.Text, nullable=False),
        sa.Column("environment", sa.LargeBinary, nullable=False),
        sa.Column("cpu_millis", sa.Integer, nullable=False),
        sa.Column("memory_bytes", sa.BigInteger, nullable=False),
        sa.Column("made_at", sa.BigInteger, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("phase", sa.String(12), nullable=False),
        *why(),
        sa.Column("address", sa.String(80), nullable=False),
        sa.CheckConstraint("wish IN ('running', 'stopped', 'deleted')", name="workload_wish"),
    )
    alive = sa.text("wish <> 'deleted'")
    op.create_table(
        "hosts",
        sa.Column("host", sa.String(253), primary_key=True),
        sa.Column("workload_id", sa.String(24), sa.ForeignKey("workloads.id", ondelete="CASCADE"), nullable=False),
        sa.Column("claim", sa.String(24), nullable=False),
    )
    op.create_index("ix_hosts_workload_id", "hosts", ["workload_id"])
    op.create_index(
        "workload_names", "workloads", ["owner_id", "name"], unique=True, sqlite_where=alive, postgresql_where=alive
    )


def _releases_and_deployments() -> None:
    op.create_table(
        "releases",
        sa.Column("workload_id", sa.String(24), sa.ForeignKey("workloads.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("image", sa.String(200), nullable=False),
        sa.Column("spec", sa.Text, nullable=False),
        sa.Column("environment", sa.LargeBinary, nullable=False),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("revision", sa.String(200), nullable=False),
        sa.Column("made_at", sa.BigInteger, nullable=False),
        sa.Column("verdict", sa.String(10), nullable=False),
        *why(),
    )
    op.create_table(
        "deployments",
        sa.Column("id", sa.String(24), primary_key=True),
        sa.Column("workload_id", sa.String(24), sa.ForeignKey("workloads.id", ondelete="CASCADE"), nullable=False),
        sa.Column("owner_id", sa.String(24), nullable=False),
        sa.Column("state", sa.String(10), nullable=False),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("secret", sa.LargeBinary, nullable=False),
        sa.Column("described", sa.Text, nullable=False),
        sa.Column("template", sa.String(20), nullable=False),
        sa.Column("asked_at", sa.BigInteger, nullable=False),
        sa.Column("began_at", sa.BigInteger, nullable=True),
        sa.Column("ended_at", sa.BigInteger, nullable=True),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("cancel", sa.Boolean, nullable=False),
        sa.Column("release", sa.Integer, nullable=False),
        *why(),
        sa.Column("lease_owner", sa.String(24), nullable=False),
        sa.Column("lease_until", sa.BigInteger, nullable=False),
        sa.CheckConstraint(
            "state IN ('queued', 'building', 'released', 'failed', 'cancelled')", name="deployment_state"
        ),
    )
    op.create_index("deployments_of", "deployments", ["workload_id", "id"])
    op.create_index("deployments_due", "deployments", ["state", "id"])


def _history_and_uploads() -> None:
    op.create_table(
        "history",
        sa.Column("id", sa.String(24), primary_key=True),
        sa.Column("workload_id", sa.String(24), nullable=False),
        sa.Column("owner_id", sa.String(24), nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("what", sa.String(30), nullable=False),
        sa.Column("release", sa.Integer, nullable=False),
        *why(),
        sa.Column("actor", sa.String(100), nullable=False),
    )
    op.create_index("history_of", "history", ["workload_id", "id"])
    op.create_index("history_of_owner", "history", ["owner_id", "at"])
    op.create_table(
        "uploads",
        sa.Column("id", sa.String(24), primary_key=True),
        sa.Column("owner_id", sa.String(24), nullable=False),
        sa.Column("made_at", sa.BigInteger, nullable=False),
        sa.Column("bytes", sa.BigInteger, nullable=False),
    )
