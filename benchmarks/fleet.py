"""A platform's accounts and what its pods send of each, every PUSH_S seconds.

An account has SERIES series: payments by outcome, partner, method and issuer with their amounts and latency,
and its API, webhooks and fraud.
"""

from collections.abc import Mapping, Sequence
from itertools import product
from typing import NamedTuple

import yaml

ACCOUNTS, SERIES, PODS, PUSH_S = 104, 500, 10, 10
POINTS_PER_S = ACCOUNTS * SERIES * PODS / PUSH_S

_ZONES = ("Europe/Berlin", "America/Sao_Paulo", "Asia/Kolkata", "America/New_York")
_PARTNERS = ("acquirer-a", "acquirer-b", "wallet-a", "processor-a")
_METHODS = ("card", "wallet", "bank_transfer")
_ISSUERS = {"bank-de-1": "DE", "bank-de-2": "DE", "bank-br-1": "BR", "bank-in-1": "IN", "bank-us-1": "US"}
# How payments of one combination end, and how many of them in one push of one pod.
_ENDS: Sequence[tuple[Mapping[str, str], float]] = (
    ({"outcome": "approved"}, 3.0),
    ({"outcome": "declined", "code": "do_not_honor"}, 0.3),
    ({"outcome": "declined", "code": "insufficient_funds"}, 0.2),
    ({"outcome": "failed"}, 0.1),
    ({"outcome": "reversed"}, 0.05),
)
_PATHS = ("/v1/payments", "/v1/refunds", "/v1/tokens", "/v1/payouts")


class Sent(NamedTuple):
    """A series, and what it comes to in one push of one pod on average: a delta sum, or observations."""

    metric: str
    labels: Mapping[str, str]
    mean: float

    @property
    def is_histogram(self) -> bool:
        return self.metric.endswith(".latency")


def account(number: int) -> str:
    return f"fleet-{number:03}"


def catalogue() -> str:
    """The accounts, as `vitals catalog apply` takes them."""
    accounts = [
        {
            "external_id": account(number),
            "name": f"Fleet {number}",
            "country": "DE",
            "currency": "EUR",
            "time_zone": _ZONES[number % len(_ZONES)],
        }
        for number in range(ACCOUNTS)
    ]
    return yaml.safe_dump({"accounts": accounts})


def series() -> list[Sent]:
    """The SERIES of every account: sums before histograms, and those of one metric side by side."""
    cells = [
        {"partner": partner, "method": method, "issuer": issuer, "country": country}
        for partner, method, (issuer, country) in product(_PARTNERS, _METHODS, _ISSUERS.items())
    ]
    calls = [{"path": path, "method": verb} for path, verb in product(_PATHS, ("GET", "POST"))]
    partners = [{"partner": one} for one in _PARTNERS]
    statuses = [{"status": one} for one in ("200", "400", "422", "500")]
    ends = [{"outcome": one} for one in ("delivered", "late", "lost")]
    euros = {"currency": "EUR"}
    found = [
        *(Sent("payments.count", {**end, **cell}, mean) for cell in cells for end, mean in _ENDS),
        *(Sent("payments.amount", {"outcome": "approved"} | euros | cell, 9_000) for cell in cells),
        *(Sent("api.requests", one | status, 5) for one in calls for status in statuses),
        *(Sent("webhooks.count", one | end, 2) for one in partners for end in ends),
        *(Sent("fraud.count", one, 0.1) for one in partners),
        *(Sent("fraud.amount", one | euros, 300) for one in partners),
        *(Sent("payments.latency", cell, 4) for cell in cells),
        *(Sent("api.latency", one, 6) for one in calls),
        *(Sent("webhooks.latency", one, 2) for one in partners),
        *(Sent("checkout.latency", {"step": str(step)}, 3) for step in range(16)),
    ]
    assert len(found) == SERIES, len(found)
    return found
