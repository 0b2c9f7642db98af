"""A finding: what is to be said of one account, before it is written down as an insight."""

import math
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from domain.catalog.models import Account
from domain.incidents.models import Severity
from domain.insights.models import InsightKind
from domain.telemetry.sums import Stretch
from domain.telemetry.tickets import Worth

_95 = 1.96
# A normal tail says more than a week of payments can know.
_SUREST = 0.99
_DAY_S = 86_400.0
# Of what an account misses of everything, from which it is critical.
CRITICAL = 0.15


@dataclass(frozen=True)
class Finding:
    """What is known of it now; `key` makes it the same finding within its account.

    `missing` payments and their `variance` are the effect; `a_day` is what the account usually has.
    """

    account: Account
    key: str
    kind: InsightKind
    severity: Severity
    title: str
    summary: str
    evidence: list[dict[str, Any]]
    actions: list[dict[str, Any]]
    worth: Worth | None
    missing: float
    variance: float
    a_day: float
    incident_id: UUID | None = None
    partner_id: UUID | None = None
    expires_at: datetime | None = field(default=None)

    def columns(self, at: datetime) -> dict[str, Any]:
        """The columns of its insight, as of `at`, but for its id, its status and when it was made."""
        sure = confidence(self.missing, self.variance)
        return {
            "account_id": self.account.id,
            "finding_key": self.key,
            "kind": self.kind,
            "severity": self.severity,
            "title": self.title,
            "summary": self.summary,
            "incident_id": self.incident_id,
            "partner_id": self.partner_id,
            "evidence": self.evidence,
            "recommended_actions": self.actions,
            "impact_low": self.worth.low if self.worth else None,
            "impact_mid": self.worth.mid if self.worth else None,
            "impact_high": self.worth.high if self.worth else None,
            "currency": self.account.currency,
            "confidence": sure,
            "rank": rank(self.missing, self.a_day, confidence=sure, severity=self.severity, at=at),
            "expires_at": self.expires_at,
        }


def evidence(
    sentence: str,
    stretch: Stretch,
    *,
    observed: float,
    expected: float | None = None,
    interval: tuple[float, float] | None = None,
    sample_size: int | None = None,
    series_id: UUID | None = None,
) -> dict[str, Any]:
    """One piece, as an insight keeps it; `interval` is that of the expectation, at 95 %."""
    lower, upper = interval or (math.nan, math.nan)
    return {
        "sentence": sentence,
        "series_id": str(series_id) if series_id else None,
        "from": stretch.from_.isoformat(),
        "until": stretch.until.isoformat(),
        "observed": observed,
        "expected": expected,
        "lower": lower if math.isfinite(lower) else None,
        "upper": upper if math.isfinite(upper) else None,
        "sample_size": sample_size,
    }


def confidence(missing: float, variance: float) -> float:
    """The probability, by the figures, that at least half of what is missing truly is (normal errors).

    Where nothing is missing: that anything is. Nothing measured, `variance` 0, is 0.5.
    """
    if variance <= 0:
        return 0.5
    distance = (missing - max(missing, 0.0) / 2) / math.sqrt(variance)
    return min(_SUREST, 0.5 * (1 + math.erf(distance / math.sqrt(2))))


def rank(missing: float, a_day: float, *, confidence: float, severity: Severity, at: datetime) -> float:
    """What comes first: twice the loss counts as much as a day newer, and so does being critical.

    The loss is what is missing of a day's approved payments, which is its money against the turnover,
    weighed by how sure it is. Time only ever adds, so that what is stored stays in order.
    """
    lost = max(0.0, missing) / a_day if a_day > 0 else 0.0
    critical = 1.0 if severity is Severity.CRITICAL else 0.0
    return at.timestamp() / _DAY_S + confidence * math.log2(1 + 100 * lost) + critical


def usual_interval(good: float, of: float, *, trials: float) -> tuple[float, float]:
    """In which the rate of `trials` lies at 95 % if nothing changed, after `good` of `of` before."""
    usual = good / of
    margin = _95 * math.sqrt(usual * (1 - usual) * (1 / trials + 1 / of))
    return max(0.0, usual - margin), min(1.0, usual + margin)


def missing_of(observed: float, trials: float, *, good: float, of: float) -> tuple[float, float]:
    """How many of `trials` fell short of the rate `good` / `of` before, and the variance (binomial, both)."""
    usual = good / of
    return usual * trials - observed, trials * usual * (1 - usual) * (1 + trials / of)
