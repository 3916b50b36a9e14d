"""Which addresses a stranger's source may be fetched from: those of the internet that are not this machine's own."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import closing
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""Gives all addresses of a host name; raises OSError."""

SHARED = "an address that a provider shares among its customers"
TRANSLATED = (IPv6Network("64:ff9b::/96"), IPv6Network("64:ff9b:1::/48"))
"""Where an IPv4 address is reached through IPv6: its last 32 bits are what counts."""


async def resolve_here(host: str, port: int) -> Sequence[str]:
    """As this machine resolves it, in the order of its preference."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(answer[4][0]) for answer in found))


def objection(address: str) -> str:
    """What a public program has no business with at an address, in words; empty: nothing is to be said against it."""
    try:
        outer = ip_address(address)
    except ValueError:
        return "which is no address"
    for inner in _meant(outer):
        if words := _objection(inner):
            return words
    return "an address of this machine" if _is_ours(address) else ""


def _meant(address: IPv4Address | IPv6Address) -> Iterator[IPv4Address | IPv6Address]:
    """An address, or those that it stands for: an IPv6 address can carry an IPv4 one in several ways."""
    if isinstance(address, IPv4Address):
        yield address
    elif address.ipv4_mapped:
        yield address.ipv4_mapped
    elif address.sixtofour:
        yield address.sixtofour
    elif address.teredo:
        yield from address.teredo
    elif any(address in network for network in TRANSLATED):
        yield IPv4Address(int(address) & 0xFFFF_FFFF)
    else:
        yield address


def _objection(address: IPv4Address | IPv6Address) -> str:
    kinds = (
        (address.is_unspecified, "which means this machine"),
        (address.is_loopback, "this machine itself"),
        (address.is_link_local, "a link-local address, as clouds use for their secrets"),
        (address.is_multicast, "a multicast address"),
        (isinstance(address, IPv6Address) and address.is_site_local, "an address of a private network"),
        (address.is_reserved, "a reserved address"),
        (address.is_private, "an address of a private network"),
        (not address.is_global, SHARED),
    )
    return next((words for so, words in kinds if so), "")


def _is_ours(address: str) -> bool:
    """Whether it is one of this machine's: only to such an address a socket can be bound."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with closing(socket.socket(family, socket.SOCK_DGRAM)) as trial:
            trial.bind((address, 0))
    except OSError:
        return False
    return True
