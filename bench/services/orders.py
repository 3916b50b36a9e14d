"""What a service is told to do: the one argument of its command line, as JSON."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self


@dataclass(frozen=True)
class Orders:
    roles: list[str]
    """`speaker`, `listener` or both."""
    folder: str
    """For SQLite files, where there is no database_url, and for the moments."""
    facts: int
    per_second: float
    database_url: str = ""
    rabbit_url: str = ""
    namespace: str = "bench"

    @classmethod
    def given(cls) -> Self:
        return cls(**json.loads(sys.argv[1]))

    def to_argument(self) -> str:
        return json.dumps(asdict(self))

    def moments(self, role: str) -> Path:
        """Where a service, when it is stopped, writes when it told or heard each number."""
        return Path(self.folder) / f"{role}.moments.json"
