"""Audit is tried with the same installations as identity."""

from tests.identity.conftest import little, twins

__all__ = ["little", "twins"]
