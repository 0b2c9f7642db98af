"""Slow noise, a block a UTC day: a block depends on (seed, name, day) alone, so any day is cheap to reach."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ops.simulation.specification import named_rng

FloatArray = NDArray[np.float64]

_STEPS = 288  # five minutes each


def autoregressive(
    seed: int, names: Sequence[str], day: int, *, correlation: float, deviation: float
) -> FloatArray:
    """(1440, names): a first-order process on five minutes with the given stationary deviation.

    It is run in from rest over the day before, which leaves less than `correlation` ** 288 of a seam.
    """
    shocks = np.stack(
        [
            np.concatenate([named_rng(seed, name, d).normal(size=_STEPS) for d in (day - 1, day)])
            for name in names
        ],
        axis=1,
    )
    fresh = np.sqrt(1 - correlation**2)
    now = np.zeros(len(names))
    path = np.empty((_STEPS, len(names)))
    for step, shock in enumerate(shocks):
        now = correlation * now + fresh * shock
        if step >= _STEPS:
            path[step - _STEPS] = now
    return np.repeat(path * deviation, 1440 // _STEPS, axis=0)


def day_level(seed: int, names: Sequence[str], day: int, *, deviation: float) -> FloatArray:
    """(1440, names): drawn at each midnight, linear between."""
    ends = np.array([[named_rng(seed, name, "day", d).normal() for name in names] for d in (day, day + 1)])
    part = (np.arange(1440) / 1440)[:, None]
    level: FloatArray = deviation * (ends[0] * (1 - part) + ends[1] * part)
    return level
