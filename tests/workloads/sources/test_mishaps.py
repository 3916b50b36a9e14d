"""What git complains of, as servers make it complain, in words that help."""

from __future__ import annotations

import pytest

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
)
from muelle.workloads.sources.git_mishaps import mishap
from muelle.workloads.sources.limits import SourceLimits
from muelle.workloads.sources.words import repository

URL = "https://github.com/ana/app"
AT = f"fatal: unable to access '{URL}/'"

COMPLAINTS: dict[str, tuple[str, bool, type[MuelleError]]] = {
    "GitHub, private or missing": (
        f"fatal: could not read Username for '{URL}': terminal prompts disabled",
        False,
        RepositoryMissing,
    ),
    "GitHub, a token that is wrong": (
        f"remote: Invalid username or token.\nfatal: Authentication failed for '{URL}/'",
        True,
        TokenRefused,
    ),
    "GitHub, a token that may not": (
        f"remote: Repository not found.\nfatal: repository '{URL}/' not found",
        True,
        RepositoryMissing,
    ),
    "GitLab, a token that is wrong": ("remote: HTTP Basic: Access denied", True, TokenRefused),
    "forbidden with a token": (f"{AT}: The requested URL returned error: 403", True, TokenRefused),
    "forbidden without": (f"{AT}: The requested URL returned error: 403", False, RepositoryMissing),
    "gone": (f"{AT}: The requested URL returned error: 410", False, RepositoryMissing),
    "busy": (f"{AT}: The requested URL returned error: 429", False, HostUnreachable),
    "moved": (f"{AT}: The requested URL returned error: 302", True, FetchFailed),
    "GnuTLS": (f"{AT}: server certificate verification failed. CAfile: none", False, CertificateRefused),
    "OpenSSL": (f"{AT}: SSL certificate problem: self-signed certificate", False, CertificateRefused),
    "too slow": ("error: RPC failed; curl 28 Operation too slow. Less than 500 bytes/sec", False, HostUnreachable),
    "cut off": ("error: RPC failed; curl 56 GnuTLS recv error\nfatal: early EOF", False, HostUnreachable),
    "another protocol": ("fatal: transport 'ext' not allowed", False, ProtocolRefused),
    "damaged": (f"error: object {'a' * 40}: gitmodulesUrl: disallowed submodule url", False, RepositoryRefused),
    "no memory": ("fatal: Out of memory, malloc failed (tried to allocate 4294967296 bytes)", False, SourceTooLarge),
    "no place": ("fatal: write error: No space left on device", False, DiskRefused),
    "something else": ("fatal: the \x1b[31mmoon\x1b[0m is full", False, FetchFailed),
    "nothing": ("", False, FetchFailed),
}


@pytest.mark.parametrize(("complaint", "with_token", "error"), COMPLAINTS.values(), ids=COMPLAINTS)
def test_what_it_means(complaint: str, with_token: bool, error: type[MuelleError]) -> None:
    told = mishap(complaint, repository(URL), with_token=with_token, limits=SourceLimits())
    assert type(told) is error
    assert told.message.isprintable()
