"""Distributions as OpenTelemetry's exponential histograms, many at a time; merging loses nothing.

Bucket `i` of scale `s` holds the observations in (b^i, b^(i+1)], b = 2^(2^-s); zeros are counted apart.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from domain.telemetry import packing
from domain.telemetry.packing import CorruptBytes

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Rows = NDArray[np.integer] | Bools

MAX_SCALE = 4
"""Finer ones are merged to this on the way in: a quantile is then within 2.2 % of the true one."""
MIN_SCALE, MAX_SENT_SCALE = -10, 20
_LOWEST, _HIGHEST = -1074 * 16 - 1, 1024 * 16 - 1  # the buckets of the least and the greatest double
_SPAN = 1 << 16  # more than there are buckets
_MOST = 2**62
_BOUNDS = np.exp2(np.arange(16) / 16)
_HEADER = struct.Struct("<BI")  # version, sketches
_VERSION = 1


class CorruptSketches(CorruptBytes):
    """The bytes are no sketches that this release can read."""


@dataclass(frozen=True, slots=True, eq=False)
class Sketches:
    """N sketches: the buckets of row i are `index` and `counts` from `ends[i - 1]` (0 for the first) to
    `ends[i]`, in rising order of index, without empty ones.

    A row without buckets has MAX_SCALE; without buckets and zeros it is no sketch. `scale` and `zeros` are
    N long, `index` and `counts` M. An index is that of a double, from -17185 to 16383 at MAX_SCALE: buckets
    beyond are counted in the outermost. All counts of an array of sketches together stay below 2^63.
    """

    scale: NDArray[np.int8]
    zeros: Ints
    ends: Ints
    index: NDArray[np.int32]
    counts: Ints

    def __len__(self) -> int:
        return len(self.ends)


def none(n: int) -> Sketches:
    """n rows, each of them no sketch."""
    nothing = np.zeros(0, np.int64)
    return Sketches(
        np.full(n, MAX_SCALE, np.int8),
        np.zeros(n, np.int64),
        np.zeros(n, np.int64),
        nothing.astype(np.int32),
        nothing,
    )


def concat(many: Sequence[Sketches]) -> Sketches:
    """The rows of all, one after the other."""
    if not many:
        return none(0)
    before = np.cumsum([0, *(len(one.index) for one in many)])
    return Sketches(
        np.concatenate([one.scale for one in many]),
        np.concatenate([one.zeros for one in many]),
        np.concatenate([one.ends + start for one, start in zip(many, before[:-1], strict=True)]),
        np.concatenate([one.index for one in many]),
        np.concatenate([one.counts for one in many]),
    )


def take(s: Sketches, rows: Rows) -> Sketches:
    """These rows in this order; a row may be taken more than once. `rows` are indexes or a mask."""
    lengths = _lengths(s)[rows]
    ends = np.cumsum(lengths)
    first = s.ends[rows] - ends
    buckets = np.repeat(first, lengths) + np.arange(ends[-1] if len(ends) else 0)
    return Sketches(s.scale[rows], s.zeros[rows], ends, s.index[buckets], s.counts[buckets])


def of_values(
    values: Floats, *, rows: Rows | None = None, n: int | None = None, counts: Ints | None = None
) -> Sketches:
    """n sketches of observations, `values[i]` one of row `rows[i]`, or `counts[i]` (below 2^53) of them.

    Without `rows` each is a row of its own. Raises ValueError where a value is negative or not finite.
    """
    if not ((values >= 0) & (values < np.inf)).all():
        raise ValueError("An observation is negative or not finite.")
    row = np.arange(len(values)) if rows is None else rows
    size = len(values) if n is None else n
    weights = np.ones(len(values), np.int64) if counts is None else counts
    is_zero = values == 0
    zeros = np.bincount(row[is_zero], weights[is_zero], minlength=size).astype(np.int64)
    scale = np.full(size, MAX_SCALE, np.int8)
    return _gathered(scale, zeros, row[~is_zero], _indexes(values[~is_zero]), weights[~is_zero])


def of_explicit(bounds: ArrayLike, counts: Ints) -> Sketches:
    """Sketches of N histograms with the same K rising bounds, and N × (K + 1) counts.

    The counts of a bucket go whole to where one value lies: the geometric middle of its bounds, half the
    upper bound where it reaches down to zero, the lower bound of the last, zero for what is not positive.
    So the sketch of a sum is the sum of the sketches, and running totals can be subtracted. Without bounds
    nothing is known of the values: there is no sketch. Raises ValueError on bounds that do not rise or are
    not finite, and on negative counts.
    """
    upper = np.asarray(bounds, np.float64)
    if not (np.isfinite(upper).all() and (np.diff(upper) > 0).all() and (counts >= 0).all()):
        raise ValueError("The bounds of a histogram do not rise, or a count is negative.")
    if not len(upper):
        return none(len(counts))
    values = _representatives(upper)
    is_zero = values == 0
    row, bucket = np.nonzero(counts[:, ~is_zero])
    index = _indexes(values[~is_zero])[bucket]
    scale = np.full(len(counts), MAX_SCALE, np.int8)
    return _gathered(scale, counts[:, is_zero].sum(axis=1), row, index, counts[:, ~is_zero][row, bucket])


def of_exponential(
    scale: NDArray[np.integer], *, zeros: Ints, offset: NDArray[np.integer], ends: Ints, counts: Ints
) -> Sketches:
    """Sketches of N exponential histograms as OTLP has them, their positive ranges.

    `counts[ends[i - 1] + k]` is that of bucket `offset[i] + k` of row i, at `scale[i]` from MIN_SCALE to
    MAX_SENT_SCALE. Raises ValueError on other scales and on negative counts.
    """
    if not ((scale >= MIN_SCALE) & (scale <= MAX_SENT_SCALE)).all():
        raise ValueError(f"A scale is not from {MIN_SCALE} to {MAX_SENT_SCALE}.")
    if not ((zeros >= 0).all() and (counts >= 0).all()):
        raise ValueError("A count is negative.")
    row = _rows(ends)
    position = np.arange(len(counts)) - (ends - np.diff(ends, prepend=0))[row]
    kept = np.minimum(scale, MAX_SCALE).astype(np.int8)
    index = (offset[row].astype(np.int64) + position) >> (scale - kept)[row]
    return _gathered(kept, zeros, row, _clipped(index, kept[row]), counts)


def merge(s: Sketches, group: Rows, groups: int) -> Sketches:
    """`groups` sketches, row i of `s` added into the one numbered `group[i]`; exact, in any order.

    The scale of a group is the least of its members.
    """
    scale = np.full(groups, MAX_SCALE, np.int8)
    np.minimum.at(scale, group, s.scale)
    zeros = np.zeros(groups, np.int64)
    np.add.at(zeros, group, s.zeros)
    row = _rows(s.ends)
    into = group[row]
    return _gathered(scale, zeros, into, s.index >> (s.scale[row] - scale[into]), s.counts)


def add(one: Sketches, other: Sketches) -> Sketches:
    """Row by row."""
    return merge(concat([one, other]), np.tile(np.arange(len(one)), 2), len(one))


def subtract(later: Sketches, earlier: Sketches) -> tuple[Sketches, Bools]:
    """Row by row what came to `earlier` to make it `later`, and in which rows a count fell instead.

    A total that fell was reset: there the row of `later` stands in full.
    """
    n = len(later)
    minus = Sketches(earlier.scale, -earlier.zeros, earlier.ends, earlier.index, -earlier.counts)
    difference = add(later, minus)
    fell = difference.zeros < 0
    fell[_rows(difference.ends)[difference.counts < 0]] = True
    if not fell.any():
        return difference, fell
    return take(concat([difference, later]), np.arange(n) + n * fell), fell


def rescale(s: Sketches, factor: float) -> Sketches:
    """The same observations in another unit, each `factor` (positive, finite) times as great.

    A bucket moves whole to where its geometric middle times the factor lies, so that its observations are
    told a bucket off at most: 4.4 % at MAX_SCALE.
    """
    moved = np.ceil(0.5 + np.ldexp(np.log2(factor), s.scale)).astype(np.int64) - 1
    row = _rows(s.ends)
    return _gathered(s.scale, s.zeros, row, _clipped(s.index + moved[row], s.scale[row]), s.counts)


def counts(s: Sketches) -> Ints:
    """How many observations each row has."""
    running = np.append(0, np.cumsum(s.counts))
    total: Ints = s.zeros + running[s.ends] - running[s.ends - _lengths(s)]
    return total


def quantiles(s: Sketches, q: Sequence[float]) -> Floats:
    """N × Q values, that of q being the one whose rank is ceil(q·n) of n; NaN without observations.

    It is told as the geometric middle of its bucket, within 2^(2^-(scale + 1)) - 1 of the true one: 2.2 %
    at MAX_SCALE.
    """
    total = counts(s)
    # q·n of doubles may lie a hair above the whole number that it is: 0.07 × 100.
    rank = np.ceil(np.outer(total, q) * (1 - 2.0**-50)).astype(np.int64)
    rank = np.clip(rank, np.minimum(total, 1)[:, None], total[:, None]) - s.zeros[:, None]
    found = np.zeros(rank.shape)
    running = np.cumsum(s.counts)
    before = np.append(0, running)[s.ends - _lengths(s)]
    row, column = np.nonzero(rank > 0)
    bucket = np.searchsorted(running, before[row] + rank[row, column])
    found[row, column] = np.exp2(np.ldexp(s.index[bucket] + 0.5, -s.scale[row]))
    found[total == 0] = np.nan
    return found


def above(s: Sketches, threshold: float) -> Floats:
    """The share of each row's observations that are greater than `threshold` (positive); NaN without any.

    A bucket that the threshold cuts is shared by logarithm; at a bound of buckets the share is exact.
    """
    row = _rows(s.ends)
    cut = np.ldexp(np.log2(threshold), s.scale)[row]
    greater = s.counts * np.clip(s.index + 1 - cut, 0, 1)
    with np.errstate(invalid="ignore"):
        shares: Floats = np.bincount(row, greater, len(s)) / counts(s)
    return shares


def encode(s: Sketches) -> bytes:
    """For `decode`: rows that are no sketch take no bytes. To be compressed by the caller."""
    lengths = _lengths(s)
    rows = np.flatnonzero((lengths > 0) | (s.zeros > 0))
    columns = (
        np.diff(rows, prepend=-1),
        s.scale[rows],
        s.zeros[rows],
        lengths[rows],
        np.diff(s.index, prepend=np.int32(0)),
        np.append(s.counts, 0),  # never all the same, so that each bucket takes a byte
    )
    return _HEADER.pack(_VERSION, len(rows)) + b"".join(packing.pack(column) for column in columns)


def decode(content: bytes, n: int) -> Sketches:
    """The n sketches that `encode` was given, exactly. Raises CorruptSketches."""
    if len(content) < _HEADER.size or content[0] != _VERSION:
        raise CorruptSketches("The sketches have no header that is known.")
    try:
        return _read(content, _HEADER.unpack_from(content)[1], n)
    except CorruptBytes as error:
        raise CorruptSketches(f"The sketches cannot be read: {error}") from error


def _read(content: bytes, size: int, n: int) -> Sketches:
    _require(np.array([size]), 0, n)
    steps, position = _whole(content, _HEADER.size, size)
    scale, position = _whole(content, position, size)
    zeros, position = _whole(content, position, size)
    lengths, position = _whole(content, position, size)
    _require(steps, 1, n)
    _require(lengths, 0, _SPAN)
    rows = np.cumsum(steps) - 1
    _require(rows, 0, n - 1)
    total = int(lengths.sum())
    _require(np.array([total]), 0, len(content))
    moves, position = _whole(content, position, total)
    found, position = _whole(content, position, total + 1)
    if found[-1] != 0 or position != len(content):
        raise CorruptBytes("There is more than sketches.")
    index, found = np.cumsum(moves), found[:-1]
    _require_sound(scale, zeros, lengths, index, found)
    spread = none(n)
    spread.scale[rows], spread.zeros[rows], spread.ends[rows] = scale, zeros, lengths
    return Sketches(spread.scale, spread.zeros, np.cumsum(spread.ends), index.astype(np.int32), found)


def _whole(content: bytes, start: int, n: int) -> tuple[Ints, int]:
    values, end = packing.unpack(content, start, n)
    if values.dtype.kind != "i":
        raise CorruptBytes("A column holds no whole numbers.")
    return values.astype(np.int64), end


def _require(values: Ints, low: int, high: int) -> None:
    if len(values) and (values.min() < low or values.max() > high):
        raise CorruptBytes(f"A number is not from {low} to {high}.")


def _require_sound(scale: Ints, zeros: Ints, lengths: Ints, index: Ints, found: Ints) -> None:
    """What `Sketches` says of itself, of rows that each are a sketch."""
    _require(scale, MIN_SCALE, MAX_SCALE)
    _require(zeros, 0, _MOST)
    _require(found, 1, _MOST)
    if zeros.sum(dtype=np.float64) + found.sum(dtype=np.float64) > _MOST:
        raise CorruptBytes("There are more observations than can be counted.")
    row = np.repeat(np.arange(len(lengths)), lengths)
    is_rising = (np.diff(index) > 0) | (np.diff(row) > 0)
    is_bare = lengths == 0
    if not (is_rising.all() and (zeros[is_bare] > 0).all() and (scale[is_bare] == MAX_SCALE).all()):
        raise CorruptBytes("Buckets are out of order, or a row is empty.")
    if not (index == _clipped(index, scale[row])).all():
        raise CorruptBytes("A bucket is beyond all numbers.")


def _lengths(s: Sketches) -> Ints:
    return np.diff(s.ends, prepend=0)


def _rows(ends: Ints) -> Ints:
    """The row of each bucket."""
    return np.repeat(np.arange(len(ends)), np.diff(ends, prepend=0))


def _indexes(values: Floats) -> Ints:
    """The bucket of each positive value at MAX_SCALE; powers of two, being bounds, fall exactly."""
    fraction, exponent = np.frexp(values)
    within = np.searchsorted(_BOUNDS, 2 * fraction) - 1
    return (exponent.astype(np.int64) - 1) * len(_BOUNDS) + within


def _representatives(upper: Floats) -> Floats:
    """The value for which each explicit bucket stands, 0 for what is not positive."""
    upper = np.maximum(upper, 0)
    lower = np.append(0, upper[:-1])
    inner = np.where(lower > 0, np.sqrt(lower) * np.sqrt(upper), upper / 2)
    return np.append(inner, upper[-1])


def _clipped(index: Ints, scale: NDArray[np.integer]) -> Ints:
    shift = MAX_SCALE - scale.astype(np.int64)
    return np.clip(index, _LOWEST >> shift, _HIGHEST >> shift)


def _gathered(scale: NDArray[np.int8], zeros: Ints, row: Rows, index: Rows, counts: Ints) -> Sketches:
    """Sketches of buckets in any order; counts of the same bucket are added up, and left out if 0."""
    key = row.astype(np.int64) * _SPAN + (index - _LOWEST)
    if not (key[1:] > key[:-1]).all():
        order = np.argsort(key, kind="stable")  # keys come in rising runs, which this makes use of
        key, counts = key[order], counts[order]
        starts = np.flatnonzero(np.diff(key, prepend=-1))
        key, counts = key[starts], np.add.reduceat(counts, starts)
    if not counts.all():
        key, counts = key[counts != 0], counts[counts != 0]
    lengths = np.bincount(key // _SPAN, minlength=len(scale))
    return Sketches(
        np.where(lengths > 0, scale, np.int8(MAX_SCALE)),
        zeros,
        np.cumsum(lengths),
        (key % _SPAN + _LOWEST).astype(np.int32),
        counts,
    )
