"""How payments end that are not approved: which outcome and decline code takes more of them than before."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from domain.telemetry.derived import COMPLETION_RATE
from domain.telemetry.sums import Sum

End = tuple[str, str | None]
"""Outcome and, of a decline, its code where one was sent."""
_LEAST_RISE, _LEAST_DEVIATIONS = 0.02, 3.0


@dataclass(frozen=True)
class Rise:
    """Of all attempts the part that ends so, before and now."""

    outcome: str
    code: str | None
    before: float
    now: float

    @property
    def words(self) -> str:
        return f"{self.outcome} with code {self.code}" if self.code else self.outcome


def ends(sums: Iterable[Sum]) -> Mapping[End, float]:
    """Payments (series of payments.count) by how they ended, the approved among them."""
    found: Counter[End] = Counter()
    for one in sums:
        outcome = one.labels.get("outcome", "")
        if outcome in COMPLETION_RATE.total:
            found[outcome, one.labels.get("code") if outcome == "declined" else None] += one.value  # type: ignore[assignment]  # floats are counted too
    return found


def risen(before: Mapping[End, float], now: Mapping[End, float]) -> Rise | None:
    """The end that rose most; None where none did by 2 points of all attempts and 3 deviations."""
    all_before, all_now = sum(before.values()), sum(now.values())
    if not all_before or not all_now:
        return None
    candidates = [
        Rise(*end, before=before.get(end, 0.0) / all_before, now=count / all_now)
        for end, count in now.items()
        if end[0] != "approved"
    ]
    most = max(candidates, key=lambda one: one.now - one.before, default=None)
    if most is None or most.now - most.before < _LEAST_RISE:
        return None
    return most if deviations(most.before, all_before, most.now, all_now) >= _LEAST_DEVIATIONS else None


def deviations(before: float, of_before: float, now: float, of_now: float) -> float:
    """The difference of two shares in standard deviations, if both were the same (pooled binomial)."""
    pooled = (before * of_before + now * of_now) / (of_before + of_now)
    spread = math.sqrt(pooled * (1 - pooled) * (1 / of_before + 1 / of_now))
    return (now - before) / spread if spread > 0 else 0.0
