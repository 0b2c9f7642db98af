"""The sketches of data points from their buckets, in our units.

A bucket goes whole to where its middle lies in our unit, that of an exponential histogram in another unit
too: it is then off by half a bucket at most.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from domain.telemetry import sketches, wire_buckets
from domain.telemetry.otlp_points import Bucket
from domain.telemetry.sketches import Sketches
from domain.telemetry.wire_buckets import EXPLICIT, Buckets

Rows = NDArray[np.int64]

_GREATEST = np.finfo(np.float64).max


def joined(parts: Sequence[Buckets], singles: Sequence[tuple[int, Bucket]]) -> Buckets:
    """All buckets of a body, with those that were read one by one."""
    if not singles and len(parts) == 1:
        return parts[0]
    buckets = [bucket for _, bucket in singles]
    single = Buckets(
        point=np.array([point for point, _ in singles], np.int32),
        counts=np.array([bucket.observations for bucket in buckets], np.int64),
        lower=np.array([bucket.lower for bucket in buckets], np.float64),
        upper=np.array([bucket.upper for bucket in buckets], np.float64),
        scale=np.array([bucket.scale for bucket in buckets], np.int8),
    )
    return wire_buckets.concat([*parts, single])


def of_buckets(buckets: Buckets, rows: Rows, factor: NDArray[np.float64], *, n: int) -> Sketches:
    """n sketches: `buckets[i]` is one of row `rows[i]`, whose values times `factor[i]` are in our unit."""
    is_explicit = buckets.scale == EXPLICIT
    if is_explicit.all():
        return _explicit(buckets, rows, factor, n)
    parts = [_explicit(wire_buckets.take(buckets, is_explicit), rows[is_explicit], factor[is_explicit], n)]
    groups = [np.arange(n)]
    for unit in np.unique(factor[~is_explicit]).tolist():
        which = ~is_explicit & (factor == unit)
        single = _exponential(wire_buckets.take(buckets, which))
        parts.append(single if unit == 1 else sketches.rescale(single, unit))
        groups.append(rows[which])
    return sketches.merge(sketches.concat(parts), np.concatenate(groups), n)


def _explicit(buckets: Buckets, rows: Rows, factor: NDArray[np.float64], n: int) -> Sketches:
    with np.errstate(over="ignore", invalid="ignore"):
        values = np.minimum(_middles(buckets.lower, buckets.upper) * factor, _GREATEST)
    return sketches.of_values(values, rows=rows, n=n, counts=buckets.counts)


def _middles(lower: NDArray[np.float64], upper: NDArray[np.float64]) -> NDArray[np.float64]:
    """The value for which each bucket stands, as `sketches.of_explicit` says: 0 for what is not positive."""
    low, high = np.maximum(lower, 0), np.maximum(upper, 0)
    inner = np.where(low > 0, np.sqrt(low) * np.sqrt(high), high / 2)
    return np.where(np.isinf(high), low, inner)


def _exponential(buckets: Buckets) -> Sketches:
    """Each by itself."""
    n = len(buckets.counts)
    return sketches.of_exponential(
        buckets.scale,
        zeros=np.zeros(n, np.int64),
        offset=buckets.lower.astype(np.int64),
        ends=np.arange(1, n + 1),
        counts=buckets.counts,
    )
