"""The second factor: six digits from an authenticator (RFC 6238), and recovery codes for when it is lost. Pure."""

from __future__ import annotations

import base64
import hmac
import secrets
import struct
from datetime import datetime
from hashlib import sha1
from urllib.parse import quote, urlencode

STEP_SECONDS = 30
DIGITS = 6
STEPS_EITHER_SIDE = 1
RECOVERY_CODES = 10


def make_secret() -> bytes:
    return secrets.token_bytes(20)


def code_at(secret: bytes, step: int) -> str:
    mac = hmac.digest(secret, struct.pack(">Q", step), sha1)
    offset = mac[-1] & 0xF
    (number,) = struct.unpack(">I", mac[offset : offset + 4])
    return f"{(number & 0x7FFFFFFF) % 10**DIGITS:0{DIGITS}d}"


def step_at(moment: datetime) -> int:
    return int(moment.timestamp()) // STEP_SECONDS


def matching_step(secret: bytes, code: str, now: datetime, *, after: int) -> int | None:
    """The step whose code this is, if it lies about now and after the last one that was used; else None."""
    present = step_at(now)
    found = None
    for step in range(present - STEPS_EITHER_SIDE, present + STEPS_EITHER_SIDE + 1):
        if hmac.compare_digest(code_at(secret, step).encode(), code.encode()) and step > after:
            found = step
    return found


def shown_secret(secret: bytes) -> str:
    return base64.b32encode(secret).decode().rstrip("=")


def setup_url(secret: bytes, email: str) -> str:
    """What an authenticator reads from a QR code."""
    label = f"Muelle:{quote(email, safe='')}"
    return f"otpauth://totp/{label}?{urlencode({'secret': shown_secret(secret), 'issuer': 'Muelle'})}"


def make_recovery_codes() -> list[str]:
    return [f"{secrets.token_hex(3)}-{secrets.token_hex(3)}" for _ in range(RECOVERY_CODES)]


def is_recovery_code(code: str) -> bool:
    return len(code) == 13 and code[6] == "-"
