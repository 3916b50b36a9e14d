"""What keeps containers from the cloud's metadata address, and from what listens on this machine.

Docker keeps the networks apart, and needs help with two things: the address at which a cloud tells its machines their
secrets is routed like any other, and the machine itself is a neighbour on every bridge. Two chains of our own say no to
both, for our own bridges alone: one that Docker calls before its own rules for what is passed on (DOCKER-USER is kept
for that), one for what is addressed to this machine. A name can still be looked up, what this machine began is
answered, and the ports of the ingress may be opened (`doors`).

Rules can be set by root on the daemon's own machine. Where we are not that, `Guard` says so, and `check` passes it on.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass

LINK_LOCAL = "169.254.0.0/16"
"""Where clouds keep their metadata service: 169.254.169.254, 169.254.170.2 and kin."""
NAME_SERVICE = 53
LOCK_SECONDS = 5
"""For the lock that iptables' callers share."""
COMMAND_SECONDS = 15.0
MOST_JUMPS = 8
"""Processes that set the same rule at the same moment: it then stands there more than once, and does no harm."""
_BEFORE_DOCKER = "DOCKER-USER"
_IPTABLES = ("iptables", f"--wait={LOCK_SECONDS}")


@dataclass(frozen=True)
class Guard:
    """How far it goes; `reason` says why no further."""

    stands: bool
    reason: str = ""

    def __str__(self) -> str:
        if self.stands:
            return "containers cannot reach the metadata address or this machine"
        return f"containers can reach the metadata address and this machine: {self.reason}"


class Firewall:
    def __init__(self, chain: str, bridges: str, doors: Sequence[int], local: bool) -> None:
        self._chain = chain
        self._from = ("-i", f"{bridges}+")  # every bridge whose name begins so
        self._doors = doors
        self._local = local

    async def stand(self) -> Guard:
        """Sets the rules where they are not; asked again, it mends what a reload of the firewall took away."""
        if hindrance := self._hindrance():
            return Guard(False, hindrance)
        try:
            return await self._set()
        except TimeoutError:
            return Guard(False, "iptables does not come back")

    def _hindrance(self) -> str:
        if not self._local:
            return "the engine is on another machine"
        if os.geteuid() != 0:
            return "rules can be set by root alone"
        return "" if shutil.which("iptables-restore") else "there is no iptables"

    async def _set(self) -> Guard:
        table = rules(self._chain, self._doors)
        failed = await _run("iptables-restore", "--noflush", f"--wait={LOCK_SECONDS}", given=table)
        for place, chain in ((_BEFORE_DOCKER, f"{self._chain}-OUT"), ("INPUT", f"{self._chain}-IN")):
            failed = failed or await self._jump(place, chain)
        return Guard(not failed, failed)

    async def _jump(self, place: str, chain: str) -> str:
        rule = (place, *self._from, "-j", chain)
        if not await _run(*_IPTABLES, "-C", *rule):
            return ""
        return await _run(*_IPTABLES, "-I", *rule)

    async def fall(self) -> None:
        """Takes the rules away again, when there is nobody to keep in."""
        if self._hindrance() or await _run(*_IPTABLES, "-n", "-L", f"{self._chain}-IN"):
            return
        for place, chain in ((_BEFORE_DOCKER, f"{self._chain}-OUT"), ("INPUT", f"{self._chain}-IN")):
            for _ in range(MOST_JUMPS):
                if await _run(*_IPTABLES, "-D", place, *self._from, "-j", chain):
                    break
            await _run(*_IPTABLES, "-F", chain)
            await _run(*_IPTABLES, "-X", chain)


def rules(chain: str, doors: Sequence[int]) -> str:
    """Both chains, for iptables-restore: naming a chain empties it, and the whole is set at once or not at all."""
    enter = [("udp", NAME_SERVICE), ("tcp", NAME_SERVICE), *(("tcp", port) for port in doors)]
    lines = [
        "*filter",
        f":{chain}-OUT - [0:0]",
        f":{chain}-IN - [0:0]",
        f"-A {chain}-OUT -d {LINK_LOCAL} -j REJECT",
        f"-A {chain}-IN -m conntrack --ctstate RELATED,ESTABLISHED -j RETURN",
        *(f"-A {chain}-IN -p {protocol} --dport {port} -j RETURN" for protocol, port in enter),
        f"-A {chain}-IN -j REJECT",
        "COMMIT",
    ]
    return "\n".join(lines) + "\n"


async def _run(*command: str, given: str = "") -> str:
    """Nothing if it went well, else its first word on why not."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE if given else asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(COMMAND_SECONDS):
            _, errors = await process.communicate(given.encode() if given else None)
    except RuntimeError as problem:  # what uvloop says where a program ends before it has read
        errors = str(problem).encode()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode == 0:
        return ""
    return (errors.decode(errors="replace").strip().splitlines() or ["iptables failed"])[0]
