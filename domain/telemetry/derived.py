"""Metrics that are made of others: rates of two counts, and totals over outcomes. Never ingested."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

WATCHED_LABELS = ("partner", "method", "issuer", "country")
"""Besides its total, each value of each of these labels is a series that is watched."""


@dataclass(frozen=True)
class Derived:
    """`total` outcomes of `source` summed; with `good`, the part of them that is good."""

    name: str
    source: str
    total: frozenset[str]
    good: frozenset[str] | None = None


ATTEMPTED = Derived(
    name="payments.attempted",
    source="payments.count",
    total=frozenset({"approved", "declined", "failed", "blocked", "reversed"}),
)
AUTHORIZATION_RATE = Derived(
    name="authorization_rate",
    source="payments.count",
    total=frozenset({"approved", "declined", "failed"}),
    good=frozenset({"approved"}),
)
COMPLETION_RATE = Derived(
    name="completion_rate",
    source="payments.count",
    total=frozenset({"approved", "declined", "failed", "reversed"}),
    good=frozenset({"approved"}),
)
DERIVED: Mapping[str, Derived] = {
    metric.name: metric for metric in (ATTEMPTED, AUTHORIZATION_RATE, COMPLETION_RATE)
}


def watched(labels: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """The label sets of the watched series that a measured series with these `labels` is part of."""
    yield {}
    for key in WATCHED_LABELS:
        if key in labels:
            yield {key: labels[key]}


def contains(labels: Mapping[str, str], fixed: Mapping[str, str]) -> bool:
    """Whether a measured series with `labels` is part of the one that fixes `fixed`."""
    return all(labels.get(key) == value for key, value in fixed.items())
