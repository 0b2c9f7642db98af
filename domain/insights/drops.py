"""What an account's own episodes in an incident say: its rate fell, or its traffic did, and where."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from domain.catalog.models import Account, Partner
from domain.incidents.episodes import Episode
from domain.incidents.models import HealthKind, Incident, Severity
from domain.insights import recommendations, wording
from domain.insights.endings import Rise
from domain.insights.findings import CRITICAL, Finding, evidence
from domain.insights.models import InsightKind
from domain.telemetry.sums import Stretch
from domain.telemetry.tickets import Turnover, worth

KINDS = {
    HealthKind.AUTHORIZATION_RATE_DROP: InsightKind.AUTHORIZATION_RATE_DROP,
    HealthKind.TRAFFIC_VOLUME_DROP: InsightKind.TRAFFIC_VOLUME_DROP,
}
KEEP = timedelta(days=7)
"""For how long an insight is shown after it is over."""
# The part of the missing payments that one slice must hold to be named as where they are missing.
_MOST = 0.6
_MOST_EVIDENCE = 20


@dataclass(frozen=True)
class Facts:
    """What is known of an account's part in an incident: its episodes (at least one) and its usual week.

    `partner` is the one that `cause` names, where the account depends on it. `rise`: how the payments
    of the cause end that are missing.
    """

    account: Account
    incident: Incident
    episodes: Sequence[Episode]
    usual: Turnover
    partner: Partner | None = None
    rise: Rise | None = None

    @property
    def worst(self) -> Episode:
        """The total where it is hit, else the slice that misses most; slices overlap and never add up."""
        return max(
            self.episodes,
            key=lambda one: (not one.series.labels, self.missing(one), one.anomaly.shortfall),
        )

    @property
    def cause(self) -> Episode | None:
        """The narrowest slice that explains most of what the worst misses; None where none does.

        It must hold 60 % of it, and at least half of what it could beyond its share of the traffic.
        """
        worst = self.worst
        alike = [e for e in self.episodes if e.series.labels and e.series.metric == worst.series.metric]
        explaining = [one for one in alike if is_same(one, worst) or self._explains(one, worst)]
        return min(explaining, key=_pace, default=None)

    def missing(self, episode: Episode) -> float:
        """What is missing of the episode's series, over all its episodes here."""
        return sum(one.anomaly.shortfall for one in self.episodes if is_same(one, episode))

    def variance(self, episode: Episode) -> float:
        return sum(one.anomaly.shortfall_variance for one in self.episodes if is_same(one, episode))

    def _explains(self, part: Episode, whole: Episode) -> bool:
        if self.missing(whole) <= 0:
            return False
        traffic = _pace(part) / _pace(whole) if _pace(whole) > 0 else 1.0
        share = self.missing(part) / self.missing(whole)
        return share >= max(_MOST, (1 + min(1.0, traffic)) / 2)

    @property
    def is_over(self) -> bool:
        return all(one.anomaly.ended_at is not None for one in self.episodes)


def is_same(one: Episode, other: Episode) -> bool:
    return one.series.id == other.series.id


def stretch(episode: Episode) -> Stretch:
    """What the episode's figures cover: until its end, or while it lasts until it was found."""
    anomaly = episode.anomaly
    return Stretch(anomaly.started_at, anomaly.ended_at or anomaly.detected_at)


def _pace(episode: Episode) -> float:
    """Attempts a second: how wide a slice is, whatever time its figures cover."""
    found = stretch(episode)
    return episode.anomaly.sample_size / max(60.0, (found.until - found.from_).total_seconds())


def finding(facts: Facts, *, at: datetime) -> Finding:
    account, incident, worst = facts.account, facts.incident, facts.worst
    kind = KINDS[incident.kind]
    missing, variance = facts.missing(worst), facts.variance(worst)
    if kind is InsightKind.TRAFFIC_VOLUME_DROP:
        # Of attempts that never came only the usual part would have been approved.
        share = facts.usual.approved_share
        missing, variance = missing * share, variance * share**2
    is_critical = not worst.series.labels and worst.depth >= CRITICAL
    lost = worth(missing, variance, ticket=facts.usual.ticket)
    return Finding(
        account=account,
        key=f"incident:{incident.id}:{kind}",
        kind=kind,
        severity=Severity.CRITICAL if is_critical else Severity.NON_CRITICAL,
        title=_title(facts),
        summary=" ".join(
            [*_story(facts), _loss(facts) + wording.worth(lost, account), wording.clock(account)]
        ),
        evidence=_evidence(facts),
        actions=recommendations.documents(_actions(facts), at_least=_DEFAULT[kind]),
        worth=lost,
        missing=missing,
        variance=variance,
        a_day=facts.usual.approved_a_day,
        incident_id=incident.id,
        partner_id=facts.partner.id if facts.partner else None,
        expires_at=max(at, worst.anomaly.ended_at or at) + KEEP if facts.is_over else None,
    )


