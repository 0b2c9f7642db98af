"""What a partner's incident means for an account without an episode in it: its share and its effect."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from domain.catalog.models import Account, Partner, PartnerKind
from domain.incidents.models import HealthKind, Impact, Incident, Severity
from domain.insights import recommendations, wording
from domain.insights.drops import KEEP
from domain.insights.findings import CRITICAL, Finding, evidence, missing_of, usual_interval
from domain.insights.models import InsightKind
from domain.insights.recommendations import Action
from domain.telemetry.derived import AUTHORIZATION_RATE
from domain.telemetry.models import Series
from domain.telemetry.sums import Stretch, Sum, total
from domain.telemetry.tickets import Turnover, worth

BEFORE = timedelta(days=7)
# Payments before from which a rate is known, and during from which one is looked at.
_KNOWN, _LOOKED_AT = 200, 8
_LONGEST_WAIT = timedelta(days=1)


@dataclass(frozen=True)
class Traffic:
    """Payments that were approved, of those that reached the network."""

    approved: float
    attempts: float

    @classmethod
    def of(cls, sums: Sequence[Sum]) -> "Traffic":
        """Of series of payments.count."""
        return cls(total(sums, {"approved"}), total(sums, AUTHORIZATION_RATE.total))

    @property
    def rate(self) -> float:
        return self.approved / self.attempts


@dataclass(frozen=True)
class Facts:
    """What is known: `share` (0..1) of the account's traffic runs through the partner.

    `stretch` is what of the incident has been judged of the account, None where nothing has; `series`
    is the rate of its slice there, if it has one.
    """

    account: Account
    incident: Incident
    partner: Partner
    share: float
    usual: Turnover
    judged_until: datetime | None
    stretch: Stretch | None
    before: Traffic
    now: Traffic
    series: Series | None = None

    @property
    def is_known(self) -> bool:
        """Whether there is enough to measure an effect."""
        return self.before.attempts >= _KNOWN and self.now.attempts >= _LOOKED_AT

    @property
    def interval(self) -> tuple[float, float]:
        return usual_interval(self.before.approved, self.before.attempts, trials=self.now.attempts)

    @property
    def is_hit(self) -> bool:
        """Whether fewer payments succeed than chance explains."""
        return self.is_known and self.now.rate < self.interval[0]

    @property
    def missing(self) -> tuple[float, float]:
        """Approved payments that are missing, and the variance; (0, 0) where nothing can be measured."""
        if not self.is_known:
            return 0.0, 0.0
        return missing_of(
            self.now.approved, self.now.attempts, good=self.before.approved, of=self.before.attempts
        )

    def is_settled(self, at: datetime) -> bool:
        """Over, and all of it judged that will be."""
        resolved_at = self.incident.resolved_at
        if resolved_at is None:
            return False
        judged = self.judged_until
        return judged is None or judged >= resolved_at or at - resolved_at >= _LONGEST_WAIT


def slice_of(partner: Partner) -> dict[str, str]:
    """The labels of the traffic through a partner."""
    return {"issuer" if partner.kind is PartnerKind.ISSUER else "partner": partner.code}


def finding(facts: Facts, *, at: datetime) -> Finding:
    account, incident = facts.account, facts.incident
    missing, variance = facts.missing
    lost = worth(missing, variance, ticket=facts.usual.ticket) if facts.is_known else None
    kind = InsightKind.PARTNER_INCIDENT
    return Finding(
        account=account,
        key=f"incident:{incident.id}:{kind}",
        kind=kind,
        severity=_severity(facts),
        title=_title(facts),
        summary=" ".join(
            [
                f"{facts.partner.name}: {incident.title}, {_when(facts)}.",
                f"{_share(facts)} {_effect(facts)}{_money(facts)}",
                wording.clock(account),
            ]
        ),
        evidence=_evidence(facts, at=at),
        actions=recommendations.documents(_actions(facts), at_least=()),
        worth=lost,
        missing=missing,
        variance=variance,
        a_day=facts.usual.approved_a_day,
        incident_id=incident.id,
        partner_id=facts.partner.id,
        expires_at=max(at, incident.resolved_at or at) + KEEP if facts.is_settled(at) else None,
    )


def _severity(facts: Facts) -> Severity:
    """By what is measured; where nothing can be, by what the partner says of so much of the traffic."""
    if facts.is_known:
        depth = (facts.before.rate - facts.now.rate) / facts.before.rate if facts.before.approved else 0.0
        is_critical = facts.is_hit and depth * facts.share >= CRITICAL
    else:
        is_critical = facts.incident.impact is Impact.CRITICAL and facts.share >= 0.5
    return Severity.CRITICAL if is_critical else Severity.NON_CRITICAL


def _title(facts: Facts) -> str:
    incident = facts.incident
    what = "maintenance" if incident.kind is HealthKind.SCHEDULED_MAINTENANCE else "an incident"
    has = "has" if incident.resolved_at is None else "had"
    return (
        f"{facts.partner.name} {has} {what}: {wording.percent(facts.share)} of your traffic runs through it"
    )


def _when(facts: Facts) -> str:
    incident, account = facts.incident, facts.account
    if incident.resolved_at is None:
        return f"since {wording.moment(incident.started_at, account)}"
    return wording.span(incident.started_at, incident.resolved_at, account)


def _share(facts: Facts) -> str:
    return f"{wording.percent(facts.share)} of your traffic runs through {facts.partner.name}."


def _effect(facts: Facts) -> str:
    """What the account's own payments through the partner did, with the figures, or that nothing is known."""
    so_far = " so far" if facts.incident.resolved_at is None else ""
    if facts.stretch is None or not facts.now.attempts:
        return f"No payments of yours through it are known of that time, so no effect is measured{so_far}."
    if not facts.is_known:
        found = wording.number(min(facts.now.attempts, facts.before.attempts))
        return f"With {found} payments to compare there are too few to measure an effect{so_far}."
    low, high = (wording.percent(edge) for edge in facts.interval)
    figures = (
        f"{wording.percent(facts.now.rate)} of {wording.number(facts.now.attempts)} payments through it were"
        f" approved, usual is {wording.percent(facts.before.rate)} ({low} to {high})"
    )
    return f"{figures}." if facts.is_hit else f"No effect on your payments is measured{so_far}: {figures}."


