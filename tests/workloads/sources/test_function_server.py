"""The program that serves a function, run as it is put beside an app.py."""

from __future__ import annotations

import ast
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from muelle.workloads.sources.recipes import function_server

APP = """
import sys, threading, time

def microservicio(request):
    body = request["body"]
    if body == {"do": "fail"}:
        raise RuntimeError("a secret of the program")
    if body == {"do": "exit"}:
        sys.exit(3)
    if body == {"do": "object"}:
        return object()
    if body == {"do": "nan"}:
        return float("nan")
    if body == {"do": "wait"}:
        print("waiting", flush=True)
        time.sleep(0.5)
    return {"got": body, "header": request["headers"].get("X-Mine"), "mensaje": "ñandú"}
"""


@contextmanager
def serving(folder: Path, app: str = APP, name: str = "hola") -> Iterator[Served]:
    (folder / "app.py").write_text(app)
    (folder / "server.py").write_text(function_server())
    port = free_port()
    environment = {"PATH": os.environ["PATH"], "PORT": str(port), "MICROSERVICIO_NAME": name, "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-I", "server.py"]
    with subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout
            assert process.stdout.readline() == f"listening on port {port}\n"
            yield Served(process, port)
        finally:
            process.kill()
            process.communicate(timeout=10)


class Served:
    def __init__(self, process: subprocess.Popen[str], port: int) -> None:
        self.process = process
        self.port = port

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        connection = self.connect()
        try:
            connection.request(method, path, body, headers, encode_chunked="Transfer-Encoding" in headers)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read() or b"null")
        finally:
            connection.close()

    def post(self, document: Any, path: str = "/hola", **headers: str) -> tuple[int, Any]:
        return self.ask("POST", path, json.dumps(document), **headers)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as one:
        return int(one.getsockname()[1])


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("function")) as served:
        yield served


@pytest.mark.parametrize("path", ["/hola", "/", "/hola/", "/hola?x=1"])
def test_a_post_gets_what_the_function_returns(served: Served, path: str) -> None:
    status, answer = served.ask("POST", path, json.dumps({"nombre": "Ana"}), **{"X-Mine": "1"})
    assert (status, answer) == (200, {"got": {"nombre": "Ana"}, "header": "1", "mensaje": "ñandú"})


@pytest.mark.parametrize(
    ("body", "understood"),
    [("hello", {"raw": "hello"}), ("", {}), ("[1]", [1]), ('"x"', "x"), ("[" * 100_000, {"raw": "[" * 100_000})],
    ids=["a text", "nothing", "a list", "a string", "too deep"],
)
def test_a_body_is_json_or_raw(served: Served, body: str, understood: Any) -> None:
    status, answer = served.ask("POST", "/hola", body)
    assert (status, answer["got"]) == (200, understood)


def test_a_body_in_chunks_is_put_together(served: Served) -> None:
    chunks = iter([b'{"a":', b" 1", b"}"])
    status, answer = served.ask("POST", "/hola", chunks, **{"Transfer-Encoding": "chunked"})
    assert (status, answer["got"]) == (200, {"a": 1})


def test_another_path_says_which_one_is_right(served: Served) -> None:
    assert served.post({}, "/otra") == (404, {"error": "Ruta no valida. Use /hola"})
    assert served.ask("GET", "/otra") == (404, {"error": "Ruta no valida. Use /hola"})


def test_it_says_that_it_is_well(served: Served) -> None:
    assert served.ask("GET", "/") == (200, {"status": "ok", "name": "hola"})
    assert served.ask("HEAD", "/") == (200, None)


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS"])
def test_only_post_calls_it(served: Served, method: str) -> None:
    assert served.ask(method, "/hola", "{}") == (405, {"error": "Solo se admite POST"})


