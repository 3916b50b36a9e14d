"""50 equal concurrent requests with one `Idempotency-Key`: one effect, 50 equal answers.

They make an API key: an effect that can be counted, and an answer with a secret in it that nobody could make twice.
Against one process on SQLite, and against two processes on one PostgreSQL, half of the requests to either.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass
from itertools import cycle, islice

import httpx

from bench.figure import Beside, Figure, exactly, middle, not_measured
from bench.ground import Ground
from bench.muelle import Muelle, client_from, sign_up
from bench.program import ProgramFailed

REQUESTS = 50
ON_SQLITE = "50 equal requests, on SQLite"
ON_POSTGRES = "50 equal requests, two processes on PostgreSQL"


@dataclass(frozen=True)
class Round:
    effects: int
    answers: Counter[tuple[int, bytes]]
    equal_ms: float
    different_ms: float


def measure(ground: Ground) -> Iterator[Figure]:
    on_sqlite = ground.part("sqlite")
    with Muelle(on_sqlite) as muelle:
        rounds = asyncio.run(_rounds([muelle], on_sqlite))
    yield from _figures(ON_SQLITE, rounds)
    if lack := ground.lack("postgres"):
        yield not_measured(ON_POSTGRES, lack)
        return
    on_postgres = ground.part("postgres")
    with ExitStack() as stack:
        url = stack.enter_context(ground.postgres())
        shared = {"database_url": url, "secret_key": secrets.token_hex(32)}
        both = [stack.enter_context(Muelle(on_postgres, home, **shared)) for home in ("home-a", "home-b")]
        rounds = asyncio.run(_rounds(both, on_postgres))
    yield from _figures(ON_POSTGRES, rounds)


async def _rounds(processes: Sequence[Muelle], ground: Ground) -> list[Round]:
    """Each with people of its own: a keyring holds no more than fifty keys."""
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(client_from(muelle)) for muelle in processes]
        return [await _round(clients, place) for place in range(ground.size.repetitions)]


async def _round(clients: Sequence[httpx.AsyncClient], place: int) -> Round:
    ana, bo = [await _as_somebody(clients[0], f"{name}{place}") for name in ("ana", "bo")]
    answers, equal_ms = await _send(clients, ana, ["the same"] * REQUESTS)
    others, different_ms = await _send(clients, bo, [f"another {number}" for number in range(REQUESTS)])
    if refused := [answer for answer in others if answer[0] != 201]:
        raise ProgramFailed(f"a request with a key of its own was answered with {refused[0]}")
    return Round(await _keys_of(clients[0], ana), answers, equal_ms, different_ms)


async def _as_somebody(client: httpx.AsyncClient, name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {(await sign_up(client, name))['access_token']}"}


async def _send(
    clients: Sequence[httpx.AsyncClient], caller: dict[str, str], keys: Sequence[str]
) -> tuple[Counter[tuple[int, bytes]], float]:
    """All at once, to the processes in turn: the answers by how often each was given, and the time for all of them."""
    body = {"name": "bench", "scopes": ["identity:read"]}

    async def send(client: httpx.AsyncClient, key: str) -> tuple[int, bytes]:
        answer = await client.post("/me/keys", json=body, headers=caller | {"Idempotency-Key": key.replace(" ", "-")})
        return answer.status_code, answer.content

    began = time.perf_counter()
    in_turn = islice(cycle(clients), len(keys))
    answers = await asyncio.gather(*(send(client, key) for client, key in zip(in_turn, keys, strict=True)))
    return Counter(answers), 1000 * (time.perf_counter() - began)


async def _keys_of(client: httpx.AsyncClient, caller: dict[str, str]) -> int:
    return len((await client.get("/me/keys", headers=caller)).raise_for_status().json())


def _figures(name: str, rounds: Sequence[Round]) -> Iterator[Figure]:
    worst = max(rounds, key=lambda each: (each.effects != 1, len(each.answers)))
    statuses = Counter(status for each in rounds for status, _ in each.answers.elements())
    told = ", ".join(f"{status}: {times} times" for status, times in sorted(statuses.items()))
    note = f"in the worst of {len(rounds)} rounds; answers of all rounds by status: {told}"
    yield Figure(f"{name}: effects", "", worst.effects, exactly(1), note=note)
    yield Figure(f"{name}: distinct answers", "", len(worst.answers), exactly(1))
    beside = Beside("50 different", middle([each.different_ms for each in rounds]))
    yield Figure(f"{name}: time for all", "ms", middle([each.equal_ms for each in rounds]), None, beside)
