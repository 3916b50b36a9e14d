"""Secrets at rest: one master key per installation, and a key of its own for each purpose, derived from it.

What is sealed can be read by nobody who has only the database; a `mac` lets two texts be compared without keeping
either.
"""

from __future__ import annotations

import hmac
import os
import secrets
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

from muelle.kit.errors import Failure

MASTER_BYTES = 32
_NONCE_BYTES = 12


class SealBroken(Failure):
    """A sealed value for "{purpose}" cannot be opened with this installation's master key."""

    hint = "Start with the MUELLE_SECRET_KEY (or the file `secret.key` in the home) that it was sealed with."


class SecretKeyBroken(Failure):
    """The file {file} does not hold the secret key that it should."""

    hint = "Restore it from the backup of this home: what it sealed (second factors, letters) opens with no other key."


class Vault:
    def __init__(self, master: bytes) -> None:
        self._master = master

    def __repr__(self) -> str:
        return "Vault(…)"

    def key(self, purpose: str) -> bytes:
        return hmac.digest(self._master, b"muelle:" + purpose.encode(), sha256)

    def mac(self, purpose: str, *parts: bytes) -> str:
        digest = hmac.new(self.key(purpose), digestmod=sha256)
        for part in parts:
            digest.update(len(part).to_bytes(8, "big") + part)
        return digest.hexdigest()

    def seal(self, purpose: str, clear: bytes) -> bytes:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415 - a large module, seldom needed

        nonce = secrets.token_bytes(_NONCE_BYTES)
        return nonce + AESGCM(self.key(purpose)).encrypt(nonce, clear, purpose.encode())

    def open(self, purpose: str, sealed: bytes) -> bytes:
        from cryptography.exceptions import InvalidTag  # noqa: PLC0415
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415

        try:
            nonce, body = sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:]
            return AESGCM(self.key(purpose)).decrypt(nonce, body, purpose.encode())
        except (InvalidTag, ValueError) as error:
            raise SealBroken(purpose=purpose) from error


def master_key(text: str, file: Path) -> bytes:
    """The master key: from the setting where there is one, else from its file, which the first start makes."""
    if text:
        return sha256(text.encode()).digest()
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        fresh = file.with_suffix(f".{secrets.token_hex(4)}")
        fresh.touch(mode=0o600)
        fresh.write_text(secrets.token_hex(MASTER_BYTES) + "\n")
        with suppress(FileExistsError):  # of two that start at once, the first makes it
            os.link(fresh, file)
        fresh.unlink()
    return kept_key(file)


def kept_key(file: Path) -> bytes:
    try:
        key = bytes.fromhex(file.read_text("ascii").strip())
    except ValueError:
        key = b""
    if len(key) != MASTER_BYTES:
        raise SecretKeyBroken(file=file)
    return key
