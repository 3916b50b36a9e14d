"""The `muelle` command.

Each command is a thin shell around the application or the API. What a user did wrong, or the machine does not let us
do, ends with a sentence and exit code 1 (2 for a wrong command line), never with a stack trace.
"""

from __future__ import annotations

import os
import sys

PRIVATE = 0o077
INTERRUPTED = 130


def main() -> None:
    os.umask(PRIVATE)  # whatever we write is for its owner alone
    try:
        _run()
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


def _run() -> None:
    from muelle.cli.commands import cli  # noqa: PLC0415 - so that importing the package costs nothing
    from muelle.cli.mishaps import as_ours  # noqa: PLC0415

    try:
        cli()
    except Exception as problem:
        error = as_ours(problem)
        if error is None:
            raise
        first, *more = error.message.splitlines() or [""]
        print(f"muelle: {first}", file=sys.stderr)
        for line in [*more, *error.advice.splitlines()]:
            print(f"        {line}", file=sys.stderr)
        sys.exit(1)
