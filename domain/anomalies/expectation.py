"""What a local day of one account should look like, learnt from whole local days before it alone.

Every estimate is a middle mean over days, so one sales day or one incident in the history moves little.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

# Whole days of its own history a node needs before its volume, or its rate by season, is expected at all.
VOLUME_DAYS = 7
RATE_DAYS = 3
# Attempts in that history below which a rate by season is not worth having.
RATE_ATTEMPTS = 200
# From this many days each day of the week is its own type; before, weekdays and weekends are.
DAYS_FOR_DAY_OF_WEEK = 28
# The history used: days of one type for a shape, days for a rate, days for the present level.
SHAPE_DAYS, RECENT_RATE_DAYS, LEVEL_DAYS = 10, 14, 7
# An hour of one day counts this many attempts at the node's usual rate besides its own.
HOUR_PSEUDO_ATTEMPTS = 50.0


@dataclass(frozen=True)
class Expectation:
    """`minutes` (1440, nodes): expected at each local minute, NaN = unknown; `days` (nodes): rests on."""

    minutes: FloatArray
    days: IntArray


def expected_volume(
    attempts: FloatArray,
    *,
    days: Sequence[date],
    day: date,
    holidays: Collection[date] = (),
    forecast: FloatArray | None = None,
    shift: int = 0,
) -> Expectation:
    """Attempts expected in each minute of `day`.

    `attempts` is (days, 24, nodes) for the local `days` before it (hours in which the account sent
    nothing NaN, hours without this node zero); holidays teach nothing. `forecast` (24, nodes), attempts
    an hour, replaces the season where it is not NaN. `shift`: see `calendar.LocalDays`.
    """
    rests_on = _days_known(attempts)
    # Days before the first data are no history: they must not make two weeks look like four.
    sent = np.isfinite(attempts).any(axis=(1, 2))
    ordinary = np.array([one not in holidays for one in days], dtype=bool) & sent
    taught = [one for one, teaches in zip(days, ordinary, strict=True) if teaches]
    hourly = _seasonal_volume(attempts[ordinary], taught, day)
    hourly = np.where(rests_on >= VOLUME_DAYS, hourly, np.nan)
    if forecast is not None:
        hourly = np.where(np.isfinite(forecast), forecast, hourly)
    return Expectation(_counts_by_minute(hourly / 60.0, shift), rests_on)


def expected_rate(
    attempts: FloatArray,
    good: FloatArray,
    *,
    forecast: FloatArray | None = None,
    shift: int = 0,
) -> Expectation:
    """The rate (good / attempts) expected in each minute of the day after the given whole days.

    Shapes as for `expected_volume`; `forecast` (24, nodes) holds rates. NaN: no season is known, and
    the detector falls back on its level tracker.
    """
    rests_on = _days_known(attempts)
    enough = (rests_on >= RATE_DAYS) & (np.nansum(attempts, (0, 1)) >= RATE_ATTEMPTS)
    hourly = np.where(enough, _seasonal_rate(attempts[-RECENT_RATE_DAYS:], good[-RECENT_RATE_DAYS:]), np.nan)
    if forecast is not None:
        hourly = np.where(np.isfinite(forecast), forecast, hourly)
    hourly = np.clip(hourly, 1e-3, 1 - 1e-3)
    logits = _interpolate(np.log(hourly / (1 - hourly)), shift)
    return Expectation(1 / (1 + np.exp(-logits)), rests_on)


def middle_mean(values: FloatArray) -> FloatArray:
    """The mean over axis 0 without its lowest and highest quarter (at least one each of three); NaN-aware."""
    ordered = np.sort(values, axis=0)  # NaN sorts last
    known = np.isfinite(values).sum(axis=0)
    trim = np.where(known >= 3, np.maximum(1, known // 4), 0)
    rank = np.arange(len(values)).reshape(-1, *[1] * (values.ndim - 1))
    kept = (rank >= trim) & (rank < known - trim)
    total = np.where(kept, ordered, 0.0).sum(axis=0)
    return _ratio(total, kept.sum(axis=0).astype(np.float64))


def _days_known(attempts: FloatArray) -> IntArray:
    """Whole days with attempts of each node; the account's first day counts only if it began at midnight."""
    seen = np.nan_to_num(attempts).sum(axis=1) > 0
    sent = np.isfinite(attempts).any(axis=(1, 2))
    first = int(np.argmax(sent)) if sent.any() else 0
    if len(attempts) and not np.isfinite(attempts[first, 0]).any():
        seen[first] = False
    result: IntArray = seen.sum(axis=0)
    return result


