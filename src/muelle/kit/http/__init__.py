"""HTTP as every room speaks it: who may call, problem+json, repeated requests, pages, and the edge around all of it."""

from muelle.kit.http.access import Access, Caller, Callers, Role, Who
from muelle.kit.http.pages import Cursor, Page, PageQuery, page_of
from muelle.kit.http.routes import CallerNow, RoomRouter
from muelle.kit.http.values import Body, EmailText, Id, PlainText, Secret, Shown

__all__ = [
    "Access",
    "Body",
    "Caller",
    "CallerNow",
    "Callers",
    "Cursor",
    "EmailText",
    "Id",
    "Page",
    "PageQuery",
    "PlainText",
    "Role",
    "RoomRouter",
    "Secret",
    "Shown",
    "Who",
    "page_of",
]
