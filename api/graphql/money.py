"""Amounts: whole minor units of a named currency, with the digits that the currency has (ISO 4217)."""

from typing import Any

import strawberry

from api.graphql.scalars import BigInt, Currency, SafeInt
from domain.core.currencies import exponent

CONFIDENCE = 0.95
"""Of every interval of money that the domain computes."""

_MOST = 2**53 - 1


_EXPONENT = "Digits of the minor unit: 2 for EUR, 0 for JPY, 3 for KWD."


@strawberry.type(description="An exact amount.")
class Money:
    amount_minor: BigInt = strawberry.field(
        description="In the currency's minor unit. A string, because totals in IDR or IRR pass 2^53."
    )
    currency: Currency
    exponent: int = strawberry.field(description=_EXPONENT)


def money(amount_minor: int, currency: str) -> Money:
    return Money(amount_minor=BigInt(amount_minor), currency=Currency(currency), exponent=exponent(currency))


@strawberry.type(
    description="An estimate with its interval, in minor units of `currency`. Numbers, so that they can be"
    " compared and drawn at once; they saturate at ±(2^53 - 1)."
)
class MoneyRange:
    low: SafeInt
    mid: SafeInt
    high: SafeInt
    currency: Currency
    exponent: int = strawberry.field(description=_EXPONENT)
    confidence: float = strawberry.field(
        description="Probability that the true amount lies between `low` and `high`."
    )


def money_range(low: Any, mid: Any, high: Any, currency: str | None) -> MoneyRange | None:
    """None where any of it is not known."""
    if low is None or mid is None or high is None or currency is None:
        return None
    low, mid, high = (SafeInt(max(-_MOST, min(_MOST, round(amount)))) for amount in (low, mid, high))
    return MoneyRange(
        low=low,
        mid=mid,
        high=high,
        currency=Currency(currency),
        exponent=exponent(currency),
        confidence=CONFIDENCE,
    )
