"""What is sent to us, once decoded: points, the metrics understood, and what makes a point unfit.

A point belongs to one series, one source and one minute. Rates are derived, never sent.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from enum import IntEnum, StrEnum
from itertools import islice

import msgspec

from domain.core.errors import DomainError

MAX_POINTS = 10_000
MAX_LABELS = 16
MAX_TEXT = 200  # characters of an account, a source or the value of a label
MAX_WHOLE = 2**53 - 1  # beyond it a double skips whole numbers
MAX_VALUE = 1e200  # so that no sum over minutes reaches infinity
MAX_COUNT = 10**9  # so that no sum over minutes leaves 64 bits
MAX_READING = 2**40 - 1  # observations of a running total, since its process began
MAX_AHEAD_S = 300
MAX_PROBLEMS = 20

_METRIC = re.compile(r"[A-Za-z][A-Za-z0-9_./-]{0,199}")
_LABEL = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}")
_CURRENCY = re.compile(r"[A-Z]{3}")
_TEXT = re.compile(rf"[^\x00-\x1f\x7f]{{0,{MAX_TEXT}}}")
_RATE = re.compile(
    r"(?:^|[._/-])(?:acceptance|approval|authorization|chargeback|completion|conversion|decline"
    r"|dispute|error|failure|fraud|success)[._-]rate$",
    re.IGNORECASE,
)

Labels = tuple[tuple[str, str], ...]
Flaw = tuple[str, str]


class Kind(StrEnum):
    """What the values of a metric are, and so how they are aggregated."""

    COUNT = "COUNT"
    RATE = "RATE"
    AMOUNT = "AMOUNT"
    DISTRIBUTION = "DISTRIBUTION"
    GAUGE = "GAUGE"


class Metric(msgspec.Struct, frozen=True):
    """A measured quantity. `unit` is UCUM, or `minor` for money; `outcomes` is a closed set."""

    name: str
    kind: Kind
    unit: str
    outcomes: tuple[str, ...] = ()


PAYMENT_OUTCOMES = (
    "approved",
    "declined",
    "failed",
    "blocked",
    "reversed",
    "refunded",
    "disputed",
    "processing",
)
CHECK_OUTCOMES = ("up", "down", "degraded")

METRICS: Mapping[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("payments.count", Kind.COUNT, "{payment}", PAYMENT_OUTCOMES),
        Metric("payments.amount", Kind.AMOUNT, "minor", PAYMENT_OUTCOMES),
        Metric("payments.latency", Kind.DISTRIBUTION, "ms"),
        Metric("api.requests", Kind.COUNT, "{request}"),
        Metric("api.latency", Kind.DISTRIBUTION, "ms"),
        Metric("webhooks.count", Kind.COUNT, "{webhook}"),
        Metric("webhooks.latency", Kind.DISTRIBUTION, "ms"),
        Metric("fraud.count", Kind.COUNT, "{payment}"),
        Metric("fraud.amount", Kind.AMOUNT, "minor"),
        Metric("checks.count", Kind.COUNT, "{check}", CHECK_OUTCOMES),
        Metric("checks.latency", Kind.DISTRIBUTION, "ms"),
        Metric("payments.attempted", Kind.COUNT, "{payment}"),
        Metric("authorization_rate", Kind.RATE, "1"),
        Metric("completion_rate", Kind.RATE, "1"),
    )
}


def metric(name: str) -> Metric:
    """The metric of that name; one that is not understood is a level without a unit."""
    return METRICS.get(name) or Metric(name, Kind.GAUGE, "")


class Mode(IntEnum):
    """What a point does to an earlier one of the same series, source and minute."""

    REPLACE = 0
    ADD = 1
    CUMULATIVE = 2  # a reading of a running total, from which increases are derived


class Point(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One value of one minute.

    `account` is the external id; `at` the epoch second at which the minute begins. `count` is the
    number of observations whose mean is `value`, None where values are not observed one by one.
    `number` is the line or data point it came from, from 1; `parts` how many data points it holds.
    """

    account: str
    metric: str
    at: int
    value: float
    count: int | None = None
    labels: Labels = ()
    source: str = ""
    mode: Mode = Mode.REPLACE
    number: int = 1
    parts: int = 1

    @property
    def key(self) -> tuple[str, str, Labels, str, int]:
        """What makes it the same point: account, metric, labels, source, minute."""
        return self.account, self.metric, self.labels, self.source, self.at

    @property
    def total(self) -> float:
        """What adds up over minutes and sources: the sum of the observations, or the value."""
        return self.value if self.count is None else self.value * self.count


class Problem(msgspec.Struct, frozen=True):
    """Why a line or data point (`number`, from 1) is refused; the message continues the field."""

    number: int
    field: str
    message: str
    parts: int = 1


class PointsRejected(DomainError):
    """Lines that cannot be used, the first 20 of `total`; none of the request was taken."""

    code = "POINTS_REJECTED"

    def __init__(self, problems: Sequence[Problem]) -> None:
        first = problems[0]
        where = " ".join(filter(None, (f"line {first.number}:", first.field, first.message)))
        more = f" ({len(problems) - 1} more)" if len(problems) > 1 else ""
        super().__init__(f"Nothing was taken: {where}{more}.")
        self.problems = tuple(problems[:MAX_PROBLEMS])
        self.total = len(problems)