def _money(facts: Facts) -> str:
    if not facts.is_hit:
        return f" {wording.SEND_AMOUNTS}" if facts.usual.ticket is None else ""
    missing, variance = facts.missing
    lost = worth(missing, variance, ticket=facts.usual.ticket)
    return f" About {wording.number(missing)} are missing{wording.worth(lost, facts.account)}"


def _evidence(facts: Facts, *, at: datetime) -> list[dict[str, Any]]:
    incident = facts.incident
    lasted = Stretch(incident.started_at, max(incident.started_at, incident.resolved_at or at))
    found = [evidence(_share(facts), lasted, observed=facts.share)]
    if facts.is_known and facts.stretch:
        found.append(
            evidence(
                _effect(facts),
                facts.stretch,
                observed=facts.now.rate,
                expected=facts.before.rate,
                interval=facts.interval,
                sample_size=round(facts.now.attempts),
                series_id=facts.series.id if facts.series else None,
            )
        )
    return found


def _actions(facts: Facts) -> list[Action]:
    """Following the partner's page is all there is to do while nothing is lost."""
    act = [recommendations.ROUTE, recommendations.METHODS]
    return [*act, _follow(facts)] if facts.is_hit else [_follow(facts), *act]


def _follow(facts: Facts) -> Action:
    url = facts.incident.source_url or facts.partner.status_page_url
    return Action(
        "follow_partner",
        f"Follow what {facts.partner.name} says",
        (
            "Read the partner's updates until it is resolved.",
            "Have another way to pay ready in case it gets worse.",
        ),
        ((f"{facts.partner.name}: status", url),) if url else (),
        "LOW",
    )
