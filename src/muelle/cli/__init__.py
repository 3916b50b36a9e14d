"""The `muelle` command.

Each command is a thin shell around the application or the API. What a user did wrong ends with a sentence and exit code
1 (2 for a wrong command line), never with a stack trace.
"""

from __future__ import annotations

import sys


def main() -> None:
    from muelle.cli.commands import cli  # noqa: PLC0415 - so that importing the package costs nothing
    from muelle.kit.errors import MuelleError  # noqa: PLC0415

    try:
        cli()
    except MuelleError as error:
        print(f"muelle: {error.message}", file=sys.stderr)
        if error.advice:
            print(f"        {error.advice}", file=sys.stderr)
        sys.exit(1)
