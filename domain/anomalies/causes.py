"""Which single label value explains what the account's total lost; pure, from counts over one window.

Two explanations compete, each with one free number: the whole account moved, or one value moved and all
else stayed. A value wins if it makes the counts more likely by a margin (looking at many values finds
flukes), and if what it lost is most of what the total lost.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

# Nats a value must be ahead of the total by, and the least part of the total's loss it must account for.
MARGIN = 4.0
LEAST_SHARE = 0.6


@dataclass(frozen=True)
class Cause:
    """`node` lost `share` of all that was lost; the counts are `gain` nats likelier than expected so.

    `node` is `total` where no single value explains it.
    """

    node: int
    share: float
    gain: float


def explain_rate(
    *, attempts: FloatArray, good: FloatArray, expected_good: FloatArray, total: int = 0
) -> Cause:
    """The cause of a rate's drop. Arrays (nodes,) over the episode so far: the account's total and its
    label values, of any number of labels; NaN where nothing was expected of a node.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        bad, expected_bad = attempts - good, attempts - expected_good
        gain = _term(good, expected_good) + _term(bad, expected_bad)
    return _choose(gain, expected_good - good, total)


def _term(count: FloatArray, expected: FloatArray) -> FloatArray:
    return np.where(count > 0, count * np.log(count / expected), 0.0 * expected)


def _choose(gain: FloatArray, lost: FloatArray, total: int) -> Cause:
    """The likeliest value, unless it is no better than the total."""
    share = lost / lost[total]
    usable = np.isfinite(gain) & (lost > 0) & (share >= LEAST_SHARE)
    usable[total] = False
    best = int(np.argmax(np.where(usable, gain, -np.inf)))
    if not usable.any() or gain[best] < gain[total] + MARGIN:
        return Cause(total, 1.0, float(gain[total]))
    return Cause(best, float(share[best]), float(gain[best]))
