"""What a build's commands are told and an image must not keep: a registry's address with its password, a proxy, the
certificates of a company.

A build argument would stay in the image's history, for all to read, and a file in one of its layers. Docker makes one
exception: the arguments that are named after proxies reach each command, and neither the history nor the cache's key
knows of them. So one of these carries a few lines of shell, which each command begins with: they put the environment
in place, and the certificates into the command's own /dev/shm, which is gone with it.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping

from muelle.engines.protocol import BuildFailed

CALL = 'eval "${FTP_PROXY-}"; '
"""At the beginning of each command."""
LONGEST = 120_000
"""Bytes in one variable: the kernel takes 128 KiB."""

_CARRIER = "FTP_PROXY"
_MORE = ("ftp_proxy", "NO_PROXY", "no_proxy")
"""For the certificates; the last two only where there are many."""
_BUNDLE = "/dev/shm/muelle-trusted.pem"  # noqa: S108 - a command's own, not this machine's
_READERS = ("SSL_CERT_FILE", "PIP_CERT", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO", "npm_config_cafile")
_USUAL = ("/etc/ssl/certs/ca-certificates.crt", "/etc/ssl/cert.pem", "/etc/pki/tls/certs/ca-bundle.crt")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def arguments(environment: Mapping[str, str], trusted: str) -> dict[str, str]:
    """The build arguments that carry both; none, if there is nothing to carry. Raises BuildFailed."""
    if not environment and not trusted.strip():
        return {}
    pieces = _pieces(trusted.strip())
    carriers = dict(zip(_MORE, pieces, strict=False))
    script = "\n".join([*_trust(list(carriers)), f"unset {_CARRIER} {' '.join(carriers)}", *_exports(environment)])
    if len(pieces) > len(_MORE) or len(script.encode()) > LONGEST:
        reason = f"trusted certificates have {len(_MORE) * LONGEST} bytes at most, the environment {LONGEST}"
        raise BuildFailed(reason=reason)
    return {_CARRIER: script, **carriers}


def _pieces(text: str) -> list[str]:
    return [text[start : start + LONGEST] for start in range(0, len(text), LONGEST)]


def _trust(carriers: list[str]) -> list[str]:
    """The image's own certificates and ours, for every program that can be told of such a file."""
    if not carriers:
        return []
    whole = "".join(f"${{{name}}}" for name in carriers)
    return [
        "{",
        f'for one in {" ".join(_USUAL)}; do if [ -r "$one" ]; then cat "$one"; break; fi; done',
        f"printf '\\n%s\\n' \"{whole}\"",
        f"}} > {_BUNDLE}",
        f"export {' '.join(f'{name}={_BUNDLE}' for name in (*_READERS, 'NODE_EXTRA_CA_CERTS'))}",
    ]


def _exports(environment: Mapping[str, str]) -> list[str]:
    """A name that a shell would not take could not be read by one either."""
    return [f"export {name}={shlex.quote(value)}" for name, value in environment.items() if _NAME.fullmatch(name)]
