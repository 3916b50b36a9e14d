"""Alembic runs this for each line of migrations; `kit.db.migrations` hands in the connection and the version table."""

from alembic import context

context.configure(
    connection=context.config.attributes["connection"],
    version_table=context.config.attributes["version_table"],
    render_as_batch=True,
)
context.run_migrations()
