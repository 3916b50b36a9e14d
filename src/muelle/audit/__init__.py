"""Audit: what happened, who did it and from where, in a chain that shows any later change.

A room of its own: it takes in every fact of every room, and no room has to know of it.
"""
