"""What the speaker has told, and what the listener has heard: a row for each time, so that a doubled one shows."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table("told", sa.Column("number", sa.Integer, primary_key=True, autoincrement=False))
    op.create_table(
        "heard",
        sa.Column("place", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("number", sa.Integer, nullable=False),
    )
