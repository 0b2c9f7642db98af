"""An episode as an incident sees it: what it is about, how bad it is, and what it means for its account."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncSession

from domain.anomalies.models import Anomaly
from domain.catalog.models import Account
from domain.incidents import wording
from domain.incidents.models import HealthKind, Impact, Severity
from domain.incidents.reach import IncidentImpact
from domain.telemetry import tickets
from domain.telemetry.models import Series
from domain.telemetry.tickets import Turnover, Worth

KINDS = {
    "authorization_rate": HealthKind.AUTHORIZATION_RATE_DROP,
    "completion_rate": HealthKind.AUTHORIZATION_RATE_DROP,
    "payments.attempted": HealthKind.TRAFFIC_VOLUME_DROP,
}
# Parts of what was expected that are missing, from which an incident is that bad.
_CRITICAL, _MAJOR = 0.5, 0.15


@dataclass(frozen=True)
class Episode:
    """An anomaly with the series that it is of."""

    anomaly: Anomaly
    series: Series

    @property
    def kind(self) -> HealthKind:
        return KINDS[self.series.metric]

    @property
    def partner_code(self) -> str | None:
        """The partner that it comes from: the account's total at one, or that partner's own payments."""
        return self.anomaly.cause.get("partner")

    @property
    def depth(self) -> float:
        """The part of what was expected that is missing, 0..1."""
        expected = self.anomaly.expected
        return (expected - self.anomaly.observed) / expected if expected > 0 else 0.0


async def meaning(session: AsyncSession, account: Account, episodes: Sequence[Episode]) -> IncidentImpact:
    """What these episodes of the account come to: of its total if that is hit, else of the worst slice."""
    worst = max(episodes, key=lambda one: (not one.series.labels, one.anomaly.shortfall))
    turnover = await tickets.turnover(session, account, at=worst.anomaly.started_at)
    money = _worth(worst, turnover)
    return IncidentImpact(
        account.currency,
        wording.of_account(episodes, account),
        money_low=money.low if money else None,
        money_mid=money.mid if money else None,
        money_high=money.high if money else None,
    )


def _worth(episode: Episode, turnover: Turnover) -> Worth | None:
    """What the missing payments were worth; of missing attempts a part would have been approved."""
    is_volume = episode.kind is HealthKind.TRAFFIC_VOLUME_DROP
    approved = turnover.approved_share if is_volume else 1.0
    anomaly = episode.anomaly
    return tickets.worth(
        anomaly.shortfall * approved, anomaly.shortfall_variance * approved**2, ticket=turnover.ticket
    )


def impact_of(depth: float) -> Impact:
    if depth >= _CRITICAL:
        return Impact.CRITICAL
    return Impact.MAJOR if depth >= _MAJOR else Impact.MINOR


def severity_of(impact: Impact) -> Severity:
    return Severity.NON_CRITICAL if impact is Impact.MINOR else Severity.CRITICAL
