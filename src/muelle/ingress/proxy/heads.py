"""Reads heads, and writes those that are passed on. Pure: bytes to values to bytes.

A header that means something to one connection only goes no further, nor does one that `Connection` names. What says
who the client is (`X-Forwarded-…` and the like) is believed of trusted proxies alone; of anybody else it is dropped
and told anew, in all spellings that some program takes for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from muelle.ingress.proxy.grammar import ABSOLUTE, ANSWER, HOST, LENGTH, REQUEST
from muelle.ingress.proxy.limits import Limits

BLANK = b" \t"


class BadHead(Exception):
    """A request that is refused, with the status that says so."""

    def __init__(self, status: int, why: str) -> None:
        self.status = status
        self.why = why
        super().__init__(why)


class BadAnswer(Exception):
    """An answer that is no proper HTTP."""


class Framing(Enum):
    """How the end of a body is found."""

    NONE = "none"
    LENGTH = "length"
    CHUNKED = "chunked"
    UNTIL_CLOSE = "until close"


@dataclass(slots=True)
class Request:
    method: bytes
    target: bytes
    host: str
    """In lower case, without port and last dot: as the table knows it."""
    authority: bytes
    """As it was sent."""
    minor: int
    headers: list[bytes]
    """Whole lines that are passed on as they came."""
    framing: Framing = Framing.NONE
    length: int = 0
    keep_alive: bool = True
    upgrade: bytes = b""
    accept: str = ""
    accept_language: str = ""
    forwarded: dict[bytes, bytes] | None = None
    """What a trusted proxy said, by header."""

    @property
    def idempotent(self) -> bool:
        return self.method in IDEMPOTENT


IDEMPOTENT = frozenset({b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE"})

HOP = frozenset(
    {b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade", b"proxy"}
    | {b"proxy-authorization", b"http2-settings"}
)
"""Of one connection only; and `Proxy`, which programs of the CGI kind take for a setting of their own."""

FORWARDED = (b"x-forwarded-", b"x-real-ip", b"x-request-id", b"forwarded", b"x-client-ip", b"true-client-ip")
"""How names begin that say where a request comes from."""

BELIEVED = (b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host", b"x-request-id")

NEVER_NAMED = frozenset({b"host", b"content-length", b"authorization", b"cookie"})
"""Not dropped though `Connection` names them: no client has a reason to ask for that."""

NOT_PASSED_UPGRADES = frozenset({b"h2c", b"http/2.0"})
"""Would be answered in a language in which we cannot see requests; without the offer HTTP/1.1 is spoken."""


def read_request(head: bytes, limits: Limits, *, trusted: bool) -> Request:
    """Reads a head, up to and with its empty line; raises BadHead."""
    match = REQUEST.fullmatch(head)
    if match is None:
        raise BadHead(400, "The head of the request is not well-formed.")
    method, target, minor, block = match.groups()
    lines = block.split(b"\r\n")
    lines.pop()  # behind the last line's end
    if len(lines) > limits.headers:
        raise BadHead(431, f"The request has more than {limits.headers} headers.")
    if len(target) > limits.target_bytes:
        raise BadHead(414, f"The address is longer than {limits.target_bytes} bytes.")
    request = Request(method, target, "", b"", int(minor), [])
    _sort_headers(request, lines, trusted)
    _settle_target(request)
    return request


def _sort_headers(request: Request, lines: list[bytes], trusted: bool) -> None:
    """Passes on what is nobody's business here, and takes the rest apart."""
    special: dict[bytes, list[bytes]] = {}
    kept = request.headers
    for line in lines:
        name, _, value = line.partition(b":")
        key = name.lower()
        if key in READ:
            special.setdefault(key, []).append(value.strip(BLANK))
            if key not in ALSO_PASSED:
                continue
        elif key in HOP or (key.startswith(MARKED) and _dropped(request, key, value, trusted)):
            continue
        kept.append(line)
    _settle_host(request, special.get(b"host"))
    _settle_framing(request, special.get(b"transfer-encoding"), special.get(b"content-length"))
    _settle_connection(request, special)


READ = frozenset({b"host", b"connection", b"transfer-encoding", b"content-length", b"upgrade", b"expect"})
READ |= {b"accept", b"accept-language"}
ALSO_PASSED = frozenset({b"content-length", b"expect", b"accept", b"accept-language"})
MARKED = (b"x", b"f", b"t")
"""Letters with which names of `FORWARDED` begin, so that most headers are not looked at any closer."""


