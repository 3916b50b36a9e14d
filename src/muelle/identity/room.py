"""Puts the identity room together from what the application hands in."""

from __future__ import annotations

from pathlib import Path

from muelle.identity.accounts import Accounts
from muelle.identity.attempts import Attempts
from muelle.identity.browser_log_in import BrowserLogIn, Providers
from muelle.identity.core import Core, Policy
from muelle.identity.http import internal_routers, routers
from muelle.identity.keyring import Keyring
from muelle.identity.letters import Letters
from muelle.identity.log_in import LogIn
from muelle.identity.passwords import Passwords
from muelle.identity.proof import Proof
from muelle.identity.recognition import Recognition
from muelle.identity.recovery import Recovery
from muelle.identity.second_factor import SecondFactor
from muelle.identity.tokens import Tokens
from muelle.identity.verbs import Verbs
from muelle.kit.bus import Subscription
from muelle.kit.clock import Clock
from muelle.kit.db.migrations import Line
from muelle.kit.loops import Lease, Loop
from muelle.kit.mail import Mailer
from muelle.kit.room import Furniture, Room
from muelle.kit.vault import Vault

NAME = "identity"
MIGRATIONS = Line(NAME, Path(__file__).parent / "migrations")
SUBSCRIPTIONS: tuple[Subscription, ...] = ()
CLEANING_PERIOD_SECONDS = 600


def verbs(
    furniture: Furniture,
    *,
    clock: Clock,
    vault: Vault,
    mailer: Mailer,
    passwords: Passwords,
    policy: Policy,
    providers: Providers | None = None,
    scopes: frozenset[str] = frozenset(),
    mock: bool = False,
) -> Verbs:
    database = furniture.database
    tokens = Tokens(vault)
    core = Core(
        database=database,
        outbox=furniture.outbox,
        clock=clock,
        vault=vault,
        passwords=passwords,
        tokens=tokens,
        attempts=Attempts(database, clock, vault),
        letters=Letters(database, mailer, clock, vault),
        recognition=Recognition(database, clock, tokens),
        policy=policy,
    )
    accounts, proof, second_factor = Accounts(core), Proof(core), SecondFactor(core)
    log_in = LogIn(core, accounts, proof, second_factor)
    return Verbs(
        core=core,
        accounts=accounts,
        log_in=log_in,
        proof=proof,
        recovery=Recovery(core),
        keyring=Keyring(core, scopes),
        second_factor=second_factor,
        browser=BrowserLogIn(core, log_in, providers, mock=mock),
    )


def build(furniture: Furniture, verbs: Verbs) -> Room:
    core = verbs.core
    lease = Lease("identity.cleaning", furniture.database, core.clock, furniture.process)
    cleaning = Loop("identity.cleaning", verbs.log_in.forget_expired, CLEANING_PERIOD_SECONDS, core.clock, lease)

    async def close() -> None:
        core.passwords.close()

    return Room(
        name=NAME,
        furniture=furniture,
        verbs=verbs,
        routers=routers(mock=verbs.browser.mock),
        internal=internal_routers(),
        loops=[core.letters.loop, cleaning],
        close=close,
    )
