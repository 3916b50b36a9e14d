"""What Muelle costs while nobody uses it: the time until it is ready, its memory, its processor time.

Floors: a Python that imports the three libraries that no such program can do without (time), and one that imports every
library that ours needs while it runs (memory).
"""

from __future__ import annotations

import time
from collections.abc import Iterator

from bench.figure import Beside, Figure, at_most, middle, spread
from bench.ground import Ground
from bench.muelle import Muelle
from bench.program import Program, Weight, cpu_seconds, weight

READY_SECONDS = 2.0
MEMORY_MIB = 110.0
CPU_PERCENT = 0.5
SETTLING_SECONDS = 1.0
LEAST = "import fastapi, sqlalchemy, uvicorn"
LIBRARIES = (
    "import argon2, aiosqlite, cryptography.hazmat.primitives.ciphers.aead, fastapi, httptools, httpx, jwt, "
    "prometheus_client, sqlalchemy.ext.asyncio, structlog, uvicorn, uvloop"
)
WAITS = "; print('ready', flush=True); import time; time.sleep(600)"


def measure(ground: Ground) -> Iterator[Figure]:
    size = ground.size
    muelle = Muelle(ground)
    with muelle:
        first_ready = muelle.ready_seconds
        first = _after_idling(muelle.pid, size.idle_seconds, ground)[0]
    warm, floors = [], []
    for _ in range(size.starts):
        floors.append(_seconds_to_import(ground))
        with muelle:
            warm.append(muelle.ready_seconds)
    with muelle:
        warm.append(muelle.ready_seconds)
        later, percent = _after_idling(muelle.pid, size.idle_seconds, ground)
    floor = _imports_only(ground)
    yield Figure(
        "ready after process start (warm)",
        "s",
        middle(warm),
        at_most(READY_SECONDS),
        Beside(f'python -c "{LEAST}"', middle(floors)),
        f"{spread(warm)}; first start, in an empty home: {first_ready:.2f} s",
    )
    beside = Beside("imports of the same libraries", floor.rss_mib)
    for start, weighed in (("warm", later), ("first", first)):
        note = f"after {size.idle_seconds:g} s; PSS {weighed.pss_mib:.1f} MiB, of the libraries {floor.pss_mib:.1f} MiB"
        yield Figure(f"idle memory, {start} start", "MiB", weighed.rss_mib, at_most(MEMORY_MIB), beside, note)
    yield Figure("idle CPU", "% of a core", percent, at_most(CPU_PERCENT), note=f"over {size.idle_seconds:g} s")


def _after_idling(pid: int, seconds: float, ground: Ground) -> tuple[Weight, float]:
    """What it weighs after so many seconds in which nobody asks for anything, and what it used of a core meanwhile."""
    ground.say(f"idling for {seconds:g} s")
    time.sleep(SETTLING_SECONDS)
    began, used = time.monotonic(), cpu_seconds(pid)
    time.sleep(seconds)
    percent = 100 * (cpu_seconds(pid) - used) / (time.monotonic() - began)
    return weight(pid), percent


def _seconds_to_import(ground: Ground) -> float:
    began = time.monotonic()
    with Program.python(ground.folder / "floor.log", "-c", LEAST + WAITS) as program:
        program.hear("ready", 30)
        took = time.monotonic() - began
        program.kill()
    return took


def _imports_only(ground: Ground) -> Weight:
    with Program.python(ground.folder / "floor.log", "-c", LIBRARIES + WAITS) as program:
        program.hear("ready", 30)
        weighed = weight(program.pid)
        program.kill()
    return weighed
