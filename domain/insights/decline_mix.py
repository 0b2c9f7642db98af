"""An unusual mix of decline codes: a code took a much larger part of the last day's declines than before.

A rise is told when it is 10 points of the declines or more, and 5 standard deviations of the two counts
(less than one in a million by chance, so that a hundred codes are no more than one in ten thousand).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from domain.catalog.models import Account
from domain.incidents.models import Severity
from domain.insights import recommendations, wording
from domain.insights.endings import End, deviations
from domain.insights.findings import Finding, evidence, missing_of, usual_interval
from domain.insights.models import InsightKind
from domain.telemetry.sums import Stretch
from domain.telemetry.tickets import Turnover, worth

NOW, BEFORE = timedelta(days=1), timedelta(days=7)
KEEP = timedelta(days=1)
"""For how long it is shown after it last held."""
_LEAST_POINTS, _LEAST_DEVIATIONS = 0.10, 5.0
# Declines with a code that both times must have, and this code now.
_LEAST_NOW, _LEAST_BEFORE, _LEAST_OF_CODE = 100, 500, 30


@dataclass(frozen=True)
class Facts:
    """How the account's payments ended in the day until `until` (event time), and in the week before that."""

    account: Account
    until: datetime
    usual: Turnover
    before: Mapping[End, float]
    now: Mapping[End, float]

    @property
    def stretch(self) -> Stretch:
        return Stretch(self.until - NOW, self.until)


@dataclass(frozen=True)
class Shift:
    """A code that took `now` of `of_now` declines with a code, and `before` of `of_before`."""

    code: str
    before: float
    of_before: float
    now: float
    of_now: float

    @property
    def share(self) -> float:
        return self.now / self.of_now

    @property
    def usual_share(self) -> float:
        return self.before / self.of_before

    @property
    def is_material(self) -> bool:
        return (
            self.now >= _LEAST_OF_CODE
            and round(self.share - self.usual_share, 9) >= _LEAST_POINTS
            and deviations(self.usual_share, self.of_before, self.share, self.of_now) >= _LEAST_DEVIATIONS
        )


def prefix(account: Account, until: datetime) -> str:
    """What the keys of all findings of one local day begin with."""
    last = (until - timedelta(microseconds=1)).astimezone(ZoneInfo(account.time_zone))
    return f"decline_mix:{last.date()}:"


def findings(facts: Facts, *, at: datetime) -> list[Finding]:
    """One for each code that rose; none where there are too few declines with a code to compare."""
    return [_finding(facts, shift, at=at) for shift in shifts(facts.before, facts.now)]


def shifts(before: Mapping[End, float], now: Mapping[End, float]) -> list[Shift]:
    coded_before, coded_now = _coded(before), _coded(now)
    of_before, of_now = sum(coded_before.values()), sum(coded_now.values())
    if of_before < _LEAST_BEFORE or of_now < _LEAST_NOW:
        return []
    found = [
        Shift(code, coded_before.get(code, 0.0), of_before, count, of_now)
        for code, count in sorted(coded_now.items())
    ]
    return [one for one in found if one.is_material]


def _coded(ends: Mapping[End, float]) -> dict[str, float]:
    return {code: count for (_, code), count in ends.items() if code is not None}


def _finding(facts: Facts, shift: Shift, *, at: datetime) -> Finding:
    account = facts.account
    attempts, attempts_before = sum(facts.now.values()), sum(facts.before.values())
    short, variance = missing_of(shift.now, attempts, good=shift.before, of=attempts_before)
    extra = -short
    lost = worth(extra, variance, ticket=facts.usual.ticket)
    mix, rate = _mix(facts, shift), _rate(facts, shift, attempts, attempts_before)
    loss = (
        f"That is about {wording.number(extra)} payments more than usual{wording.worth(lost, account)}"
        if extra > 0
        else "Not more payments than usual are declined for it: other reasons became fewer."
    )
    return Finding(
        account=account,
        key=f"{prefix(account, facts.until)}{shift.code}",
        kind=InsightKind.DECLINE_CODE_MIX_SHIFT,
        severity=Severity.NON_CRITICAL,
        title=f"{wording.percent(shift.share)} of your declines are {shift.code}, usual is"
        f" {wording.percent(shift.usual_share)}",
        summary=" ".join([mix["sentence"], rate["sentence"], loss, wording.clock(account)]),
        evidence=[mix, rate],
        actions=recommendations.documents(
            [*recommendations.for_ending("declined", shift.code), recommendations.READ_CODES], at_least=()
        ),
        worth=lost,
        missing=extra,
        variance=variance,
        a_day=facts.usual.approved_a_day,
        expires_at=at + KEEP,
    )


def _mix(facts: Facts, shift: Shift) -> dict[str, Any]:
    interval = usual_interval(shift.before, shift.of_before, trials=shift.of_now)
    low, high = (wording.percent(edge) for edge in interval)
    when = wording.span(facts.stretch.from_, facts.stretch.until, facts.account)
    return evidence(
        f"{when}, {wording.number(shift.now)} of {wording.number(shift.of_now)} declines with a code"
        f" ({wording.percent(shift.share)}) were {shift.code}; in the week before"
        f" {wording.percent(shift.usual_share)} ({low} to {high}).",
        facts.stretch,
        observed=shift.share,
        expected=shift.usual_share,
        interval=interval,
        sample_size=round(shift.of_now),
    )


def _rate(facts: Facts, shift: Shift, attempts: float, attempts_before: float) -> dict[str, Any]:
    interval = usual_interval(shift.before, attempts_before, trials=attempts)
    low, high = (wording.percent(edge) for edge in interval)
    return evidence(
        f"Of all {wording.number(attempts)} payments {wording.percent(shift.now / attempts)} were declined"
        f" with it; in the week before {wording.percent(shift.before / attempts_before)} ({low} to {high}).",
        facts.stretch,
        observed=shift.now / attempts,
        expected=shift.before / attempts_before,
        interval=interval,
        sample_size=round(attempts),
    )
