"""Finds of a drop of an account's total rate which single label value it comes from, as it is detected."""

from collections.abc import Mapping, Sequence
from uuid import UUID

import numpy as np
from sqlalchemy.ext.asyncio import AsyncSession

from domain.anomalies.causes import explain_rate
from domain.anomalies.models import Anomaly
from domain.telemetry import queries as telemetry
from domain.telemetry.models import Series
from domain.telemetry.windows import Resolution, Window


async def attribute(
    session: AsyncSession,
    opened: Sequence[Anomaly],
    series: Sequence[Series],
    usual: Mapping[UUID, Mapping[UUID, float]],
) -> None:
    """Set the `cause` of those `opened` that are of a total: the labels of the value, or none.

    `usual` holds the rate expected of each series as the episode was detected.
    """
    by_id = {one.id: one for one in series}
    for anomaly in opened:
        total = by_id[anomaly.series_id]
        if total.metric.endswith("_rate") and not total.labels:
            nodes = [total, *(one for one in series if one.metric == total.metric and one.labels)]
            anomaly.cause = await _cause(session, anomaly, nodes, usual[anomaly.id])


async def _cause(
    session: AsyncSession, anomaly: Anomaly, nodes: Sequence[Series], usual: Mapping[UUID, float]
) -> dict[str, str]:
    window = Window(anomaly.started_at, anomaly.detected_at, Resolution.MINUTE)
    counts = await telemetry.counts(session, nodes, window)
    attempts, good = counts.total.sum(axis=1), counts.good.sum(axis=1)
    rates = np.array([usual.get(one.id, np.nan) for one in nodes])
    found = explain_rate(attempts=attempts, good=good, expected_good=attempts * rates)
    return nodes[found.node].labels
