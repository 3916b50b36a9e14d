"""A real little OpenID provider: discovery, keys, authorization with PKCE, tokens; and ways to misbehave.

    provider = LittleProvider(clock)
    openid = OpenId([provider.known_as("little")], provider.http, clock)       # in process, without a socket
    async with provider.serving(): ...                                        # or on a loopback port

It signs with PyJWT, which the code under test does not use, so that no mistake is shared by both.
"""

from __future__ import annotations

import asyncio
import base64
import functools
import hashlib
import json
import secrets
import socket
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any
from urllib.parse import parse_qs, unquote, urlencode

import httpx
import jwt
import uvicorn
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from muelle.identity.oidc.model import Provider
from muelle.kit.clock import Clock, SystemClock

IN_PROCESS = "https://little.example"
CLIENT_ID = "muelle-in-a-test"
CLIENT_SECRET = "canary-client-secret"
TOKEN_SECONDS = 300
SLOW_SECONDS = 60.0

ANA = {
    "sub": "ana-1",
    "email": "Ana@Example.com",
    "email_verified": True,
    "name": "Ana",
    "picture": "https://pictures.example/ana.png",
}


Endpoint = Callable[[Request], Awaitable[Response]]


class Fault(StrEnum):
    SLOW = "slow"
    HUGE = "huge"
    ENDLESS = "endless"
    ERROR = "error"
    REDIRECT = "redirect"
    GIBBERISH = "gibberish"
    DEEP = "deep"
    LIST = "list"
    PACKED = "packed"


@dataclass(frozen=True)
class SigningKey:
    kid: str
    algorithm: str
    private: Any

    @property
    def jwk(self) -> dict[str, Any]:
        kinds: dict[str, Any] = {
            "RS256": RSAAlgorithm,
            "PS256": RSAAlgorithm,
            "ES256": ECAlgorithm,
            "EdDSA": OKPAlgorithm,
        }
        public = kinds[self.algorithm].to_jwk(self.private.public_key(), as_dict=True)
        public.pop("key_ops", None)
        return {**public, "kid": self.kid, "use": "sig", "alg": self.algorithm}

    def sign(self, claims: dict[str, Any], **header: Any) -> str:
        return jwt.encode(claims, self.private, algorithm=self.algorithm, headers={"kid": self.kid, **header})


@functools.cache
def signing_key(algorithm: str, number: int = 1) -> SigningKey:
    """One for each algorithm and number, made once in a process: RSA keys take their time."""
    makers = {
        "RS256": lambda: rsa.generate_private_key(65537, 2048),
        "PS256": lambda: rsa.generate_private_key(65537, 2048),
        "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
        "EdDSA": ed25519.Ed25519PrivateKey.generate,
    }
    return SigningKey(f"{algorithm.lower()}-{number}", algorithm, makers[algorithm]())


