"""Password hashes: argon2id, off the event loop, a few at a time.

A hash takes tens of milliseconds and 64 MiB on purpose. It runs on a small pool of threads (argon2 lets go of the
interpreter), so that a hundred log-ins at once wait for each other, and neither for memory nor for the rest of the
program.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar, TypeVarTuple

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from muelle.identity.model import SHORTEST_PASSWORD, PasswordTooShort
from muelle.kit.db import refuse_inside_transaction

THREADS = max(2, min(4, os.cpu_count() or 2))

Arguments = TypeVarTuple("Arguments")
Answer = TypeVar("Answer")


class Passwords:
    def __init__(self, hasher: PasswordHasher | None = None) -> None:
        self._hasher = hasher or PasswordHasher()
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="argon2")
        self._decoy: str | None = None

    async def hash(self, password: str) -> str:
        if len(password) < SHORTEST_PASSWORD:
            raise PasswordTooShort(shortest=SHORTEST_PASSWORD)
        return await self._off_loop(self._hasher.hash, password)

    async def verify(self, hash: str | None, password: str) -> bool:
        """Whether it is the password. Takes as long for an account that has none, or is none."""
        if self._decoy is None:
            self._decoy = await self._off_loop(self._hasher.hash, "a password that nobody has")
        right = await self._off_loop(self._verify, hash or self._decoy, password)
        return right and hash is not None

    def outdated(self, hash: str) -> bool:
        """Whether it was made with weaker parameters than today's."""
        return self._hasher.check_needs_rehash(hash)

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _verify(self, hash: str, password: str) -> bool:
        try:
            return self._hasher.verify(hash, password)
        except (VerificationError, InvalidHashError):
            return False

    async def _off_loop(self, work: Callable[[*Arguments], Answer], *arguments: *Arguments) -> Answer:
        refuse_inside_transaction("a password hash")
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *arguments)
