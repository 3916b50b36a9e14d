"""What git complains of, in words that a person can act on. Pure: from its stderr to an error."""

from __future__ import annotations

import re
from collections.abc import Callable

from muelle.kit.errors import MuelleError
from muelle.workloads.sources.errors import (
    CertificateRefused,
    DiskRefused,
    FetchFailed,
    HostUnreachable,
    ProtocolRefused,
    RepositoryMissing,
    RepositoryRefused,
    SourceTooLarge,
    TokenRefused,
    shown,
)
from muelle.workloads.sources.limits import SourceLimits
from muelle.workloads.sources.words import Repository

_NOT_ALLOWED = re.compile(
    r"transport '([^']*)' not allowed|[Pp]rotocol \"?([a-z0-9+.-]+)\"? (?:not supported|disabled)"
)
_NOT_LET_IN = re.compile(
    r"Authentication failed|could not read (?:Username|Password)|unable to get password|HTTP Basic: Access denied"
    r"|returned error: 40[13]|[Ii]nvalid username or (?:token|password)"
)
_NOT_THERE = re.compile(r"repository '[^']*' not found|returned error: (?:404|410)|Repository not found")
_UNTRUSTED = re.compile(r"SSL certificate|certificate verif|CAfile|certificate problem|server certificate")
_UNFIT = re.compile(r"(?:error|fatal|warning): (?:object \w+|in tree \w+|\w+ in [^:]*): (.+)|fsck error[^:]*: (.+)")
_INVALID_PATH = re.compile(r"(?:error|fatal): (invalid path .+|.*refusing to (?:create|check ?out|work).*)")
_BUSY = re.compile(r"returned error: (5\d\d|429)")
_MOVED = re.compile(r"returned error: (30\d)")
_STALLED = re.compile(r"Operation too slow|timed out")
_NO_MEMORY = re.compile(r"[Oo]ut of memory|mmap failed|failed to allocate")
_NO_PLACE = re.compile(r"No space left on device|Disk quota exceeded")
_LOST = re.compile(r"hung up unexpectedly|early EOF|Connection reset|RPC failed|Failed to connect|Empty reply|curl \d+")
_BY_THE_SERVER = re.compile(
    r"not our ref|unadvertised object|couldn't find remote ref|did not contain|no such remote ref"
)


def server_refuses_commit(complaint: str) -> bool:
    """Whether a server gives out what its branches and tags end in, and nothing else."""
    return _BY_THE_SERVER.search(complaint) is not None


def mishap(complaint: str, repository: Repository, *, with_token: bool, limits: SourceLimits) -> MuelleError:
    """What went wrong, from the most certain sign to the least."""
    host, where = repository.host, repository.shown
    missing = RepositoryMissing(where=where)
    kept_out = TokenRefused(host=host, where=where) if with_token else missing
    signs: tuple[tuple[re.Pattern[str], Callable[[str], MuelleError]], ...] = (
        (_NOT_ALLOWED, lambda protocol: ProtocolRefused(protocol=shown(protocol))),
        (_NOT_LET_IN, lambda _: kept_out),
        (_NOT_THERE, lambda _: missing),
        (_UNTRUSTED, lambda _: CertificateRefused(host=host)),
        (_UNFIT, lambda flaw: RepositoryRefused(reason=shown(flaw))),
        (_INVALID_PATH, lambda flaw: RepositoryRefused(reason=shown(flaw))),
        (_NO_PLACE, lambda _: DiskRefused(reason="there is no place left on the disk")),
        (_NO_MEMORY, lambda _: SourceTooLarge(limit=limits.bytes)),
        (_BUSY, lambda number: HostUnreachable(host=host, reason=f"it answers with the error {number}")),
        (_MOVED, lambda _: FetchFailed(reason="it has moved; give its new address")),
        (_STALLED, lambda _: HostUnreachable(host=host, reason="it sends nothing any more")),
        (_LOST, lambda _: HostUnreachable(host=host, reason="the connection was lost")),
    )
    for sign, error in signs:
        if match := sign.search(complaint):
            return error(next((group for group in match.groups() if group), ""))
    return FetchFailed(reason=last_words(complaint))


def last_words(complaint: str) -> str:
    """The line of a complaint that says most."""
    lines = [line.strip() for line in complaint.replace("\r", "\n").splitlines() if line.strip()]
    telling = [line for line in lines if line.startswith(("fatal:", "error:", "remote:"))] or lines
    return shown(re.sub(r"^(?:fatal|error|remote): ", "", telling[-1])) if telling else "git gave no reason"
