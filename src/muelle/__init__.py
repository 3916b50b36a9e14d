"""Muelle turns one Linux box into a cloud that its owner can hand to other people."""

__version__ = "0.1.0"
