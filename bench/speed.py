"""From what is to run to its first answer, against the same done by hand on the same machine.

Three ways: an image, against `docker run`; a program that was built before, against a plain process of it; and a small
Flask application of which one line has changed, against `docker build` with `docker run`. Both sides are asked for `/`
every few milliseconds, from the moment at which they were begun; rounds alternate, and the middle one counts.
"""

from __future__ import annotations

import asyncio
import io
import os
import time
import zipfile
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench import docker
from bench.deploys import images_of
from bench.docker import Docker
from bench.figure import Bar, Beside, Figure, middle, not_measured, ratio_at_most, spread
from bench.ground import Ground
from bench.program import Program, ProgramFailed
from bench.tenant import Cloud, Tenant, cloud_on, engine_of, tenant, until, visit
from muelle.engines.local.tools import base_python
from muelle.engines.protocol import Engine
from muelle.workloads.sources.recipes import function_server
from tests.servers.private import free_port

OF_DOCKER_RUN = 1.3
OF_A_PROCESS = 3.0
OF_BUILD_AND_RUN = 1.5
ASKS_EVERY_SECONDS = 0.005
IMAGE = "image to first answer"
PROCESS = "start to first answer, local engine"
REDEPLOY = "warm redeploy of a Flask app"
FUNCTION = 'def microservicio(request):\n    return {"well": True}\n'
FLASK = """import flask

app = flask.Flask(__name__)


@app.get("/")
def index() -> str:
    return "turn %s."
"""
REQUIREMENTS = "flask\ngunicorn\n"
DOCKERFILE = """FROM python:3.12-slim
WORKDIR /app
ENV PYTHONUNBUFFERED=1 PORT=8000
COPY requirements.txt .
RUN pip install --no-cache-dir -r requirements.txt
COPY . .
CMD ["sh", "-c", "exec gunicorn --bind 0.0.0.0:$PORT --workers 2 --threads 4 app:app"]
"""


def measure(ground: Ground) -> Iterator[Figure]:
    if lack := docker.lack():
        yield not_measured(IMAGE, lack)
        yield not_measured(REDEPLOY, lack)
    else:
        yield from of_an_image(ground.part("image"))
        yield from of_a_redeploy(ground.part("redeploy"))
    yield from of_a_process(ground.part("process"))


@dataclass
class Times:
    """In seconds, for each round."""

    ours: list[float] = field(default_factory=list)
    peers: list[float] = field(default_factory=list)
    ready: list[float] = field(default_factory=list)
    """Until the new instance answered, where that is not when it got the traffic."""

    def figure(self, name: str, bar: Bar, what: str) -> Figure:
        note = f"{spread(self.ours)}, {what} {spread(self.peers)}"
        return Figure(name, "s", middle(self.ours), bar, Beside(what, middle(self.peers)), note)


def of_an_image(ground: Ground) -> Iterator[Figure]:
    with Docker() as hand:
        image = images_of(ground, hand, ["good"])["good"]
        with cloud_on(ground, "docker") as cloud:
            times = asyncio.run(_images(ground, cloud, hand, image))
    yield times.figure(IMAGE, ratio_at_most(OF_DOCKER_RUN), "docker run")


async def _images(ground: Ground, cloud: Cloud, hand: Docker, image: str) -> Times:
    times = Times()
    async with tenant(cloud) as ana:
        for turn in range(ground.size.fleet.deploy_rounds):
            began, port = time.monotonic(), free_port()
            container = await asyncio.to_thread(hand.run, image, port)
            await _answers(port, "good")
            times.peers.append(time.monotonic() - began)
            await asyncio.to_thread(hand.remove, container)
            name = f"image-{turn}"
            began = time.monotonic()
            id = await ana.make(name, image=image)
            await _answers(cloud.apps_port, "good", ana.host(name))
            times.ours.append(time.monotonic() - began)
            await ana.becomes(id, "running")
            await ana.delete(id)
    return times


async def _answers(port: int, expected: str, host: str = "localhost") -> None:
    """Waits for a 200 that contains what is expected."""

    async def does() -> bool:
        status, body = await visit(port, host)
        return status == 200 and expected.encode() in body

    await until(does, f"{expected!r} at {host}:{port}", pause=ASKS_EVERY_SECONDS)


def of_a_process(ground: Ground) -> Iterator[Figure]:
    with cloud_on(ground, "local") as cloud:
        times = asyncio.run(_processes(ground, cloud))
    yield times.figure(PROCESS, ratio_at_most(OF_A_PROCESS), "a plain process")