def _title(facts: Facts) -> str:
    worst, cause = facts.worst, facts.cause
    fell = "fell" if facts.is_over else "is down"
    where = f" at {wording.place(cause.series.labels, facts.partner)}" if cause else ""
    if cause and not is_same(cause, worst):
        where = f", most of it{where}"
    if _is_rate(worst):
        what = _RATES[worst.series.metric]
        return f"Your {what} {fell} to {wording.percent(worst.anomaly.observed)}{where}"
    return f"Your traffic {fell} by {wording.percent(worst.depth)}{where}"


def _story(facts: Facts) -> list[str]:
    worst, cause = facts.worst, facts.cause
    sentences = [_sentence(worst, facts)]
    if cause and not is_same(cause, worst):
        share = min(1.0, facts.missing(cause) / facts.missing(worst))
        place = wording.place(cause.series.labels, facts.partner)
        sentences.append(f"{wording.percent(share)} of what is missing is at {place}.")
    if facts.rise:
        before, now = wording.percent(facts.rise.before), wording.percent(facts.rise.now)
        sentences.append(f"More payments end as {facts.rise.words}: {now} of attempts, before {before}.")
    return sentences


def _sentence(episode: Episode, facts: Facts) -> str:
    anomaly, cause, found = episode.anomaly, facts.cause, stretch(episode)
    when = wording.span(found.from_, found.until, facts.account)
    named = facts.partner if cause and is_same(cause, episode) else None
    where = wording.place(episode.series.labels, named)
    of = f" at {where}" if where else ""
    shown = wording.percent if _is_rate(episode) else wording.number
    expected = f"{shown(anomaly.expected)} ({shown(anomaly.lower)} to {shown(anomaly.upper)})"
    if _is_rate(episode):
        done = "completed" if episode.series.metric == "completion_rate" else "approved"
        sample = wording.number(anomaly.sample_size)
        return f"{when}, {shown(anomaly.observed)} of {sample} payments{of} were {done}; expected {expected}."
    return f"{when}, {shown(anomaly.observed)} payments{of} were attempted; expected {expected}."


def _loss(facts: Facts) -> str:
    worst = facts.worst
    what = "approved payments" if _is_rate(worst) else "attempts"
    missing = wording.number(max(0.0, facts.missing(worst)))
    if facts.is_over:
        return f"In all, about {missing} {what} were missing"
    return f"So far, about {missing} {what} are missing"


def _evidence(facts: Facts) -> list[dict[str, Any]]:
    """The total first, then the slices that miss most."""
    ordered = sorted(facts.episodes, key=lambda one: (bool(one.series.labels), -one.anomaly.shortfall))
    return [
        evidence(
            _sentence(one, facts),
            stretch(one),
            observed=one.anomaly.observed,
            expected=one.anomaly.expected,
            interval=(one.anomaly.lower, one.anomaly.upper),
            sample_size=one.anomaly.sample_size if _is_rate(one) else round(one.anomaly.observed),
            series_id=one.series.id,
        )
        for one in ordered[:_MOST_EVIDENCE]
    ]


def _actions(facts: Facts) -> list[recommendations.Action]:
    cause = facts.cause
    of_slice = recommendations.for_slice(cause.series.labels) if cause else ()
    if not _is_rate(facts.worst):
        return [recommendations.CHECK_CHECKOUT, *of_slice, recommendations.CHECK_SENDER]
    of_ending = recommendations.for_ending(facts.rise.outcome, facts.rise.code) if facts.rise else ()
    return [*of_slice, *of_ending]


def _is_rate(episode: Episode) -> bool:
    return episode.kind is HealthKind.AUTHORIZATION_RATE_DROP


_RATES = {"authorization_rate": "authorization rate", "completion_rate": "completion rate"}
_DEFAULT = {
    InsightKind.AUTHORIZATION_RATE_DROP: (
        recommendations.READ_CODES,
        recommendations.CHECK_INTEGRATION,
        recommendations.METHODS,
    ),
    InsightKind.TRAFFIC_VOLUME_DROP: (recommendations.CHECK_CHECKOUT, recommendations.CHECK_SENDER),
}
