"""Sums of an account's measured series over any time: whole hours as rolled up, all else by minutes."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession

from domain.telemetry.derived import contains
from domain.telemetry.models import Series

_HOUR = timedelta(hours=1)

# An hour is loose where its sum is not up to date, or where the stretch holds a part of it alone.
PIECES = """
WITH loose AS (
  SELECT at FROM dirty_hours WHERE account_id = :account AND at >= :first AND at < :last
  UNION SELECT unnest(CAST(:edges AS timestamptz[]))
), pieces AS (
  SELECT series_id, at, value FROM hours
  WHERE account_id = :account AND series_id = ANY(:series) AND at >= :first AND at < :last
    AND at NOT IN (SELECT at FROM loose)
  UNION ALL
  SELECT m.series_id, loose.at, m.value
  FROM loose JOIN minutes m ON m.at >= loose.at AND m.at < loose.at + interval '1 hour'
  WHERE m.account_id = :account AND m.series_id = ANY(:series) AND m.at >= :from AND m.at < :until
)
"""
"""The pieces that make up [from, until): `series_id`, `at` (its hour) and `value`."""
_SUMS = text(PIECES + "SELECT series_id, sum(value) FROM pieces GROUP BY 1")


@dataclass(frozen=True)
class Stretch:
    """The minutes that begin in [from_, until)."""

    from_: datetime
    until: datetime

    def binds(self) -> dict[str, Any]:
        """The parameters of `PIECES` that tell the stretch."""
        begins, ends = _hour(self.from_), _hour(self.until)
        edges = {hour for hour, edge in ((begins, self.from_), (ends, self.until)) if hour != edge}
        first = begins if begins == self.from_ else begins + _HOUR
        return {
            "from": self.from_,
            "until": self.until,
            "first": first,
            "last": ends,
            "edges": sorted(edges),
        }


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
    """The sum of each measured series of `metric` whose labels contain `labels` (None: of all)."""
    rows = await session.execute(
        select(Series.id, Series.labels).where(
            Series.account_id == account_id, Series.metric == metric, Series.is_measured
        )
    )
    found = {key: of_row for key, of_row in rows if contains(of_row, labels or {})}
    binds = {"account": account_id, "series": list(found), **stretch.binds()}
    values = await session.execute(_SUMS, binds) if found else ()
    return [Sum(key, found[key], value) for key, value in values]


def total(found: Sequence[Sum], outcomes: Collection[str]) -> float:
    return sum(one.value for one in found if one.labels.get("outcome") in outcomes)


def _hour(at: datetime) -> datetime:
    return datetime.fromtimestamp(at.timestamp() // 3600 * 3600, UTC)