def _seasonal_volume(attempts: FloatArray, days: Sequence[date], day: date) -> FloatArray:
    """(24, nodes) attempts an hour: shape of the day's type x its usual level x the recent trend."""
    if not len(days):
        return np.full(attempts.shape[1:], np.nan)
    usual = middle_mean(attempts)
    known = np.where(np.isfinite(attempts), usual, 0.0).sum(axis=1)
    levels = _ratio(np.nansum(attempts, axis=1), known)
    like = _same_type(days, day)[-SHAPE_DAYS:]
    shape = middle_mean(_ratio(attempts[like], levels[like][:, None]))
    recent = range(max(0, len(days) - LEVEL_DAYS), len(days))
    trend = middle_mean(
        np.stack([_ratio(levels[i], middle_mean(levels[_same_type(days, days[i])])) for i in recent])
    )
    result: FloatArray = shape * middle_mean(levels[like]) * np.clip(trend, 0.5, 2.0)
    return result


def _same_type(days: Sequence[date], day: date) -> list[int]:
    """Indices of the days of the same type as `day`; all of them where fewer than two are."""
    if len(days) >= DAYS_FOR_DAY_OF_WEEK:
        like = [i for i, one in enumerate(days) if one.weekday() == day.weekday()]
    else:
        like = [i for i, one in enumerate(days) if (one.weekday() >= 5) == (day.weekday() >= 5)]
    return like if len(like) >= 2 else list(range(len(days)))


def _seasonal_rate(attempts: FloatArray, good: FloatArray) -> FloatArray:
    """(24, nodes): the middle over days of each hour's rate, small hours drawn to the node's own rate."""
    usual = middle_mean(_ratio(np.nansum(good, axis=1), np.nansum(attempts, axis=1)))
    pseudo = HOUR_PSEUDO_ATTEMPTS
    hours = middle_mean((good + pseudo * usual) / (attempts + pseudo))
    return np.where(np.isfinite(hours), hours, usual)


def _counts_by_minute(hourly: FloatArray, shift: int) -> FloatArray:
    """Interpolate on the log scale, and correct so that the mean of each hour stays what it was."""
    target = np.maximum(hourly, 1e-4)
    logs = np.log(target)
    for _ in range(3):
        minutes = np.exp(_interpolate(logs, shift))
        means = np.roll(minutes, -shift, axis=0).reshape(24, 60, -1).mean(axis=1)
        logs = logs + np.where(np.isfinite(means), np.log(target / means), 0.0)
    return np.exp(_interpolate(logs, shift))


def _interpolate(hourly: FloatArray, shift: int) -> FloatArray:
    """(24, nodes) at the middles of the hours -> (1440, nodes), linear, around midnight too."""
    position = (np.arange(1440) + 0.5 - 30 - shift) / 60
    before = np.floor(position).astype(np.int64)
    part = (position - before)[:, None]
    return hourly[before % 24] * (1 - part) + hourly[(before + 1) % 24] * part


def _ratio(above: FloatArray, below: FloatArray) -> FloatArray:
    above, below = np.broadcast_arrays(above, below)
    ratio: FloatArray = np.divide(above, below, out=np.full(above.shape, np.nan), where=below > 0)
    return ratio
