"""The local engine: recipes run as processes of this machine, where there is no Docker.

Programs outlive Muelle. They are children of a *keeper*, one small process for all of them (`keeper`), which is found
again by its socket, and everything that it must know is in files below the engine's home. The engine itself is only
imported when it is asked for: the keeper imports from this package, and holds each import's memory as long as it lives.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from muelle.engines.local.engine import LocalEngine

__all__ = ["LocalEngine"]


def __getattr__(name: str) -> type[LocalEngine]:
    if name != "LocalEngine":
        raise AttributeError(name)
    from muelle.engines.local.engine import LocalEngine  # noqa: PLC0415  # see above

    return LocalEngine
