"""What a fit takes and what it gives: the API knows these without knowing Prophet."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class History:
    """Whole hours of a series: `at` are their starts (Unix seconds, rising); those missing are unknown.

    `total` are counts, NaN unknown; with `good` the series is the rate good / total.
    """

    at: IntArray
    total: FloatArray
    good: FloatArray | None
    time_zone: str
    country: str


@dataclass(frozen=True)
class Bands:
    """What is expected of the hours from `start` (Unix seconds) on, in the unit of the series.

    All arrays have one length; `remarks` are sentences for people.
    """

    model: str
    trained_from: int
    start: int
    yhat: list[float]
    lower80: list[float]
    upper80: list[float]
    lower95: list[float]
    upper95: list[float]
    remarks: list[str] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)
