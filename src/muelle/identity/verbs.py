"""All that may be asked of identity."""

from __future__ import annotations

from dataclasses import dataclass

from muelle.identity.accounts import Accounts
from muelle.identity.browser_log_in import BrowserLogIn
from muelle.identity.core import Core
from muelle.identity.keyring import Keyring
from muelle.identity.log_in import LogIn
from muelle.identity.proof import Proof
from muelle.identity.recovery import Recovery
from muelle.identity.second_factor import SecondFactor


@dataclass(frozen=True)
class Verbs:
    core: Core
    accounts: Accounts
    log_in: LogIn
    proof: Proof
    recovery: Recovery
    keyring: Keyring
    second_factor: SecondFactor
    browser: BrowserLogIn

    @property
    def access_seconds(self) -> int:
        return int(self.core.policy.access_lifetime.total_seconds())
