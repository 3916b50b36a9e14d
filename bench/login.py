"""Log-in: as slow as argon2 makes it, and no slower.

The floor is a bare verification of the very hash that Muelle has stored for the account, in as many threads as Muelle
uses; the two take turns, so that both see the same machine. Each request comes from an address of its own, since
log-ins are limited by address.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field

import httpx
from argon2 import PasswordHasher, extract_parameters

from bench.figure import Beside, Figure, middle, percentile, ratio_at_most
from bench.ground import Ground
from bench.muelle import PASSWORD, Muelle, client_from, sign_up
from bench.program import ProgramFailed
from muelle.identity.passwords import THREADS

SLOWER_THAN_ARGON2 = 1.25
AT_ONCE = 8

Once = Callable[[int], Awaitable[None]]


@dataclass
class Rounds:
    """What several rounds have shown: each single time in ms, and how many were done in a second by several at once."""

    alone: list[float] = field(default_factory=list)
    per_second: list[float] = field(default_factory=list)


def measure(ground: Ground) -> Iterator[Figure]:
    with Muelle(ground) as muelle:
        ours, bare = asyncio.run(_alternate(muelle, ground))
    beside = Beside(f"argon2 verify, {THREADS} threads", middle(bare.alone))
    yield Figure(
        "log-in, p50",
        "ms",
        middle(ours.alone),
        ratio_at_most(SLOWER_THAN_ARGON2),
        beside,
        f"p99 {percentile(ours.alone, 99):.0f} ms, argon2 alone {percentile(bare.alone, 99):.0f} ms",
    )
    beside = Beside(f"argon2 verify, {THREADS} threads", middle(bare.per_second))
    yield Figure(f"log-ins, {AT_ONCE} at once", "a second", middle(ours.per_second), None, beside)


async def _alternate(muelle: Muelle, ground: Ground) -> tuple[Rounds, Rounds]:
    async with client_from(muelle) as client:
        for place in range(AT_ONCE):
            await sign_up(client, f"person{place}")
    hash = _stored_hash(muelle)
    ground.say(f"hashes are made with {extract_parameters(hash)}")
    rounds = ground.size.load_rounds
    each = max(1, ground.size.log_ins // rounds)
    ours, bare = Rounds(), Rounds()
    with ThreadPoolExecutor(THREADS) as threads:
        log_in, verify = _LogIns(muelle).once, _verifying(hash, threads)
        for once in (log_in, verify):
            await once(0)
        for _ in range(rounds):
            for _ in range(each):
                ours.alone.append(await _timed(log_in(0)))
                bare.alone.append(await _timed(verify(0)))
            ours.per_second.append(await _per_second(log_in, each))
            bare.per_second.append(await _per_second(verify, each))
    return ours, bare


async def _timed(doing: Awaitable[object]) -> float:
    began = time.perf_counter()
    await doing
    return 1000 * (time.perf_counter() - began)


async def _per_second(once: Once, each: int) -> float:
    """Several people at once, each so many times, one after the other."""

    async def person(place: int) -> None:
        for _ in range(each):
            await once(place)

    took = await _timed(asyncio.gather(*(person(place) for place in range(AT_ONCE))))
    return 1000 * AT_ONCE * each / took


class _LogIns:
    """Over HTTP, each from the next address. Connecting is part of a log-in: nobody keeps a connection for it."""

    def __init__(self, muelle: Muelle) -> None:
        self._muelle = muelle
        self._place = 1

    async def once(self, person: int) -> None:
        self._place += 1
        async with client_from(self._muelle, self._place) as client:
            body = {"email": f"person{person}@example.com", "password": PASSWORD}
            answer: httpx.Response = await client.post("/auth/login", json=body)
        if answer.status_code != 200:
            raise ProgramFailed(f"log-in was answered with {answer.status_code}: {answer.text}")


def _verifying(hash: str, threads: ThreadPoolExecutor) -> Once:
    hasher = PasswordHasher()

    async def once(_person: int) -> None:
        await asyncio.get_running_loop().run_in_executor(threads, hasher.verify, hash, PASSWORD)

    return once


def _stored_hash(muelle: Muelle) -> str:
    with closing(sqlite3.connect(muelle.home / "identity.db")) as database:
        (hash,) = database.execute("SELECT password_hash FROM accounts WHERE email = 'person0@example.com'").fetchone()
    return str(hash)
