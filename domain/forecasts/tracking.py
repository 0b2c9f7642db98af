"""What the last days leave of an error: it moves the forecast on between two fits.

The error of an hour is regressed on errors that were known some hours before. An incident or a sales
day is an error too, so errors are clipped before they teach anything. Days are local ones: `clock` is
the local hour (counted from any one) of every hour of the history and of those ahead.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

DAY, WEEK = 24, 168
# Hours ahead at which the regression is taught, and how strongly it is drawn to zero.
LEADS: Final = (1, 4, 8, 12, 16, 20, 24, 30, 36, 42, 48)
RIDGE: Final = 0.05
# With fewer hours than this the errors of a fit say nothing about its future.
LEAST_HOURS: Final = 14 * DAY


def follow(errors: FloatArray, *, clock: IntArray, clip: float) -> tuple[FloatArray, FloatArray]:
    """How much to add in each hour after `errors` (known - fitted, hourly, NaN unknown), and what errors
    were left had it been added in the past: (leads, hours), NaN unknown.
    """
    horizon = len(clock) - len(errors)
    if len(errors) < LEAST_HOURS:
        return np.zeros(horizon), errors[None]
    clipped = np.clip(np.nan_to_num(errors), -clip, clip)
    targets = np.arange(WEEK + max(LEADS), len(errors))
    taught = targets[np.isfinite(errors[targets])]
    known = np.concatenate([_features(clipped, clock, taught - lead, taught) for lead in LEADS])
    weights = _ridge(known, np.tile(clipped[taught], len(LEADS)))
    left = np.full((len(LEADS), len(errors)), np.nan)
    left[:, taught] = errors[taught] - (known @ weights).reshape(len(LEADS), -1)
    ahead = len(errors) + np.arange(horizon)
    return _features(clipped, clock, np.full(horizon, len(errors) - 1), ahead) @ weights, left


def _features(errors: FloatArray, clock: IntArray, origin: IntArray, target: IntArray) -> FloatArray:
    """As known at `origin`: the mean of the last day, the same hour of the last day and of the last week."""
    daily = np.convolve(errors, np.full(DAY, 1 / DAY))[: len(errors)]
    return np.stack(
        [daily[origin], *(errors[_before(clock, origin, target, span)] for span in (DAY, WEEK))], axis=1
    )


def _before(clock: IntArray, origin: IntArray, target: IntArray, span: int) -> IntArray:
    """The hour at the same local time as `target` the fewest whole spans before that is known at `origin`."""
    local = clock[target] - span * -(-(target - origin) // span)
    return np.minimum(np.searchsorted(clock, local), origin)


def _ridge(known: FloatArray, wanted: FloatArray) -> FloatArray:
    strength = RIDGE * len(wanted) * float(np.mean(known**2)) + 1e-12
    return np.asarray(np.linalg.solve(known.T @ known + strength * np.eye(known.shape[1]), known.T @ wanted))
