"""A git server over TLS on loopback: git's own http-backend behind a little of ours, that does as a test wants."""

from __future__ import annotations

import base64
import ipaddress
import os
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

HOST = "git.example.test"
OTHER = "other.example.test"
INNER = "inner.example.test"
MOST_SECONDS = 60


@dataclass
class Asked:
    host: str
    path: str
    authorization: str


@dataclass
class GitServer:
    """What it has seen, and how it shall behave."""

    root: Path
    pem: str
    port: int = 0
    asked: list[Asked] = field(default_factory=list)
    tokens: dict[str, str] = field(default_factory=dict)
    """The password that a repository wants, by its first path segment."""
    redirects: dict[str, str] = field(default_factory=dict)
    """To where, by the host name and first segment that is asked."""
    statuses: dict[str, int] = field(default_factory=dict)
    stalled: set[str] = field(default_factory=set)
    old: set[str] = field(default_factory=set)
    """Repositories that speak the first protocol: what is not the end of a branch or tag is not given out."""
    released: threading.Event = field(default_factory=threading.Event)
    held: threading.Event = field(default_factory=threading.Event)

    def url(self, repository: str, host: str = HOST) -> str:
        return f"https://{host}:{self.port}/{repository}"

    def make(self, name: str, files: dict[str, str | bytes], message: str = "First", **more: Any) -> Repository:
        made = Repository(self.root / name)
        made.git("init", "--quiet", "--initial-branch=main")
        made.commit(files, message, **more)
        return made


@dataclass(frozen=True)
class Repository:
    folder: Path

    def git(self, *words: str, stdin: bytes = b"", date: str = "2026-01-01T00:00:00Z") -> str:
        self.folder.mkdir(parents=True, exist_ok=True)
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_AUTHOR_NAME": "Ana",
            "GIT_AUTHOR_EMAIL": "ana@example.com",
            "GIT_COMMITTER_NAME": "Ana",
            "GIT_COMMITTER_EMAIL": "ana@example.com",
            "GIT_AUTHOR_DATE": date,
            "GIT_COMMITTER_DATE": date,
        }
        done = subprocess.run(
            ["git", *words], cwd=self.folder, env=environment, input=stdin, capture_output=True, timeout=60, check=True
        )
        return done.stdout.decode().strip()

    def commit(
        self,
        files: dict[str, str | bytes],
        message: str = "More",
        *,
        links: dict[str, str] | None = None,
        modules: dict[str, tuple[str, str]] | None = None,
    ) -> str:
        """`modules` are submodules: by path, an address and a commit."""
        for path, content in files.items():
            file = self.folder / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content if isinstance(content, bytes) else content.encode())
        for path, target in (links or {}).items():
            (self.folder / path).symlink_to(target)
        if modules:
            (self.folder / ".gitmodules").write_text(
                "".join(f'[submodule "{path}"]\n\tpath = {path}\n\turl = {url}\n' for path, (url, _) in modules.items())
            )
        self.git("add", "--all")
        for path, (_, commit) in (modules or {}).items():
            self.git("update-index", "--add", "--cacheinfo", f"160000,{commit},{path}")
        self.git("commit", "--quiet", "--allow-empty", "-m", message)
        return self.git("rev-parse", "HEAD")

    def commit_tree(self, tree: str, message: str = "Made by hand") -> str:
        """Of a tree that git would not make by itself."""
        commit = self.git("commit-tree", tree, "-m", message)
        self.git("update-ref", "refs/heads/main", commit)
        return commit


def resolving(**more: str) -> Callable[[str, int], Any]:
    """All the names of these tests mean loopback, unless something else is said; a number means itself."""
    known = {HOST: "127.0.0.1", OTHER: "127.0.0.1", INNER: "127.0.0.1"} | {
        name.replace("_", "."): address for name, address in more.items()
    }

    async def resolve(host: str, port: int) -> Sequence[str]:
        if host in known:
            return known[host].split()
        try:
            return [str(ipaddress.ip_address(host))]
        except ValueError:
            raise OSError("no such name") from None

    return resolve


