"""What is written down in an installation's databases, counted: to see that a refused request left nothing behind."""

from __future__ import annotations

from sqlalchemy import text

from tests.world import World

_TABLES = {
    True: "SELECT table_name FROM information_schema.tables WHERE table_schema = '{room}'",
    False: "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'",
}


async def rows(world: World, *, but: frozenset[str] = frozenset()) -> dict[str, int]:
    """The number of rows of every table, but for those whose contents come and go."""
    found = {}
    for app in world.apps:
        for room in app.rooms:
            database = room.furniture.database
            async with database.reading() as reader:
                names = await reader.all(text(_TABLES[database.postgres].format(room=room.name)))
                for name in sorted(row[0] for row in names):
                    if name not in but:
                        count = await reader.scalar(text(f'SELECT count(*) FROM "{name}"'))  # noqa: S608
                        found[f"{room.name}.{name}"] = int(count)
    return found
