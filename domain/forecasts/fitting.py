"""From the hours of one series to bands ahead of it. Pure: arrays in, arrays out, no clock, no database.

All is modelled on a link scale (log of counts, logit of rates), where the counts themselves say how
much an hour scatters; only what exceeds that is learnt from the errors.
"""

from dataclasses import dataclass, field
from typing import Any, Final
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from domain.core.errors import DomainError
from domain.forecasts import prophet_model, tracking
from domain.forecasts.bands import Bands, History
from domain.forecasts.links import Counts, Link, Rates

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

HOUR: Final = 3600
# Known hours from which the cycle of the day is known, and from which Prophet is fitted.
SEASONAL_HOURS, PROPHET_HOURS = 48, 168
# Standard deviations on the link scale: of an hour when the cycle of the day or of the week
# is not known, and the least of any.
UNKNOWN_DAY, UNKNOWN_WEEK, LEAST_SPREAD = 0.5, 0.3, 0.01
# Bands reach at least this part of a normal distribution's, or a constant series would alarm always.
LEAST_SCALE: Final = 0.25
NORMAL = {80: 1.2816, 95: 1.9600}
# With fewer hours than this the quantiles of the errors are not trusted to be narrower than normal ones.
HOURS_FOR_QUANTILES: Final = 100


class NotEnoughHistory(DomainError):
    """Nothing is known of the series before the end of training."""

    code = "NOT_ENOUGH_HISTORY"


@dataclass(frozen=True)
class _Middle:
    """The middle of each hour on the link scale; `unknown` is the deviation that the errors cannot show."""

    model: str
    known: FloatArray
    ahead: FloatArray
    parameters: int
    remarks: list[str]
    settings: dict[str, Any] = field(default_factory=dict)
    unknown: float = 0.0


def fit(history: History, *, trained_until: int, horizon_hours: int) -> Bands:
    """Bands for `horizon_hours` from `trained_until` (a whole hour, exclusive end of the training).

    Raises NotEnoughHistory when no hour before it is known.
    """
    grid = _on_grid(history, trained_until)
    link: Link = Counts(grid.total) if grid.good is None else Rates.of(grid.good, grid.total)
    values = link.values()
    future = trained_until + HOUR * np.arange(horizon_hours, dtype=np.int64)
    middle = _middle(grid, values, future)
    errors = values - middle.known
    limit = 4 * _robust_deviation(errors)
    moved, left = tracking.follow(errors, clock=_local_hours(grid, future), clip=limit)
    ahead, usual = middle.ahead + moved, _usual_trials(grid, future)

    # What the counts explain of the errors, what they do not, and how far the errors reach then.
    sampling, by_counts = (
        link.sampling_variance(middle.known, grid.total),
        link.observed_variance(ahead, usual),
    )
    squares = np.clip(errors, -limit, limit) ** 2
    extra = max(float(np.nanmean(squares - sampling)), 0.0) + LEAST_SPREAD**2
    scales = _scales(left / np.sqrt(sampling + extra), int(np.isfinite(values).sum()), middle)
    reach = {
        width: np.sqrt(scales[width] ** 2 * (by_counts + extra) + (normal * middle.unknown) ** 2)
        for width, normal in NORMAL.items()
    }
    yhat = link.mean(ahead, by_counts * min(1.0, float(np.nanmean(squares) / np.nanmean(sampling))))
    inner, outer = (_band(link, ahead, reach[width], yhat, link.grain(usual)) for width in (80, 95))
    return Bands(
        model=middle.model,
        trained_from=int(grid.at[0]),
        start=trained_until,
        yhat=yhat.tolist(),
        lower80=inner[0].tolist(),
        upper80=inner[1].tolist(),
        lower95=np.minimum(outer[0], inner[0]).tolist(),
        upper95=np.maximum(outer[1], inner[1]).tolist(),
        remarks=middle.remarks,
        settings=middle.settings,
    )


def _on_grid(history: History, until: int) -> History:
    """Every hour from the first known one to `until`; hours that are not given are NaN."""
    known = (history.at < until) & np.isfinite(history.total)
    if history.good is not None:
        known &= np.isfinite(history.good) & (history.total > 0)
    if not known.any():
        raise NotEnoughHistory("There is no hour with data before the end of the training.")
    first = int(history.at[known][0])
    at = np.arange(first, until, HOUR, dtype=np.int64)
    place = (history.at[known] - first) // HOUR

    def spread_out(values: FloatArray) -> FloatArray:
        out = np.full(len(at), np.nan)
        out[place] = values[known]
        return out

    good = None if history.good is None else spread_out(history.good)
    return History(at, spread_out(history.total), good, history.time_zone, history.country)


