"""One data point of OTLP: its value, count and buckets. The plain reading, by which all faster ones go."""

from dataclasses import dataclass
from itertools import pairwise
from math import inf
from typing import NamedTuple

from domain.telemetry.otlp_attributes import Message, Refused
from domain.telemetry.otlp_streams import Stream
from domain.telemetry.wire_buckets import EXPLICIT, MAX_COUNTS, MAX_SCALE, MIN_SCALE

_NO_RECORDED_VALUE = 1
_NEGATIVE = "has observations below zero, whose distribution is not kept"


class Bucket(NamedTuple):
    """So many observations above `lower` and up to `upper`.

    With a `scale` that is not EXPLICIT `lower` is the index of an exponential bucket at that scale.
    """

    observations: int
    lower: float
    upper: float = 0.0
    scale: int = EXPLICIT


@dataclass(frozen=True, slots=True)
class Reading:
    """What a data point says: `value` is the sum of `count` observations, which is 0 for what is none.

    `time` and `start` are nanoseconds since 1970, 0 where they are not told; the unit is the sender's.
    """

    time: int
    start: int
    value: float
    count: int = 0
    buckets: tuple[Bucket, ...] = ()


def read(sent: Message, stream: Stream) -> Reading | None:
    """What a data point of a stream says, None if nothing was measured. Raises Refused."""
    if _is_empty(sent, stream.shape):
        return None
    if stream.refusal is not None:
        raise Refused(stream.refusal)
    time, start = sent.time_unix_nano or 0, sent.start_time_unix_nano or 0
    if stream.shape in ("gauge", "sum"):
        return Reading(time, start, _number(sent))
    if sent.WhichOneof("_sum") is None:
        raise Refused("is a histogram without its sum")
    buckets = _explicit(sent) if stream.shape == "histogram" else _exponential(sent)
    return Reading(time, start, float(sent.sum), int(sent.count), buckets)


def _is_empty(sent: Message, shape: str) -> bool:
    """Whether nothing was measured: there is nothing to keep, and nothing is wrong."""
    if (sent.flags or 0) & _NO_RECORDED_VALUE:
        return True
    return shape in ("histogram", "exponential_histogram") and not sent.count


def _number(sent: Message) -> float:
    field = sent.WhichOneof("value")
    if field is None:
        raise Refused("has no value")
    return float(getattr(sent, field))


def _explicit(sent: Message) -> tuple[Bucket, ...]:
    """The buckets with observations; none without bounds, for then nothing is known of the values."""
    counts, bounds = tuple(sent.bucket_counts or ()), tuple(sent.explicit_bounds or ())
    if not counts and not bounds:
        return ()
    _require_few(counts)
    if len(counts) != len(bounds) + 1:
        raise Refused(f"has {len(counts)} bucket counts for {len(bounds)} bounds")
    edges = tuple(pairwise((-inf, *bounds, inf)))
    if not all(lower < upper for lower, upper in edges):
        raise Refused("has bounds that are not finite or do not rise")
    buckets = tuple(Bucket(count, *edge) for count, edge in zip(counts, edges, strict=True) if count)
    if any(bucket.upper < 0 for bucket in buckets):
        raise Refused(_NEGATIVE)
    _require_sum(sent, sum(counts))
    return buckets if bounds else ()


def _exponential(sent: Message) -> tuple[Bucket, ...]:
    """The buckets with observations, positive ones and that of zero."""
    scale, zeros = sent.scale or 0, sent.zero_count or 0
    if not MIN_SCALE <= scale <= MAX_SCALE:
        raise Refused(f"has the scale {scale}: it must be from {MIN_SCALE} to {MAX_SCALE}")
    if sum(_counts(sent.negative)):
        raise Refused(_NEGATIVE)
    counts = _counts(sent.positive)
    _require_sum(sent, zeros + sum(counts))
    offset = (sent.positive.offset or 0) if counts else 0
    buckets = (Bucket(count, offset + place, scale=scale) for place, count in enumerate(counts) if count)
    return (*([Bucket(zeros, -inf)] if zeros else []), *buckets)


def _counts(half: Message) -> tuple[int, ...]:
    counts = () if half is None else tuple(half.bucket_counts or ())
    _require_few(counts)
    return counts


def _require_few(counts: tuple[int, ...]) -> None:
    if len(counts) > MAX_COUNTS:
        raise Refused(f"has more than {MAX_COUNTS} buckets")


def _require_sum(sent: Message, total: int) -> None:
    if total != sent.count:
        raise Refused("has bucket counts that do not add up to its count")
