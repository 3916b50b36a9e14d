"""The last fact of each workload, and the highest claim to each name."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "routes",
        sa.Column("workload_id", sa.String(100), primary_key=True),
        sa.Column("owner_id", sa.String(100), nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("route", sa.String(10), nullable=False),
        sa.Column("hosts", sa.Text, nullable=False),
        sa.Column("address", sa.String(300), nullable=False),
        sa.Column("why", sa.Text, nullable=False),
        sa.Column("changed_at", sa.BigInteger, nullable=False),
        sa.CheckConstraint("route IN ('open', 'starting', 'stopped', 'failed', 'gone')", name="route_is_known"),
    )
    op.create_index("routes_by_age", "routes", ["route", "changed_at"])
    op.create_table(
        "claims",
        sa.Column("host", sa.String(300), primary_key=True),
        sa.Column("claim", sa.String(100), nullable=False),
    )
