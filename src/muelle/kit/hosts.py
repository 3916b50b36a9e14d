"""What can be told about a host by its name, and about this one by asking it."""

from __future__ import annotations

import getpass
import ipaddress
import os


def is_loopback(host: str) -> bool:
    """Whether it is this machine, and nothing but this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def user_here() -> str:
    """Who runs this process; in a container the number need not have a name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"user {os.getuid()}"
