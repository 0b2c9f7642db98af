"""The buckets of many histograms of OTLP/JSON at once; what is refused, or not plain, is odd."""

from collections.abc import Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from domain.telemetry import otlp_messages
from domain.telemetry.otlp_messages import DataPoint
from domain.telemetry.wire_buckets import EXPLICIT, MAX_COUNTS, Buckets

_MAX_COUNT = 2**40  # so that the counts of a histogram can be summed in 64 bits

Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]


class _Edges(NamedTuple):
    """The kinds of bounds that there are: where the buckets of each begin in `lower` and `upper`."""

    begins: Ints
    sizes: Ints
    is_sound: Bools
    lower: NDArray[np.float64]
    upper: NDArray[np.float64]


def explicit(points: Sequence[DataPoint], numbers: Ints) -> tuple[Buckets, Bools]:
    """The buckets that have observations, and which histograms are odd, by the rules of `otlp_points`.

    `numbers` are those of the data points.
    """
    edges, kind = _edges([bytes(point.bounds) for point in points])
    counts = [point.bucket_counts or () for point in points]
    sizes = np.array([len(row) for row in counts], np.int64)
    ends = np.cumsum(sizes)
    flat = np.fromiter(chain.from_iterable(counts), np.int64)
    place = np.flatnonzero(flat)
    row = np.searchsorted(ends, place, side="right")
    bucket = np.minimum(place - (ends - sizes)[row], edges.sizes[kind[row]] - 1)
    edge, count = edges.begins[kind[row]] + bucket, np.minimum(flat[place], _MAX_COUNT)
    total = np.zeros(len(points), np.int64)
    np.add.at(total, row, count)
    is_bare = (sizes == 0) & (edges.sizes[kind] == 1)
    is_odd = (sizes != edges.sizes[kind]) | (sizes > MAX_COUNTS) | ~edges.is_sound[kind]
    is_odd |= total != np.array([point.count for point in points], np.int64)
    is_odd[row[(count == _MAX_COUNT) | (edges.upper[edge] < 0)]] = True
    is_odd &= ~is_bare
    kept = ~is_odd[row] & (edges.sizes[kind[row]] > 1)
    buckets = Buckets(
        point=numbers[row[kept]].astype(np.int32),
        counts=count[kept],
        lower=edges.lower[edge[kept]],
        upper=edges.upper[edge[kept]],
        scale=np.full(np.count_nonzero(kept), EXPLICIT, np.int8),
    )
    return buckets, is_odd


def _edges(raws: list[bytes]) -> tuple[_Edges, Ints]:
    """All kinds of bounds, each read once, and which of them each is."""
    numbers = {raw: number for number, raw in enumerate(dict.fromkeys(raws))}
    read = [np.array(otlp_messages.bounds.decode(raw) or (), np.float64) for raw in numbers]
    sizes = np.array([len(bounds) + 1 for bounds in read], np.int64)
    lower = np.concatenate([np.empty(0), *(np.append(-np.inf, bounds) for bounds in read)])
    upper = np.concatenate([np.empty(0), *(np.append(bounds, np.inf) for bounds in read)])
    is_sound = [bool(np.isfinite(bounds).all() and (np.diff(bounds) > 0).all()) for bounds in read]
    edges = _Edges(np.cumsum(sizes) - sizes, sizes, np.array(is_sound, bool), lower, upper)
    return edges, np.array([numbers[raw] for raw in raws], np.int64)
