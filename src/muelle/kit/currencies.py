"""The currencies that money can be in: the active codes of ISO 4217, and how many decimals the smallest coin has.

As of amendment 180 (2026-01-01: Bulgaria takes the euro). Codes that name no money (metals, drawing rights, tests,
"no currency") are left out: nobody can be billed in them.
"""

from __future__ import annotations

from typing import NewType

from muelle.kit.errors import Invalid

Currency = NewType("Currency", str)

EUR = Currency("EUR")
USD = Currency("USD")

_CODES_BY_DECIMALS = {
    0: "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF",
    2: """
        AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BMD BND BOB BOV BRL BSD BTN BWP BYN BZD CAD CDF CHE CHF CHW CNY
        COP COU CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD HKD HNL HTG HUF IDR ILS
        INR IRR JMD KES KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MXV MYR
        MZN NAD NGN NIO NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP
        STN SVC SYP SZL THB TJS TMT TOP TRY TTD TWD TZS UAH USD USN UYU UZS VED VES WST XAD XCD XCG YER ZAR ZMW ZWG
    """,
    3: "BHD IQD JOD KWD LYD OMR TND",
    4: "CLF UYW",
}
_DECIMALS = {Currency(code): decimals for decimals, codes in _CODES_BY_DECIMALS.items() for code in codes.split()}


class CurrencyUnknown(Invalid):
    """There is no currency with the code "{code}"."""

    hint = "Use an active code of ISO 4217 in capitals, such as EUR."


def currency_of(code: str) -> Currency:
    """The currency with that code; raises CurrencyUnknown."""
    currency = Currency(code)
    if currency not in _DECIMALS:
        raise CurrencyUnknown(code=str(code)[:12])
    return currency


def decimals_of(currency: Currency) -> int:
    """How many decimals an amount in the smallest coin has: 2 for EUR, 0 for JPY."""
    return _DECIMALS[currency]


def currencies() -> frozenset[Currency]:
    return frozenset(_DECIMALS)
