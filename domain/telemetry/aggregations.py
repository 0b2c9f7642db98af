"""What many values of a series come to as one, and which of these a kind of series can be asked for.

Rates are quotients of sums, and percentiles are read from merged sketches: neither is ever averaged.
"""

from collections.abc import Mapping
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from domain.core.errors import InvalidInput
from domain.telemetry import sketches
from domain.telemetry.points import Kind
from domain.telemetry.sketches import Sketches

Floats = NDArray[np.float64]


class Aggregation(StrEnum):
    """What the values of an interval come to."""

    SUM = "SUM"
    RATE = "RATE"
    MEAN = "MEAN"
    MIN = "MIN"
    MAX = "MAX"
    LAST = "LAST"
    P50 = "P50"
    P90 = "P90"
    P95 = "P95"
    P99 = "P99"


QUANTILES: Mapping[Aggregation, float] = {
    Aggregation.P50: 0.5,
    Aggregation.P90: 0.9,
    Aggregation.P95: 0.95,
    Aggregation.P99: 0.99,
}
OF_MINUTES = frozenset({Aggregation.MIN, Aggregation.MAX, Aggregation.LAST})
"""Rollups do not hold them: they are read of the minutes, and only as long as these are kept."""
OF_KIND: Mapping[Kind, tuple[Aggregation, ...]] = {
    Kind.COUNT: (Aggregation.SUM,),
    Kind.AMOUNT: (Aggregation.SUM,),
    Kind.RATE: (Aggregation.RATE,),
    Kind.DISTRIBUTION: (Aggregation.MEAN, *QUANTILES),
    Kind.GAUGE: (Aggregation.MEAN, Aggregation.MIN, Aggregation.MAX, Aggregation.LAST),
}
"""The first is what a kind is aggregated by unless something else is asked for."""


def chosen(kind: Kind, asked: Aggregation | None) -> Aggregation:
    """The aggregation asked for, or else the kind's own. Raises InvalidInput where it has no such."""
    allowed = OF_KIND[kind]
    if asked is not None and asked not in allowed:
        raise InvalidInput(
            f"{asked} cannot be told of a series of kind {kind}: it has {', '.join(allowed)}.",
            path=("window", "aggregation"),
        )
    return asked or allowed[0]


def ratio(part: Floats, whole: Floats) -> Floats:
    """NaN where there is no whole."""
    return np.divide(part, whole, out=np.full_like(part, np.nan), where=whole > 0)


def quantile(found: Sketches, aggregation: Aggregation) -> tuple[Floats, Floats]:
    """Of each sketch the quantile, NaN without observations, and how many observations it is of."""
    values = sketches.quantiles(found, [QUANTILES[aggregation]])[:, 0]
    return values, sketches.counts(found).astype(np.float64)


def of_minutes(values: Floats, starts: NDArray[np.integer], aggregation: Aggregation) -> Floats:
    """The least, greatest or last of the minutes' values from each start to the next; NaN without any.

    `starts` are indices of `values`, rising.
    """
    if aggregation is Aggregation.LAST:
        known = np.where(np.isnan(values), -1, np.arange(len(values)))
        last = np.maximum.reduceat(known, starts)
        return np.where(last >= 0, values[last], np.nan)
    reduce = np.fmin.reduceat if aggregation is Aggregation.MIN else np.fmax.reduceat
    found: Floats = reduce(values, starts)
    return found
