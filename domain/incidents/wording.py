"""What incidents that detectors open say, in plain words. Titles and summaries name no account."""

from collections.abc import Sequence
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from domain.catalog.models import Account, Partner
from domain.incidents.models import HealthKind

if TYPE_CHECKING:
    from domain.incidents.episodes import Episode

RECOVERED = "Payments are back to what is expected."

_TITLES = {
    HealthKind.AUTHORIZATION_RATE_DROP: "Fewer payments succeed than expected",
    HealthKind.TRAFFIC_VOLUME_DROP: "Fewer payments arrive than expected",
}
_SUMMARIES = {
    HealthKind.AUTHORIZATION_RATE_DROP: "A smaller part of payments is approved than is usual.",
    HealthKind.TRAFFIC_VOLUME_DROP: "There are fewer payments than is usual at this time.",
}
_METRICS = {
    "authorization_rate": "authorization rate",
    "completion_rate": "completion rate",
    "payments.attempted": "number of payments",
}


def title(kind: HealthKind, partner: Partner | None) -> str:
    return f"{_TITLES[kind]} at {partner.name}" if partner else _TITLES[kind]


def summary(kind: HealthKind, partner: Partner | None) -> str:
    where = f" Several accounts see it at {partner.name}." if partner else ""
    return _SUMMARIES[kind] + where


def of_account(episodes: Sequence["Episode"], account: Account) -> str:
    """What the account's own figures say: the total if it is hit, and else the slice that is hit most."""
    worst = max(episodes, key=lambda one: (not one.series.labels, one.anomaly.shortfall))
    anomaly, series = worst.anomaly, worst.series
    since = anomaly.started_at.astimezone(ZoneInfo(account.time_zone))
    where = "".join(f" for {key} {value}" for key, value in series.labels.items())
    observed, expected = (_figure(series.metric, value) for value in (anomaly.observed, anomaly.expected))
    what = _METRICS[series.metric]
    ended = ""
    if anomaly.ended_at is not None:
        ended = f" until {anomaly.ended_at.astimezone(ZoneInfo(account.time_zone)):%H:%M}"
    return f"Since {since:%H:%M}{ended} the {what}{where} is {observed}, where {expected} is expected."


def _figure(metric: str, value: float) -> str:
    return f"{value:.1%}" if metric.endswith("_rate") else f"{value:,.0f}"
