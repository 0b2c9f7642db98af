"""What is expected of a local day of an account: from forecasts where there are, else from the season."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from uuid import UUID
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray
from sqlalchemy.ext.asyncio import AsyncSession

from domain.anomalies import calendar
from domain.anomalies.expectation import expected_rate, expected_volume
from domain.catalog.models import Account
from domain.forecasts import queries as forecasts
from domain.forecasts import service as fitting
from domain.forecasts.models import Forecast
from domain.telemetry import queries as telemetry
from domain.telemetry.derived import ATTEMPTED
from domain.telemetry.models import Series
from domain.telemetry.windows import Resolution, Window

HISTORY_DAYS = 56
FITTED_BEFORE = timedelta(hours=1)
"""A day's forecast is trained until so long before its local midnight, so that it is there in time."""
PATIENCE = timedelta(minutes=10)
"""A day is not judged before its forecasts are there, but for longer than this it waits for none."""
_REMEMBERED = 256

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class DayExpected:
    """Per series 1,440 values, one a local minute: a rate, or attempts; NaN: unknown.

    `spread` is the deviation (log scale) that the calendar adds to each series' volume.
    """

    of: Mapping[UUID, Floats]
    spread: Mapping[UUID, float]

    def columns(self, series_ids: Sequence[UUID], minutes: NDArray[np.int64]) -> Floats:
        """(len(minutes), len(series_ids)) for these local minutes of the day."""
        unknown = np.full(1440, np.nan)
        rows = [self.of.get(one, unknown)[minutes] for one in series_ids]
        return np.stack(rows, axis=1) if rows else np.zeros((len(minutes), 0))

    def spreads(self, series_ids: Sequence[UUID], minutes: int) -> Floats:
        """(minutes, len(series_ids)); a series that was not known as the day began has none."""
        return np.tile([self.spread.get(one, 0.0) for one in series_ids], (minutes, 1))


def midnight(day: date, zone: ZoneInfo) -> datetime:
    """When a local day begins, in UTC."""
    return datetime.combine(day, time(), zone).astimezone(UTC)


def planned_at(day: date, zone: ZoneInfo) -> datetime:
    """Until when the forecasts of a local day are trained, in UTC."""
    return midnight(day, zone) - FITTED_BEFORE


class Expectations:
    """Computes each day of each account once a process and remembers the latest."""

    def __init__(self) -> None:
        self._days: OrderedDict[tuple[UUID, date], DayExpected] = OrderedDict()

    async def day(
        self,
        session: AsyncSession,
        account: Account,
        series: Sequence[Series],
        day: date,
        *,
        at: datetime,
    ) -> DayExpected | None:
        """The expectation for `day`; None while the day's forecasts are still being fitted."""
        key = account.id, day
        if key not in self._days:
            zone = ZoneInfo(account.time_zone)
            trained_until = planned_at(day, zone)
            await fitting.plan_day(session, account, trained_until, at)
            if await forecasts.is_waiting(session, account.id, trained_until, since=at - PATIENCE):
                return None
            self._days[key] = await _day(session, account, series, day, trained_until=trained_until)
            if len(self._days) > _REMEMBERED:
                self._days.popitem(last=False)
        return self._days[key]


async def _day(
    session: AsyncSession,
    account: Account,
    series: Sequence[Series],
    day: date,
    *,
    trained_until: datetime,
) -> DayExpected:
    zone = ZoneInfo(account.time_zone)
    window = Window(midnight(day - timedelta(days=HISTORY_DAYS), zone), midnight(day, zone), Resolution.HOUR)
    counts = await telemetry.counts(session, series, window)
    hours = [window.start + index * window.resolution.step for index in range(window.buckets)]
    total, good = (np.where(counts.has_data, one, np.nan).T for one in (counts.total, counts.good))
    attempts = calendar.fold(hours, total, zone=zone, before=day, days=HISTORY_DAYS)
    approved = calendar.fold(hours, good, zone=zone, before=day, days=HISTORY_DAYS)
    fitted = await forecasts.trained_until(session, account.id, trained_until)
    forecast = np.stack([_hours_of(day, zone, fitted.get(one.id)) for one in series], axis=1)
    holidays = {one for one in attempts.days if calendar.is_holiday(account.country, one)}
    rates = expected_rate(attempts.values, approved.values, forecast=forecast, shift=attempts.shift)
    volume = expected_volume(
        attempts.values,
        days=attempts.days,
        day=day,
        holidays=holidays,
        forecast=forecast,
        shift=attempts.shift,
    )
    of = {
        one.id: (rates if one.metric.endswith("_rate") else volume).minutes[:, column]
        for column, one in enumerate(series)
    }
    return DayExpected(of, _spreads(account, series, day, attempts.values))


def _spreads(account: Account, series: Sequence[Series], day: date, attempts: Floats) -> dict[UUID, float]:
    """What the calendar adds to each series, by the countries that the account's attempts come from."""
    sums = dict(zip((one.id for one in series), np.nansum(attempts, axis=(0, 1)).tolist(), strict=True))
    volume = [one for one in series if one.metric == ATTEMPTED.name]
    total = sum(sums[one.id] for one in volume if not one.labels)
    by_country = {one.labels["country"]: sums[one.id] for one in volume if "country" in one.labels}
    shares = {country: count / total for country, count in by_country.items() if total > 0}
    return {
        one.id: calendar.node_spread(one.labels, day, home=account.country, shares=shares) for one in series
    }


def _hours_of(day: date, zone: ZoneInfo, forecast: Forecast | None) -> Floats:
    """The 24 local hours of `day` in a forecast; NaN where it does not reach or there is none."""
    hours = np.full(24, np.nan)
    if forecast is not None:
        for index, value in enumerate(forecast.yhat):
            local = (forecast.start + index * timedelta(hours=1)).astimezone(zone)
            if local.date() == day:
                hours[local.hour] = value
    return hours