async def _processes(ground: Ground, cloud: Cloud) -> Times:
    times, folder = Times(), ground.folder / "plain"
    folder.mkdir()
    (folder / "server.py").write_text(function_server())
    (folder / "app.py").write_text(FUNCTION)
    async with tenant(cloud) as ana:
        id = await ana.make("shop", file={"name": "app.py", "text": FUNCTION}, template="function")
        await ana.becomes(id, "running")
        await _answers(cloud.apps_port, "", ana.host("shop"))
        for _ in range(ground.size.fleet.deploy_rounds):
            times.peers.append(await _plain(ground, folder))
            await ana.post(f"/workloads/{id}/stop")
            await ana.becomes(id, "stopped")
            began = time.monotonic()
            await ana.post(f"/workloads/{id}/start")
            await _answers(cloud.apps_port, "", ana.host("shop"))
            times.ours.append(time.monotonic() - began)
            await ana.becomes(id, "running")
        await ana.delete(id)
    return times


async def _plain(ground: Ground, folder: Path) -> float:
    """The same program by the same interpreter, as somebody starts it by hand."""
    port, began = free_port(), time.monotonic()
    told = {**os.environ, "PORT": str(port), "PYTHONUNBUFFERED": "1"}
    program = Program([base_python(), str(folder / "server.py")], ground.folder / "plain.log", told)
    program.start()
    try:
        await _answers(port, "")
        return time.monotonic() - began
    finally:
        program.kill()


def of_a_redeploy(ground: Ground) -> Iterator[Figure]:
    with Docker() as hand:
        folder = ground.folder / "by-hand"
        folder.mkdir()
        try:
            hand.build(_written(folder, {**_application(0), "Dockerfile": DOCKERFILE}), "flask")
        except ProgramFailed as problem:
            yield not_measured(REDEPLOY, f"needs Flask from a package index: {problem}".splitlines()[0])
            return
        with cloud_on(ground, "docker") as cloud:
            times = asyncio.run(_redeploys(ground, cloud, hand, folder))
    what = "docker build + docker run"
    yield times.figure(REDEPLOY, ratio_at_most(OF_BUILD_AND_RUN), what)
    settled = Times(times.ready, times.peers)
    yield settled.figure(f"{REDEPLOY}, until it answers", ratio_at_most(OF_BUILD_AND_RUN), what)


async def _redeploys(ground: Ground, cloud: Cloud, hand: Docker, folder: Path) -> Times:
    times = Times()
    async with tenant(cloud) as ana, _engine(cloud) as engine:
        upload = await ana.upload(_packed(_application(0)))
        id = await ana.make("shop", upload=upload, template="flask")
        await ana.becomes(id, "running")
        await _answers(cloud.apps_port, "turn 0.", ana.host("shop"))
        for turn in range(1, ground.size.fleet.deploy_rounds + 1):
            times.peers.append(await _by_hand(hand, folder, turn))
            await until(lambda: _settled(ana, id), "the release before to have proven good")
            began = time.monotonic()
            upload = await ana.upload(_packed(_application(turn)))
            await ana.post(f"/workloads/{id}/deploy", {"upload": upload, "template": "flask"})
            ready = asyncio.create_task(_new_one_answers(engine, id, f"turn {turn}."))
            await _answers(cloud.apps_port, f"turn {turn}.", ana.host("shop"))
            times.ours.append(time.monotonic() - began)
            times.ready.append(await ready - began)
            ground.say(f"by hand {times.peers[-1]:.2f} s, {times.ready[-1]:.2f} s, settled {times.ours[-1]:.2f} s")
        await ana.delete(id)
    return times


async def _by_hand(hand: Docker, folder: Path, turn: int) -> float:
    _written(folder, _application(turn))
    began, port = time.monotonic(), free_port()
    image = await asyncio.to_thread(hand.build, folder, "flask")
    container = await asyncio.to_thread(hand.run, image, port)
    await _answers(port, f"turn {turn}.")
    took = time.monotonic() - began
    await asyncio.to_thread(hand.remove, container)
    return took


async def _settled(ana: Tenant, id: str) -> bool:
    releases = await ana.get(f"/workloads/{id}/releases")
    return all(release["verdict"] == "good" for release in releases)


async def _new_one_answers(engine: Engine, id: str, expected: str) -> float:
    """The moment at which some instance of the workload, asked directly, says what is expected."""

    async def does() -> bool:
        for sighting in await engine.observe(id):
            if sighting.address is not None:
                status, body = await visit(sighting.address.port, address=sighting.address.host)
                if status == 200 and expected.encode() in body:
                    return True
        return False

    await until(does, f"an instance that says {expected!r}", pause=ASKS_EVERY_SECONDS)
    return time.monotonic()


@asynccontextmanager
async def _engine(cloud: Cloud) -> AsyncIterator[Engine]:
    engine = engine_of(cloud)
    try:
        yield engine
    finally:
        await engine.close()


def _application(turn: int) -> dict[str, str]:
    return {"app.py": FLASK % turn, "requirements.txt": REQUIREMENTS}


def _written(folder: Path, files: Mapping[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).write_text(text)
    return folder


def _packed(files: Mapping[str, str]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return packed.getvalue()
