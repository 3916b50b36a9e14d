"""A single file that was given as text, put into a folder of its own."""

from __future__ import annotations

from pathlib import Path

from muelle.workloads.sources.limits import Weight
from muelle.workloads.sources.model import FileSource, check


def place(source: FileSource, into: Path) -> Weight:
    """Makes the folder, which is not there yet. Raises NameRefused, SourceTooLarge."""
    check(source)
    data = source.text.encode()
    into.mkdir(parents=True)
    into.chmod(0o755)
    (into / source.name).write_bytes(data)
    (into / source.name).chmod(0o644)  # whatever is the habit of who started us: a web server may be another user
    return Weight(len(data), 1)