class MalformedRequest(DomainError):
    """The body as a whole cannot be read."""

    code = "MALFORMED_REQUEST"


def minute(seconds: int) -> int:
    """The epoch second at which the minute of `seconds` begins."""
    return seconds - seconds % 60


def labels(pairs: Mapping[str, str]) -> Labels:
    """In canonical order; an empty value says the same as no label."""
    return tuple(sorted([pair for pair in pairs.items() if pair[1]]))


def nested(pairs: Mapping[str, object]) -> list[str]:
    """The names of the first labels, as many as there may be, whose values are no texts."""
    return list(islice((key for key, value in pairs.items() if type(value) is not str), MAX_LABELS))


def observations(metric_name: str, count: int | None) -> int | None:
    """`count`, or 1 for a distribution sent without: a value is at least one observation."""
    if count is None and metric(metric_name).kind is Kind.DISTRIBUTION:
        return 1
    return count


def flaws(point: Point, *, oldest: int, newest: int) -> Iterator[Flaw]:
    """What makes a point unfit, as (field, what is wrong with it); epoch seconds."""
    yield from source_flaws(point.source)
    yield from identity_flaws(point.account, point.metric, point.labels)
    yield from value_flaws(point)
    yield from time_flaws(point.at, oldest=oldest, newest=newest)


def source_flaws(source: str) -> Iterator[Flaw]:
    if not _TEXT.fullmatch(source):
        yield "source", _wrong_text(source)


def account_flaws(account: str) -> Iterator[Flaw]:
    if not account:
        yield "account", "must not be empty"
    if not _TEXT.fullmatch(account):
        yield "account", _wrong_text(account)


def identity_flaws(account: str, metric_name: str, pairs: Labels) -> Iterator[Flaw]:
    """What makes a series unfit, whatever is said of it."""
    understood = metric(metric_name)
    yield from account_flaws(account)
    yield from _metric_flaws(understood)
    yield from _label_flaws(pairs, understood)


def time_flaws(at: int, *, oldest: int, newest: int) -> Iterator[Flaw]:
    """What is wrong with a minute that begins at epoch second `at`."""
    if at > newest:
        yield "at", f"is more than {MAX_AHEAD_S // 60} minutes in the future"
    if at < oldest:
        yield "at", "is older than points may be"


def _wrong_text(text: str) -> str:
    if len(text) > MAX_TEXT:
        return f"must have at most {MAX_TEXT} characters"
    return "must not hold control characters"


def _metric_flaws(understood: Metric) -> Iterator[Flaw]:
    if not _METRIC.fullmatch(understood.name):
        yield (
            "metric",
            "must be a letter and then at most 199 letters, digits or any of _ . / -",
        )
    elif understood.kind is Kind.RATE or _RATE.search(understood.name):
        yield "metric", "is a rate: rates are derived from counts; send payments.count"


def value_flaws(point: Point) -> Iterator[Flaw]:
    """What is wrong with a point's value and count."""
    understood = metric(point.metric)
    kind, value = understood.kind, point.value
    most = MAX_READING if point.mode is Mode.CUMULATIVE else MAX_COUNT
    if point.count is not None and not 1 <= point.count <= most:
        yield "count", f"must be from 1 to {most}; leave out a minute without observations"
    elif not math.isfinite(value):
        yield "value", "must be a finite number"
    elif abs(point.total) > MAX_VALUE:
        yield "value", f"must not exceed {MAX_VALUE:g}"
    elif kind in (Kind.COUNT, Kind.AMOUNT):
        yield from _whole_flaws(point, understood)
    if value < 0 and kind in (Kind.COUNT, Kind.DISTRIBUTION):
        yield "value", f"must not be negative: {understood.name} never is"


def _whole_flaws(point: Point, understood: Metric) -> Iterator[Flaw]:
    what = "a count" if understood.kind is Kind.COUNT else "an amount in minor units"
    if not point.value.is_integer() or abs(point.value) > MAX_WHOLE:
        yield "value", f"must be a whole number below 2^53: {understood.name} is {what}"
    if point.count is not None:
        yield "count", f"belongs to distributions: {understood.name} is {what}"


def _label_flaws(pairs: Labels, understood: Metric) -> Iterator[Flaw]:
    if len(pairs) > MAX_LABELS:
        yield "labels", f"must be at most {MAX_LABELS}"
        return
    for key, value in pairs:
        field = f"labels.{key[:64]}"
        if not _LABEL.fullmatch(key):
            yield (
                field,
                "must be named by a letter or _ and then at most 63 letters, digits or any of _ . -",
            )
        if not _TEXT.fullmatch(value):
            yield field, _wrong_text(value)
        if key == "outcome" and understood.outcomes and value not in understood.outcomes:
            yield field, f"must be one of {', '.join(understood.outcomes)}"
        if key == "currency" and understood.kind is Kind.AMOUNT and not _CURRENCY.fullmatch(value):
            yield field, "must be an ISO 4217 code such as EUR"
