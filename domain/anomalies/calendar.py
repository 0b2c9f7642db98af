"""Local time and holidays. Telemetry is kept in UTC, but people pay in local days: all folding is here."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

import holidays
import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

# Standard deviation (log scale) that a public holiday, and the days beside it, add to a day's volume.
HOLIDAY_SPREAD = 0.5
BESIDE_HOLIDAY_SPREAD = 0.15


@dataclass(frozen=True)
class LocalDays:
    """Hourly values folded into local days, oldest first: (days, 24, nodes), NaN where nothing is known.

    `shift` is by how many minutes the hours start late where the zone is not a whole hour from UTC.
    """

    days: tuple[date, ...]
    values: FloatArray
    shift: int


def fold(
    hours: Sequence[datetime], values: FloatArray, *, zone: ZoneInfo, before: date, days: int = 56
) -> LocalDays:
    """Fold UTC hours (aware starts; `values` hours x nodes) into the `days` local days before `before`.

    The hour doubled when clocks go back is averaged; the one skipped in spring stays unknown.
    """
    first = before - timedelta(days=days)
    total = np.zeros((days, 24, values.shape[1]))
    known = np.zeros_like(total)
    for start, row in zip(hours, values, strict=True):
        local = start.astimezone(zone)
        index = (local.date() - first).days
        if 0 <= index < days:
            total[index, local.hour] += np.nan_to_num(row)
            known[index, local.hour] += np.isfinite(row)
    folded = np.divide(total, known, out=np.full_like(total, np.nan), where=known > 0)
    return LocalDays(
        tuple(first + timedelta(days=index) for index in range(days)), folded, _shift(zone, before)
    )


def _shift(zone: ZoneInfo, day: date) -> int:
    offset = datetime(day.year, day.month, day.day, 12, tzinfo=zone).utcoffset() or timedelta()
    return int(offset.total_seconds() // 60) % 60


def minutes_of_day(at: IntArray, zone: ZoneInfo) -> IntArray:
    """The local minute of the day (0..1439) of each UTC minute since the epoch."""
    local = [datetime.fromtimestamp(int(minute) * 60, UTC).astimezone(zone) for minute in at]
    return np.array([moment.hour * 60 + moment.minute for moment in local], dtype=np.int64)


@lru_cache(maxsize=1024)
def public_holidays(country: str, year: int) -> frozenset[date]:
    """The public holidays of an ISO 3166 country; none where its calendar is not known."""
    try:
        return frozenset(holidays.country_holidays(country, years=year))
    except NotImplementedError:
        return frozenset()


def is_holiday(country: str, day: date) -> bool:
    return day in public_holidays(country, day.year)


def spread(country: str, day: date) -> float:
    """The deviation (log scale) that the calendar of one country adds to its volume on `day`."""
    if is_holiday(country, day):
        return HOLIDAY_SPREAD
    beside = (day - timedelta(days=1), day + timedelta(days=1))
    return BESIDE_HOLIDAY_SPREAD if any(is_holiday(country, other) for other in beside) else 0.0


def node_spread(labels: Mapping[str, str], day: date, *, home: str, shares: Mapping[str, float]) -> float:
    """The deviation the calendar adds to a node of an account in the country `home`.

    `shares` is what part of its attempts each country has. A country's node follows its own calendar;
    an issuer's follows any of them, since whose issuer it is is not known; all else their mix.
    """
    if "country" in labels:
        return spread(labels["country"], day)
    if "issuer" in labels:
        return max(spread(country, day) for country in {home, *shares})
    mixed = sum(share * spread(country, day) for country, share in shares.items())
    return max(mixed, spread(home, day) * (1 - sum(shares.values())))