@contextmanager
def git_server(folder: Path) -> Iterator[GitServer]:
    context, pem = _certificate(folder)
    root = folder / "repositories"
    root.mkdir()
    server = GitServer(root, pem)

    class Handler(_Handler):
        git = server

    with _Listener(("127.0.0.1", 0), Handler, context) as listener:
        server.port = listener.server_address[1]
        thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server
        finally:
            server.released.set()
            listener.shutdown()
            thread.join()


class _Listener(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(
        self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler], context: ssl.SSLContext
    ) -> None:
        self._context = context
        super().__init__(address, handler)

    def finish_request(self, request: Any, client_address: Any) -> None:
        """The handshake belongs to the connection's own thread."""
        request.settimeout(MOST_SECONDS)
        super().finish_request(self._context.wrap_socket(request, server_side=True), client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients of these tests go away in the middle, and that is how it should be."""


class _Handler(BaseHTTPRequestHandler):
    git: GitServer

    def do_GET(self) -> None:
        host = (self.headers["Host"] or "").partition(":")[0]
        name = self.path.split("/")[1].partition("?")[0]
        self.git.asked.append(Asked(host, self.path, self.headers["Authorization"] or ""))
        if target := self.git.redirects.get(f"{host}/{name}"):
            if self._lets_in(name):
                self._plain(302, Location=target + self.path.removeprefix(f"/{name}"))
        elif name in self.git.statuses:
            self._plain(self.git.statuses[name])
        elif name in self.git.stalled and "upload-pack" in self.path and self.command == "POST":
            self.git.held.set()
            self.git.released.wait(MOST_SECONDS)
        elif self._lets_in(name):
            self._backend()

    do_POST = do_GET

    def _lets_in(self, name: str) -> bool:
        if not (token := self.git.tokens.get(name)):
            return True
        _, _, given = (self.headers["Authorization"] or "").partition("Basic ")
        if base64.b64decode(given).decode().partition(":")[2] == token:
            return True
        self._plain(401, **{"WWW-Authenticate": 'Basic realm="git"'})
        return False

    def _plain(self, status: int, **headers: str) -> None:
        self.rfile.read(int(self.headers["Content-Length"] or 0))
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _backend(self) -> None:
        path, _, query = self.path.partition("?")
        name, _, rest = path.lstrip("/").partition("/")
        environment = {
            "PATH": os.environ["PATH"],
            "GIT_PROJECT_ROOT": str(self.git.root),
            "GIT_HTTP_EXPORT_ALL": "1",
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": "safe.directory",
            "GIT_CONFIG_VALUE_0": "*",
            "REQUEST_METHOD": self.command,
            "PATH_INFO": f"/{name.removesuffix('.git')}/.git/{rest}",
            "QUERY_STRING": query,
            "CONTENT_TYPE": self.headers["Content-Type"] or "",
            "HTTP_CONTENT_ENCODING": self.headers["Content-Encoding"] or "",
            "GIT_PROTOCOL": "" if name in self.git.old else self.headers["Git-Protocol"] or "",
        }
        body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        done = subprocess.run(["git", "http-backend"], env=environment, input=body, capture_output=True, check=False)
        head, _, answer = done.stdout.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n") if line)
        self.send_response(int(headers.pop("Status", "200").split()[0]))
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *args: Any) -> None:
        """Tests are quiet."""


def _certificate(folder: Path) -> tuple[ssl.SSLContext, str]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "A company")])
    names: list[x509.GeneralName] = [x509.DNSName(host) for host in (HOST, OTHER, INNER, "localhost")]
    names.append(x509.IPAddress(ipaddress.ip_address("127.0.0.1")))
    now = datetime.now(UTC) - timedelta(minutes=1)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now, now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = made.public_bytes(serialization.Encoding.PEM)
    file = folder / "server.pem"
    file.write_bytes(
        pem
        + key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    return context, pem.decode()
