"""Points as plain senders write them, a value or a mean of `count` observations, made into what adds up."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from domain.telemetry import sketches, slots
from domain.telemetry.decoded import Decoded
from domain.telemetry.points import Mode


@dataclass(frozen=True, slots=True, eq=False)
class Written:
    """N points in order; `at` is when the minute begins, `value` the mean where `count` is not 0."""

    slot: NDArray[np.int32]
    source: NDArray[np.int32]
    at: NDArray[np.int64]
    value: NDArray[np.float64]
    count: NDArray[np.int64]
    number: NDArray[np.int32]


def observed(written: Written, flags: NDArray[np.uint8]) -> Written:
    """A distribution's value without a count is one observation, as `points.observations` says."""
    single = ((flags & slots.DISTRIBUTION) != 0) & (written.count == 0)
    return replace(written, count=np.where(single, 1, written.count))


def total(written: Written) -> NDArray[np.float64]:
    """What adds up, as `Point.total`; infinite where it is beyond a double."""
    with np.errstate(over="ignore"):
        return written.value * np.maximum(written.count, 1)


def earlier(written: Written) -> NDArray[np.int64]:
    """For each row the first row of its slot, source and minute, which is itself where nothing repeats."""
    order = np.lexsort((written.source, written.at, written.slot))
    keys = [column[order] for column in (written.source, written.at, written.slot)]
    starts = np.ones(len(order), bool)
    starts[1:] = np.logical_or.reduce([key[1:] != key[:-1] for key in keys])
    first = np.empty(len(order), np.int64)
    first[order] = order[starts][np.cumsum(starts) - 1]
    return first


def is_repetitive(written: Written) -> bool:
    """Whether two rows are of one slot, source and minute."""
    low = int(written.at.min())
    span = int(written.at.max()) - low + 1
    width = int(written.source.max()) + 1
    if span * width * (int(written.slot.max()) + 1) > np.iinfo(np.int64).max:
        return bool((earlier(written) != np.arange(len(written.slot))).any())
    keys = np.sort((written.slot.astype(np.int64) * width + written.source) * span + (written.at - low))
    return bool((keys[1:] == keys[:-1]).any())


def decoded(written: Written, flags: NDArray[np.uint8], *, sources: tuple[str, ...]) -> Decoded:
    """The rows of points that were found fit. Of one observation its sketch is known, of a mean none."""
    known = np.flatnonzero(((flags & slots.DISTRIBUTION) != 0) & (written.count == 1))
    nothing = np.zeros(len(written.slot), np.int64)
    return Decoded(
        slot=written.slot,
        source=written.source,
        sources=sources,
        at=written.at,
        value=total(written),
        count=written.count,
        mode=np.full(len(nothing), Mode.REPLACE, np.uint8),
        start=nothing,
        time=nothing,
        number=written.number,
        sketches=sketches.of_values(written.value[known], rows=known, n=len(nothing)),
    )
