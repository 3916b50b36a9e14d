"""What can go wrong between a person, their provider and us. None of it quotes a token, a code or a secret."""

from __future__ import annotations

from enum import StrEnum

from muelle.kit.errors import Denied, Missing, Unavailable


class Refusal(StrEnum):
    """Why a token or a code was not accepted. A program may depend on these words."""

    MALFORMED = "malformed"
    ALGORITHM = "algorithm not allowed"
    KEY = "unknown key"
    SIGNATURE = "wrong signature"
    ISSUER = "wrong issuer"
    AUDIENCE = "wrong audience"
    EXPIRED = "expired"
    EARLY = "not yet valid"
    NONCE = "wrong nonce"
    SUBJECT = "no subject"
    EMAIL = "no e-mail address"
    CODE = "code not accepted"


class UnknownProvider(Missing):
    """There is no sign-in provider called "{provider}"."""

    hint = "The providers here: {known}."


class TokenNotVouched(Denied):
    """The sign-in through {provider} was not accepted: {reason}."""

    hint = "Start the sign-in again."


class ProviderUnavailable(Unavailable):
    """The sign-in provider {provider} cannot be used now: {reason}."""

    hint = "Try again in a minute, or sign in with a password."