class LittleProvider:
    def __init__(self, clock: Clock, issuer: str = IN_PROCESS) -> None:
        self.clock = clock
        self.issuer = issuer
        self.said_issuer: str | None = None  # what discovery says instead, when it lies
        self.keys = [signing_key("RS256"), signing_key("ES256"), signing_key("EdDSA")]
        self.other_keys: list[Any] = []  # put in front of the published ones, as they are
        self.person: dict[str, Any] = dict(ANA)
        self.lies: dict[str, Any] = {}  # claims that override those of every token it makes
        self.discovered: dict[str, Any] = {}  # what overrides the discovery document
        self.faults: dict[str, Fault] = {}  # by the name of the endpoint: discovery, jwks, authorize, token
        self.token_error: tuple[int, dict[str, str]] | None = None
        self.asked: Counter[str] = Counter()
        self.authenticated_by: list[str] = []
        self._codes: dict[str, dict[str, str]] = {}
        self._closing = asyncio.Event()
        self.app = Starlette(
            routes=[
                Route("/.well-known/openid-configuration", self._guarded("discovery", self._discovery)),
                Route("/jwks", self._guarded("jwks", self._jwks)),
                Route("/authorize", self._guarded("authorize", self._authorize)),
                Route("/token", self._guarded("token", self._token), methods=["POST"]),
            ]
        )

    def known_as(self, name: str = "little", **settings: Any) -> Provider:
        """The provider as an operator would set it."""
        basics = {"client_id": CLIENT_ID, "client_secret": CLIENT_SECRET, "issuer": self.issuer}
        return Provider.model_validate({"name": name} | basics | settings)

    def http(self) -> httpx.AsyncClient:
        """A client that reaches this provider without a socket."""
        return httpx.AsyncClient(transport=httpx.ASGITransport(self.app))

    def claims(self, **changes: Any) -> dict[str, Any]:
        """Those of a good ID token for the person, with changes; None takes a claim out."""
        now = int(self.clock.now().timestamp())
        basics = {"iss": self.issuer, "aud": CLIENT_ID, "iat": now, "exp": now + TOKEN_SECONDS}
        claims = basics | self.person | self.lies | changes
        return {name: value for name, value in claims.items() if value is not None}

    def id_token(self, algorithm: str = "RS256", **changes: Any) -> str:
        return self.key(algorithm).sign(self.claims(**changes))

    def key(self, algorithm: str = "RS256") -> SigningKey:
        return next(key for key in self.keys if key.algorithm == algorithm)

    def rotate(self) -> None:
        """A new RSA key signs from now on; the old one is no longer published."""
        old = self.key()
        self.keys[self.keys.index(old)] = signing_key("RS256", int(old.kid.rpartition("-")[2]) + 1)

    async def sign_in(self, url: str) -> dict[str, str]:
        """What a browser does with the URL: goes there, is sent back, and hands over what the address then holds."""
        async with self.http() as browser:
            answer = await browser.get(url)
        assert answer.status_code == 302, answer.text
        query = parse_qs(httpx.URL(answer.headers["location"]).query.decode())
        return {name: values[0] for name, values in query.items()}

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """On a loopback port, over real sockets and plain http."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.issuer = f"http://127.0.0.1:{listener.getsockname()[1]}"
            server = uvicorn.Server(uvicorn.Config(self.app, log_level="warning", lifespan="off", ws="none"))
            running = asyncio.create_task(server.serve(sockets=[listener]))
            try:
                while not server.started:
                    await asyncio.sleep(0.005)
                yield
            finally:
                self._closing.set()
                server.should_exit = True
                await running

    def _guarded(self, name: str, answer: Endpoint) -> Endpoint:
        async def endpoint(request: Request) -> Response:
            self.asked[name] += 1
            await asyncio.sleep(0)  # others get a turn while it thinks, as they would with a socket between
            match self.faults.get(name):
                case None:
                    return await answer(request)
                case Fault.SLOW:
                    await SystemClock().wait(self._closing, SLOW_SECONDS)
                    return Response("late")
                case fault:
                    return misbehaviour(fault, request)

        return endpoint

    async def _discovery(self, request: Request) -> Response:
        document = {
            "issuer": self.said_issuer or self.issuer,
            "jwks_uri": f"{self.issuer}/jwks",
            "authorization_endpoint": f"{self.issuer}/authorize?flavour=plain",
            "token_endpoint": f"{self.issuer}/token",
            "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
            "code_challenge_methods_supported": ["S256"],
        } | self.discovered
        return JSONResponse({name: value for name, value in document.items() if value is not None})

    async def _jwks(self, request: Request) -> Response:
        return JSONResponse({"keys": [*self.other_keys, *(key.jwk for key in self.keys)]})

    async def _authorize(self, request: Request) -> Response:
        query = dict(request.query_params)
        right = query.get("client_id") == CLIENT_ID and query.get("response_type") == "code"
        if not right or query.get("code_challenge_method") != "S256" or "openid" not in query.get("scope", "").split():
            return Response("This client asks in a wrong way.", 400)
        code = secrets.token_urlsafe(16)
        self._codes[code] = query
        return RedirectResponse(f"{query['redirect_uri']}?{urlencode({'code': code, 'state': query['state']})}", 302)

    async def _token(self, request: Request) -> Response:
        form = {name: values[0] for name, values in parse_qs((await request.body()).decode()).items()}
        if self.token_error is not None:
            status, document = self.token_error
            return JSONResponse(document, status)
        if not self._knows_client(request, form):
            return JSONResponse({"error": "invalid_client"}, 401)
        begun = self._codes.pop(form.get("code", ""), None)  # once only
        if begun is None or form.get("grant_type") != "authorization_code":
            return JSONResponse({"error": "invalid_grant"}, 400)
        if begun["redirect_uri"] != form.get("redirect_uri") or begun["code_challenge"] != challenge(form):
            return JSONResponse({"error": "invalid_grant"}, 400)
        token = self.id_token(**{"nonce": begun.get("nonce")} | self.lies)
        return JSONResponse({"access_token": secrets.token_urlsafe(16), "token_type": "Bearer", "id_token": token})

    def _knows_client(self, request: Request, form: dict[str, str]) -> bool:
        kind, _, encoded = request.headers.get("authorization", "").partition(" ")
        if kind == "Basic":
            self.authenticated_by.append("basic")
            client, _, secret = base64.b64decode(encoded).decode().partition(":")
            return (unquote(client), unquote(secret)) == (CLIENT_ID, CLIENT_SECRET)
        self.authenticated_by.append("post" if "client_secret" in form else "none")
        return form.get("client_id") == CLIENT_ID and form.get("client_secret", CLIENT_SECRET) == CLIENT_SECRET


def challenge(form: dict[str, str]) -> str:
    """What PKCE makes of the verifier in the form."""
    digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def misbehaviour(fault: Fault, request: Request) -> Response:
    answers = {
        Fault.HUGE: JSONResponse({"keys": [], "padding": "x" * 300_000}),
        Fault.ENDLESS: StreamingResponse(drops(), media_type="application/json"),
        Fault.ERROR: Response("Something broke.", 500),
        Fault.REDIRECT: RedirectResponse(f"{request.url}?again=1", 302),
        Fault.GIBBERISH: Response("<html>Welcome to the network of this hotel</html>"),
        Fault.DEEP: Response("[" * 200_000),
        Fault.LIST: JSONResponse([1, 2, 3]),
        Fault.PACKED: Response(b"\x1f\x8b\x08" + bytes(64), headers={"content-encoding": "gzip"}),
    }
    return answers[fault]


async def drops() -> AsyncIterator[bytes]:
    """An answer that never ends and never pauses for long: no time-out between two pieces would notice."""
    yield b'{"keys": ['
    while True:
        yield b" "
        await asyncio.sleep(0.01)


def twisted(token: str, **changes: Any) -> str:
    """The token with claims changed after it was signed."""
    header, payload, signature = token.split(".")
    claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return ".".join([header, b64(json.dumps(claims | changes).encode()), signature])


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def renamed(key: SigningKey, kid: str) -> SigningKey:
    return replace(key, kid=kid)
