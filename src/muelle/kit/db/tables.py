"""The tables that every room's database has, whatever the room is about. Each is defined beside what uses it."""

from sqlalchemy import MetaData

furniture = MetaData()
