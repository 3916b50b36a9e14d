"""What a head of HTTP/1.1 may look like: stricter than the standard's advice, since two readers have to agree.

Request smuggling lives off two programs that see different messages in the same bytes. So one expression says what a
head is, from its first byte to its last, without folds, lone line ends, control characters or spaces before colons;
what it does not match is refused, and what is passed on is put together from what it matched. It is written down here
and not left to a parser library, because libraries forgive: they tell what they understood, not whether the next
program will understand the same.

The expressions never go back over what they have read (`*+`), so their time grows with the length alone.
"""

from __future__ import annotations

import re

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]"
_HEADERS = rb"((?:" + _TOKEN + rb"++:[\t\x20-\x7e\x80-\xff]*+\r\n)*+)\r\n"

REQUEST = re.compile(rb"(" + _TOKEN + rb"{1,32}+) ([\x21\x22\x24-\x7e\x80-\xff]++) HTTP/1\.([01])\r\n" + _HEADERS)
"""Method, target (without a fragment), minor version, all headers."""

ANSWER = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9][0-9])( [\t\x20-\x7e\x80-\xff]*+)?\r\n" + _HEADERS)
"""Minor version, status, reason, all headers."""

HEADERS_ONLY = re.compile(_HEADERS)
"""Trailers."""

HOST = re.compile(rb"([A-Za-z0-9](?:[A-Za-z0-9._-]{0,252})|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")
"""A name or an address in brackets, perhaps with a port."""

LENGTH = re.compile(rb"[0-9]{1,18}")

CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[\t\x20-\x7e\x80-\xff]*)?")
"""A chunk's size, with extensions: they say something to the next program only, and are dropped."""

ABSOLUTE = re.compile(rb"[Hh][Tt][Tt][Pp][Ss]?://([^/?]+)(.*)", re.DOTALL)
