"""Sums of an account's measured series over any time: whole hours as rolled up, all else by minutes."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import numpy as np
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from domain.telemetry import reading, steps
from domain.telemetry.derived import contains
from domain.telemetry.models import Series


@dataclass(frozen=True)
class Stretch:
    """The minutes that begin in [from_, until)."""

    from_: datetime
    until: datetime


@dataclass(frozen=True)
class Sum:
    """What a measured series came to: a count, or minor units."""

    series_id: UUID
    labels: Mapping[str, str]
    value: float


async def sums(
    session: AsyncSession,
    account_id: UUID,
    metric: str,
    stretch: Stretch,
    *,
    labels: Mapping[str, str] | None = None,
) -> list[Sum]:
    """The sum of each measured series of `metric` whose labels contain `labels` (None: of all).

    Those without data in the stretch are left out.
    """
    rows = await session.execute(
        select(Series.id, Series.number, Series.labels).where(
            Series.account_id == account_id, Series.metric == metric, Series.is_measured
        )
    )
    found = [row for row in rows if contains(row.labels, labels or {})]
    begin, end = (_minute(at) for at in (stretch.from_, stretch.until))
    if not found or begin >= end:
        return []
    members = [(account_id, row.number) for row in found]
    grid = await reading.read(session, members, np.array([begin, end]), step=steps.HOUR)
    return [
        Sum(row.id, row.labels, value)
        for row, value, count in zip(found, grid.value[:, 0].tolist(), grid.count[:, 0].tolist(), strict=True)
        if count
    ]


def total(found: Sequence[Sum], outcomes: Collection[str]) -> float:
    return sum(one.value for one in found if one.labels.get("outcome") in outcomes)


def _minute(at: datetime) -> int:
    """The first minute that begins at or after `at`."""
    return -int(-at.timestamp() // 60) * 60