def _dropped(request: Request, key: bytes, value: bytes, trusted: bool) -> bool:
    """Keeps aside what says where the request comes from, whoever spelt it with underscores."""
    plain = key.replace(b"_", b"-")
    if not plain.startswith(FORWARDED):
        return False
    if trusted and key in BELIEVED:
        known = request.forwarded = request.forwarded or {}
        before = known.get(key)
        known[key] = value.strip(BLANK) if before is None else before + b", " + value.strip(BLANK)
    return not trusted or plain in BELIEVED


def _settle_host(request: Request, given: list[bytes] | None) -> None:
    if given is None or len(given) != 1:
        raise BadHead(400, "The request needs exactly one Host.")
    match = HOST.fullmatch(given[0])
    if match is None:
        raise BadHead(400, "The Host is no name of a host.")
    request.authority = given[0]
    host: str = match[1].decode("ascii").lower()
    request.host = host.removesuffix(".")


def _settle_framing(request: Request, encodings: list[bytes] | None, lengths: list[bytes] | None) -> None:
    if encodings is not None:
        if lengths is not None:
            raise BadHead(400, "The request has both a Transfer-Encoding and a Content-Length.")
        if request.minor == 0:
            raise BadHead(400, "HTTP/1.0 knows no Transfer-Encoding.")
        if len(encodings) != 1 or encodings[0].lower() != b"chunked":
            raise BadHead(501, "No other Transfer-Encoding than a single `chunked` is understood.")
        request.framing = Framing.CHUNKED
    elif lengths is not None:
        if len(lengths) != 1 or LENGTH.fullmatch(lengths[0]) is None:
            raise BadHead(400, "The Content-Length is not one number.")
        request.length = int(lengths[0])
        if request.length:
            request.framing = Framing.LENGTH


def _settle_connection(request: Request, special: dict[bytes, list[bytes]]) -> None:
    options = _options(special.get(b"connection"))
    modern = request.minor == 1
    request.keep_alive = b"close" not in options if modern else b"keep-alive" in options
    if named := options - PLAIN_OPTIONS:
        request.headers = _without(request.headers, named - NEVER_NAMED)
    upgrade = special.get(b"upgrade")
    if upgrade and modern and b"upgrade" in options and len(upgrade) == 1:
        request.upgrade = b"" if upgrade[0].lower() in NOT_PASSED_UPGRADES else upgrade[0]
    expected = special.get(b"expect")
    if expected and [value.lower() for value in expected] != [b"100-continue"]:
        raise BadHead(417, "Nothing else than `100-continue` can be expected.")
    request.accept = b",".join(special.get(b"accept", ())).decode("latin-1")
    request.accept_language = b",".join(special.get(b"accept-language", ())).decode("latin-1")


PLAIN_OPTIONS = frozenset({b"close", b"keep-alive", b"upgrade"})
NO_OPTIONS: frozenset[bytes] = frozenset()


def _options(values: list[bytes] | None) -> frozenset[bytes]:
    if values is None:
        return NO_OPTIONS
    return frozenset(option.strip(BLANK) for value in values for option in value.lower().split(b",")) - {b""}


def _without(lines: list[bytes], names: frozenset[bytes]) -> list[bytes]:
    return [line for line in lines if line.partition(b":")[0].lower() not in names]


def _settle_target(request: Request) -> None:
    """`/path` as it is, `http://name/path` as the path, `*` for OPTIONS, and nothing else."""
    target = request.target
    if target[0] == SLASH or (target == b"*" and request.method == b"OPTIONS"):
        return
    match = ABSOLUTE.fullmatch(target)
    if match is None or request.method == b"CONNECT":
        raise BadHead(400, "The request asks for no path.")
    if match[1].lower() != request.authority.lower():
        raise BadHead(400, "The address of the request and its Host are not the same.")
    request.target = match[2] if match[2].startswith(b"/") else b"/" + match[2]


SLASH = ord("/")


