"""The house is tried on the same machines as the command line."""

from tests.cli.conftest import machine

__all__ = ["machine"]