@pytest.mark.parametrize(
    ("do", "words"),
    [
        ("fail", "Error interno del microservicio"),
        ("exit", "Error interno del microservicio"),
        ("object", "El microservicio no devolvio JSON"),
        ("nan", "El microservicio no devolvio JSON"),
    ],
)
def test_what_goes_wrong_in_it_is_told_without_its_insides(served: Served, do: str, words: str) -> None:
    assert served.post({"do": do}) == (500, {"error": words})
    assert served.ask("GET", "/")[0] == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ("Content-Length: x", 400),
        ("Content-Length: -1", 400),
        (f"Content-Length: {2**40}", 413),
        ("Transfer-Encoding: chunked\r\n\r\nzz", 400),
        ("Transfer-Encoding: chunked\r\n\r\n-5", 413),
        ("Transfer-Encoding: chunked\r\n\r\nffffffffff", 413),
    ],
)
def test_a_body_that_cannot_be_is_refused(served: Served, headers: str, status: int) -> None:
    with socket.create_connection(("127.0.0.1", served.port), timeout=20) as one:
        one.sendall(f"POST /hola HTTP/1.1\r\nHost: x\r\n{headers}\r\n\r\n".encode())
        assert one.recv(4096).startswith(f"HTTP/1.1 {status} ".encode())


def test_requests_run_beside_each_other(served: Served) -> None:
    with ThreadPoolExecutor(8) as pool:
        assert [status for status, _ in pool.map(lambda n: served.post({"n": n}), range(40))] == [200] * 40


def test_being_asked_to_end_it_finishes_what_it_has_begun(tmp_path: Path) -> None:
    with serving(tmp_path) as served, ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(served.post, {"do": "wait"})
        assert served.process.stdout
        assert served.process.stdout.readline() == "waiting\n"
        served.process.send_signal(signal.SIGTERM)
        assert waiting.result(timeout=20)[0] == 200
        assert served.process.wait(timeout=20) == 0


def test_a_function_may_be_asynchronous(tmp_path: Path) -> None:
    with serving(tmp_path, "async def microservicio(request):\n    return 1\n") as served:
        assert served.post({}) == (200, 1)


@pytest.mark.parametrize(
    ("app", "words"),
    [
        ("def other(): ...", "app.py has no function microservicio(request)"),
        ("raise ValueError('broken')", "ValueError: broken"),
    ],
)
def test_an_app_that_cannot_be_served_says_so_and_ends(tmp_path: Path, app: str, words: str) -> None:
    (tmp_path / "app.py").write_text(app)
    (tmp_path / "server.py").write_text(function_server())
    done = subprocess.run(
        [sys.executable, "server.py"], cwd=tmp_path, capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 1
    assert words in done.stderr


def test_it_needs_nothing_but_python() -> None:
    """It runs in an image that has no Muelle, on a Python that may be older than ours."""
    tree = ast.parse(function_server(), feature_version=(3, 8))
    imported = {
        name.partition(".")[0]
        for node in ast.walk(tree)
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert imported <= set(sys.stdlib_module_names)


CONTRACT: dict[str, tuple[str, dict[str, Any], Callable[[Any], bool]]] = {
    "a greeting": (
        'def microservicio(request):\n    return {"mensaje": "Hola " + request["body"]["nombre"]}\n',
        {"nombre": "Ana"},
        lambda answer: bool(answer == {"mensaje": "Hola Ana"}),
    ),
    "a calculator": (
        "def microservicio(request):\n"
        "    b = request['body']\n"
        "    if b['op'] == 'div' and b['b'] == 0:\n"
        "        return {'ok': False, 'error': 'División por cero no permitida.'}\n"
        "    return {'ok': True, 'op': b['op'], 'a': b['a'], 'b': b['b'], 'result': b['a'] + b['b']}\n",
        {"op": "div", "a": 1, "b": 0},
        lambda answer: bool(answer == {"ok": False, "error": "División por cero no permitida."}),
    ),
}


@pytest.mark.parametrize(("app", "body", "fits"), CONTRACT.values(), ids=CONTRACT)
def test_the_samples_that_people_begin_with(
    tmp_path: Path, app: str, body: dict[str, Any], fits: Callable[[Any], bool]
) -> None:
    with serving(tmp_path, app) as served:
        status, answer = served.post(body)
        assert status == 200
        assert fits(answer)
