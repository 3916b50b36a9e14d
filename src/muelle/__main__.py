"""`python -m muelle` is the `muelle` command."""

from muelle.cli import main

if __name__ == "__main__":
    main()
