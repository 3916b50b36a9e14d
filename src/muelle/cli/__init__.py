"""The `muelle` command.

Each command is a thin shell around the application or the API. What a user did wrong, or the machine does not let us
do, ends with a sentence and exit code 1 (2 for a wrong command line), never with a stack trace.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

PRIVATE = 0o077
INTERRUPTED = 130


def main() -> None:
    os.umask(PRIVATE)  # whatever we write is for its owner alone
    try:
        from muelle.cli.commands import cli  # noqa: PLC0415 - so that importing the package costs nothing

        told_in_sentences(cli)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


def told_in_sentences(program: Callable[[], object]) -> None:
    """Runs it. What goes wrong and is no mistake of ours is told on stderr, and ends with exit code 1."""
    try:
        program()
    except Exception as problem:
        from muelle.cli.mishaps import as_ours  # noqa: PLC0415

        error = as_ours(problem)
        if error is None:
            raise
        first, *more = error.message.splitlines() or [""]
        print(f"muelle: {first}", file=sys.stderr)
        for line in [*more, *error.advice.splitlines()]:
            print(f"        {line}", file=sys.stderr)
        sys.exit(1)