def write_request(request: Request, peer: bytes, request_id: bytes) -> bytes:
    """The head for the workload."""
    said = request.forwarded or {}
    before = said.get(b"x-forwarded-for")
    connection = b"Connection: Upgrade\r\nUpgrade: " + request.upgrade + b"\r\n" if request.upgrade else b""
    coding = b"Transfer-Encoding: chunked\r\n" if request.framing is Framing.CHUNKED else b""
    headers = b"\r\n".join(request.headers) + b"\r\n" if request.headers else b""
    return b"%b %b HTTP/1.1\r\nHost: %b\r\n%b%b%bX-Forwarded-For: %b\r\nX-Forwarded-Proto: %b\r\n%b" % (
        request.method,
        request.target,
        request.authority,
        headers,
        connection,
        coding,
        peer if before is None else before + b", " + peer,
        said.get(b"x-forwarded-proto", b"http"),
        b"X-Forwarded-Host: %b\r\nX-Request-Id: %b\r\n\r\n"
        % (said.get(b"x-forwarded-host", request.authority), said.get(b"x-request-id", request_id)),
    )


@dataclass(slots=True)
class Answer:
    status: int
    first_line: bytes
    """With its end, in our own version."""
    headers: list[bytes]
    framing: Framing
    length: int
    keep_alive: bool
    upgrade: bytes = b""


def read_answer(head: bytes, method: bytes, limits: Limits) -> Answer:
    """Reads a head, up to and with its empty line; raises BadAnswer."""
    match = ANSWER.fullmatch(head)
    if match is None:
        raise BadAnswer("its head is not well-formed")
    minor, status, reason, block = match.groups()
    lines = block.split(b"\r\n")
    lines.pop()
    if len(lines) > limits.headers:
        raise BadAnswer(f"it has more than {limits.headers} headers")
    first_line = b"HTTP/1.1 %b%b\r\n" % (status, reason or b" ")
    answer = Answer(int(status), first_line, [], Framing.UNTIL_CLOSE, 0, minor == b"1")
    special: dict[bytes, list[bytes]] = {}
    for line in lines:
        name, _, value = line.partition(b":")
        key = name.lower()
        if key in ANSWER_READ:
            special.setdefault(key, []).append(value.strip(BLANK))
        if key not in ANSWER_HOP:
            answer.headers.append(line)
    if special:
        _settle_answer(answer, special)
    if answer.status < FIRST_FINAL or answer.status in BODILESS or method == b"HEAD":
        answer.framing = Framing.NONE
    return answer


FIRST_FINAL = 200
BODILESS = frozenset({204, 304})
ANSWER_READ = frozenset({b"connection", b"transfer-encoding", b"content-length", b"upgrade"})
ANSWER_HOP = frozenset(
    {b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade", b"trailer"}
)


def _settle_answer(answer: Answer, special: dict[bytes, list[bytes]]) -> None:
    lengths, encodings = special.get(b"content-length"), special.get(b"transfer-encoding")
    if encodings is not None:
        if lengths is not None or len(encodings) != 1 or encodings[0].lower() != b"chunked" or not answer.keep_alive:
            raise BadAnswer("the end of its body cannot be told for certain")
        answer.framing = Framing.CHUNKED
    elif lengths is not None:
        if len(set(lengths)) != 1 or LENGTH.fullmatch(lengths[0]) is None:
            raise BadAnswer("its Content-Length is not one number")
        answer.length = int(lengths[0])
        answer.framing = Framing.LENGTH if answer.length else Framing.NONE
        if len(lengths) > 1:
            answer.headers = [*_without(answer.headers, LENGTHS), b"Content-Length: " + lengths[0]]
    _settle_answer_connection(answer, special)


LENGTHS = frozenset({b"content-length"})


def _settle_answer_connection(answer: Answer, special: dict[bytes, list[bytes]]) -> None:
    options = _options(special.get(b"connection"))
    answer.keep_alive = b"close" not in options if answer.keep_alive else b"keep-alive" in options
    if named := options - PLAIN_OPTIONS:
        answer.headers = _without(answer.headers, named - LENGTHS)
    answer.upgrade = b", ".join(special.get(b"upgrade", ()))


def write_answer(answer: Answer, *, chunked: bool, connection: bytes) -> bytes:
    """The head for the client."""
    headers = b"\r\n".join(answer.headers) + b"\r\n" if answer.headers else b""
    coding = b"Transfer-Encoding: chunked\r\n" if chunked else b""
    return b"%b%b%b%b\r\n" % (answer.first_line, headers, coding, connection)
