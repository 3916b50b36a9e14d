"""How often somebody may try to log in: per address, per account, and per account from one address.

Kept in the database, so that neither a restart nor a second replica gives more tries. The pair is strict, the account
alone is lenient: a stranger elsewhere can hardly lock an owner out. Names are kept under a MAC only. Rows are always
locked in the order of their keys, so that no two transactions wait for each other.
"""

from __future__ import annotations

import ipaddress
import math
from collections.abc import Mapping
from datetime import timedelta

from sqlalchemy import delete, select, update

from muelle.identity.tables import attempts
from muelle.kit import limits
from muelle.kit.clock import Clock
from muelle.kit.db import Database, aside
from muelle.kit.errors import TooOften
from muelle.kit.vault import Vault

PER_PAIR = limits.Rate(seconds=30, burst=10)
PER_ACCOUNT = limits.Rate(seconds=10, burst=50)
PER_ADDRESS = limits.Rate(seconds=2, burst=60)
PER_MAILBOX = limits.Rate(seconds=600, burst=5)
"""In place of `PER_ACCOUNT` for what sends letters: whoever asks, nobody is to be buried in them."""
IPV6_NETWORK_BITS = 64
"""Who has one IPv6 address has all of its network: they count as one."""


class TooManyAttempts(TooOften):
    """That was tried too often."""


class Attempts:
    def __init__(self, database: Database, clock: Clock, vault: Vault) -> None:
        self._database = database
        self._clock = clock
        self._vault = vault

    async def count(self, what: str, account: str, address: str, *, per_account: limits.Rate = PER_ACCOUNT) -> None:
        """Counts one try and raises TooManyAttempts where it is one too many."""
        rates = self._rates(what, account, address, per_account)
        with aside():
            verdicts = await self._ask(rates)
        waits = [verdict.retry_seconds for verdict in verdicts.values() if not verdict.allowed]
        if waits:
            raise TooManyAttempts(retry_seconds=max(1, math.ceil(max(waits))))

    async def _ask(self, rates: Mapping[str, limits.Rate]) -> dict[str, limits.Verdict]:
        """Counts it under all keys, or where one of them says no, under none."""
        now = self._clock.now()
        async with self._database.transaction() as tx:
            await tx.insert_new(attempts, [{"key": key, "arrival": now} for key in sorted(rates)], attempts.c.key)
            mine = select(attempts).where(attempts.c.key.in_(rates)).order_by(attempts.c.key).with_for_update()
            kept = {row.key: row.arrival for row in await tx.all(mine)}
            verdicts = {key: limits.ask(rate, kept.get(key), now) for key, rate in rates.items()}
            if all(verdict.allowed for verdict in verdicts.values()):
                for key in sorted(verdicts):
                    change = update(attempts).where(attempts.c.key == key)
                    await tx.run(change.values(arrival=verdicts[key].arrival))
        return verdicts

    def _rates(self, what: str, account: str, address: str, per_account: limits.Rate) -> dict[str, limits.Rate]:
        """What counts: without an account or an address, that part does not."""
        rates = {}
        if account and address:
            rates[self._key(what, "pair", account, _network(address))] = PER_PAIR
        if account:
            rates[self._key(what, "account", account)] = per_account
        if address:
            rates[self._key(what, "address", _network(address))] = PER_ADDRESS
        return rates

    async def forgive(self, what: str, account: str, address: str) -> None:
        """It was the right person: what they tried before does not count any more."""
        keys = [self._key(what, "pair", account, _network(address)), self._key(what, "account", account)]
        mine = select(attempts.c.key).where(attempts.c.key.in_(keys)).order_by(attempts.c.key)
        async with self._database.transaction() as tx:
            await tx.all(mine.with_for_update())
            await tx.run(delete(attempts).where(attempts.c.key.in_(keys)))

    async def count_for_show(self, what: str, account: str) -> None:
        """Changes nothing, and takes as long as noting something: for an account that is not there."""
        this = attempts.c.key == self._key(what, "account", account)
        async with self._database.transaction() as tx:
            await tx.run(update(attempts).where(this).values(arrival=attempts.c.arrival))

    async def forget_old(self) -> None:
        old = attempts.c.arrival < self._clock.now() - timedelta(seconds=1)
        async with self._database.transaction() as tx:
            unused = select(attempts.c.key).where(old).with_for_update(skip_locked=True)
            await tx.run(delete(attempts).where(attempts.c.key.in_(unused), old))

    def _key(self, *parts: str) -> str:
        return self._vault.mac("attempts", *(part.encode() for part in parts))


def _network(address: str) -> str:
    """Whom an address stands for."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(ip, ipaddress.IPv4Address):
        return str(ip)
    return str(ip.ipv4_mapped or ipaddress.ip_network((ip, IPV6_NETWORK_BITS), strict=False))