def _middle(grid: History, values: FloatArray, future: IntArray) -> _Middle:
    """By Prophet where the history allows, else by the simplest thing that it does, and a remark."""
    known = int(np.isfinite(values).sum())
    if np.nanmax(values) - np.nanmin(values) < 1e-9:
        return _mean(values, future, ["The series is constant: its value is carried forward."])
    if known < SEASONAL_HOURS:
        remark = f"Only {known} hours are known, too few for a cycle of the day: this is their mean."
        return _mean(values, future, [remark], unknown=UNKNOWN_DAY)
    if known < PROPHET_HOURS:
        remark = f"Only {known} hours are known: this is the mean of the same hour of the days before."
        return _by_hour_of_day(grid, values, future, [remark], unknown=UNKNOWN_WEEK)
    try:
        fitted = prophet_model.fit(
            grid.at, values, future, zone=ZoneInfo(grid.time_zone), country=grid.country
        )
    except prophet_model.FitFailed:
        remark = "Prophet found no fit: this is the mean of the same hour of the days before."
        return _by_hour_of_day(grid, values, future, [remark])
    return _Middle("prophet", fitted.known, fitted.ahead, fitted.parameters, fitted.remarks, fitted.settings)


def _mean(values: FloatArray, future: IntArray, remarks: list[str], *, unknown: float = 0.0) -> _Middle:
    mean = float(np.nanmean(values))
    known, ahead = np.full(len(values), mean), np.full(len(future), mean)
    return _Middle("mean", known, ahead, 1, remarks, unknown=unknown)


def _by_hour_of_day(
    grid: History,
    values: FloatArray,
    future: IntArray,
    remarks: list[str],
    *,
    unknown: float = 0.0,
) -> _Middle:
    known, ahead = _hour_of_day(grid.at, grid.time_zone), _hour_of_day(future, grid.time_zone)
    usual = _mean_by(known, values, size=24)
    return _Middle("seasonal_naive", usual[known], usual[ahead], 24, remarks, unknown=unknown)


def _hour_of_day(at: IntArray, time_zone: str) -> IntArray:
    return prophet_model.local(at, ZoneInfo(time_zone)).astype("datetime64[h]").astype(np.int64) % 24


def _local_hours(grid: History, future: IntArray) -> IntArray:
    """The local hour, counted from 1970, of each hour of the grid and of the future; it never falls."""
    at = prophet_model.local(np.concatenate([grid.at, future]), ZoneInfo(grid.time_zone))
    return np.maximum.accumulate(at.astype("datetime64[h]").astype(np.int64))


def _mean_by(group: IntArray, values: FloatArray, *, size: int) -> FloatArray:
    """The mean of each group's known values, of all values where a group has none."""
    known = np.isfinite(values)
    total = np.bincount(group[known], values[known], minlength=size)
    number = np.bincount(group[known], minlength=size)
    return np.where(number > 0, total / np.maximum(number, 1), np.nanmean(values))


def _usual_trials(grid: History, future: IntArray) -> FloatArray:
    """Attempts to expect in each future hour: the mean of the same hour of the last two weeks."""
    recent = slice(-2 * PROPHET_HOURS, None)
    usual = _mean_by(_hour_of_day(grid.at[recent], grid.time_zone), grid.total[recent], size=24)
    return np.asarray(usual[_hour_of_day(future, grid.time_zone)])


def _robust_deviation(errors: FloatArray) -> float:
    known = errors[np.isfinite(errors)]
    return float(1.4826 * np.median(np.abs(known - np.median(known)))) or LEAST_SPREAD


def _scales(standardized: FloatArray, known: int, middle: _Middle) -> dict[int, float]:
    """How many deviations each band reaches: quantiles of the errors, widened for the freedom they lost."""
    sizes = np.abs(standardized[np.isfinite(standardized)])
    lost = np.sqrt(known / max(known - middle.parameters, known / 4))
    scales = {}
    for width, normal in NORMAL.items():
        found = float(np.quantile(sizes, min(1.0, width / 100 * (1 + 1 / known))))
        least = LEAST_SCALE if known >= HOURS_FOR_QUANTILES or found == 0 else 1.0
        scales[width] = lost * max(found, least * normal)
    return scales


def _band(
    link: Link, middle: FloatArray, reach: FloatArray, yhat: FloatArray, grain: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Within the bounds of the series, and around `yhat`."""
    lower = np.maximum(link.back(middle - reach) - grain, 0.0)
    upper = np.minimum(link.back(middle + reach) + grain, link.most)
    return np.minimum(lower, yhat), np.maximum(upper, yhat)
