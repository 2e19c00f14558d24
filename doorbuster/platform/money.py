"""Money: integer minor units with an ISO 4217 currency; no floats anywhere."""

from __future__ import annotations

from decimal import Decimal

import msgspec

# ISO 4217 minor-unit exponents that differ from 2 (source: ISO 4217 list one, table A.1).
_EXPONENTS = {
    **dict.fromkeys("BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF".split(), 0),
    **dict.fromkeys("BHD IQD JOD KWD LYD OMR TND".split(), 3),
    **dict.fromkeys("CLF UYW".split(), 4),
}
_CURRENCIES = frozenset(
    "AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BHD BIF BMD BND BOB BRL BSD BTN BWP BYN BZD CAD "
    "CDF CHF CLF CLP CNY COP CRC CUP CVE CZK DJF DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GNF "
    "GTQ GYD HKD HNL HTG HUF IDR ILS INR IQD IRR ISK JMD JOD JPY KES KGS KHR KMF KPW KRW KWD KYD KZT LAK LBP "
    "LKR LRD LSL LYD MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR NZD OMR PAB "
    "PEN PGK PHP PKR PLN PYG QAR RON RSD RUB RWF SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL "
    "THB TJS TMT TND TOP TRY TTD TWD TZS UAH UGX USD UYI UYU UYW UZS VED VES VND VUV WST XAF XCD XOF XPF YER "
    "ZAR ZMW ZWL".split()
)

MAX_MINOR = 10**15
"""No amount in the shop exceeds this many minor units, so that sums of 1,000 lines stay inside 64 bits."""


class Money(msgspec.Struct, frozen=True):
    """An amount: `amount_minor` in the smallest unit of `currency` (cents for USD, won for KRW)."""

    amount_minor: int
    currency: str


def is_currency(code: str) -> bool:
    """Whether `code` is an active ISO 4217 currency (upper case)."""
    return code in _CURRENCIES


def currencies() -> tuple[str, ...]:
    """All active ISO 4217 currencies, in order."""
    return tuple(sorted(_CURRENCIES))


def exponent(currency: str) -> int:
    """Digits after the decimal point of this currency: 2 for USD, 0 for KRW, 3 for KWD."""
    return _EXPONENTS.get(currency, 2)


def display(amount_minor: int, currency: str) -> str:
    """The amount for people: `189.00 USD`, `189000 KRW`."""
    digits = exponent(currency)
    return f"{Decimal(amount_minor).scaleb(-digits):.{digits}f} {currency}"
