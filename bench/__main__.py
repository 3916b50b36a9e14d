"""`python -m bench [NAME…] [--quick] [--json FILE] [--seed N]`: measures, prints, writes.

Ends with 1 where a bar is missed or a measurement breaks; what the machine has no server for is neither.
"""

from __future__ import annotations

import argparse
import importlib
import random
import sys
import tempfile
import traceback
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from bench import report
from bench.figure import Figure
from bench.ground import FULL, QUICK, Ground, Size
from tests.servers.run import Run

FIGURES = ("idle", "events", "kills", "login", "me", "idempotency", "ingress", "deploys", "speed", "scale")
RESULTS = Path(__file__).parent / "results"


def main() -> int:
    wanted = _arguments()
    at = datetime.now(UTC)
    file: Path = wanted.json or RESULTS / f"{at:%Y-%m-%d-%H%M%S}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    size: Size = QUICK if wanted.quick else FULL
    before = report.machine()
    run = Run.begin()
    try:
        with tempfile.TemporaryDirectory(prefix="muelle-bench-") as folder:
            ground = Ground(Path(folder), file.with_suffix(""), run, size, wanted.seed)
            figures = [figure for name in wanted.names or FIGURES for figure in measured(name, ground)]
    finally:
        run.end()
    file.write_text(report.as_json(figures, size.name, wanted.seed, at, before))
    print(report.table(figures))
    print(f"  Seed {wanted.seed}; written to {file}")
    return 1 if any(figure.missed for figure in figures) else 0


def measured(name: str, ground: Ground) -> Iterator[Figure]:
    """The figures of one module. One that breaks is told and does not keep the others from being measured."""
    print(f"{name}", file=sys.stderr, flush=True)
    try:
        for figure in importlib.import_module(f"bench.{name}").measure(ground.part(name)):
            ground.say(f"{figure.name}: {figure.verdict.value or 'measured'}")
            yield figure
    except Exception as problem:
        traceback.print_exc()
        yield Figure(name, note=f"{type(problem).__name__}: {problem}".splitlines()[0], failed=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measures what Muelle promises in numbers.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which of: {', '.join(FIGURES)} (default: all)")
    parser.add_argument("--quick", action="store_true", help="smaller and sooner; too small to be relied on")
    parser.add_argument("--json", type=Path, metavar="FILE", help="default: bench/results/<date>.json")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6), help="of all that is left to chance")
    wanted = parser.parse_args()
    if unknown := set(wanted.names) - set(FIGURES):
        parser.error(f"there is no {', '.join(sorted(unknown))}; there are: {', '.join(FIGURES)}")
    return wanted


if __name__ == "__main__":
    sys.exit(main())
