"""Identity's part of the native API."""

from fastapi import APIRouter

from muelle.identity.http import accounts, auth, internal, me


def routers(*, mock: bool) -> list[APIRouter]:
    return [me.router, *auth.routers(mock=mock), accounts.router]


def internal_routers() -> list[APIRouter]:
    """For other processes of the same installation."""
    return [internal.router]
