"""Lines: measured series of one account that are read as one, such as those that make up a rate."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from uuid import UUID

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from domain.telemetry.derived import DERIVED, contains
from domain.telemetry.models import Series
from domain.telemetry.points import Kind

Numbers = NDArray[np.int64]
"""Numbers of measured series of one account, rising."""


@dataclass(frozen=True, eq=False)
class Line:
    """The sum of the `parts`; of rates `good` are the good ones among them.

    Where any of `witnesses` has data, parts without any counted nothing; else nothing is known of them.
    """

    account_id: UUID
    kind: Kind
    parts: Numbers
    good: Numbers | None = None
    witnesses: Numbers | None = None

    @property
    def numbers(self) -> Numbers:
        """Of all series that must be read for it; they may repeat."""
        return self.parts if self.witnesses is None else np.concatenate([self.parts, self.witnesses])

    def part(self, parts: Numbers) -> "Line":
        """The line of some of the parts."""
        good = None if self.good is None else np.intersect1d(parts, self.good, assume_unique=True)
        return replace(self, parts=parts, good=good)


@dataclass(frozen=True, eq=False)
class Siblings:
    """The measured series of one metric of an account: `labels[i]` are those of `numbers[i]`."""

    account_id: UUID
    numbers: Numbers
    kinds: Sequence[Kind]
    labels: Sequence[Mapping[str, str]]

    def containing(self, series: Series, outcomes: frozenset[str] | None = None) -> list[int]:
        """The places of those that are part of `series` and have one of the outcomes (None: any)."""
        fixed = series.labels
        label = next(iter(fixed.items()), None)
        places: Iterable[int] = self._by_label.get(label, ()) if label else range(len(self.labels))
        return [
            place
            for place in places
            if contains(self.labels[place], fixed)
            and (outcomes is None or self.labels[place].get("outcome") in outcomes)
        ]

    def by_value(self, parts: Numbers, label: str) -> dict[str | None, Numbers]:
        """Those of the parts that have each value of the label, and that have no such label."""
        found: dict[str | None, list[int]] = {}
        for place in np.searchsorted(self.numbers, parts).tolist():
            found.setdefault(self.labels[place].get(label), []).append(place)
        return {value: self.numbers[places] for value, places in found.items()}

    @cached_property
    def _by_label(self) -> Mapping[tuple[str, str], Sequence[int]]:
        """The places that have a label: looking through all of them for every slice takes their product."""
        found: dict[tuple[str, str], list[int]] = {}
        for place, labels in enumerate(self.labels):
            for label in labels.items():
                found.setdefault(label, []).append(place)
        return found


Key = tuple[UUID, str]
"""An account and a metric."""


def key(series: Series) -> Key:
    """Of the measured series that it is made of."""
    return series.account_id, series.metric if series.is_measured else DERIVED[series.metric].source


async def of(session: AsyncSession, series: Sequence[Series]) -> list[Line]:
    """The line that each of `series` is, in one statement at most."""
    found = await measured(session, [key(one) for one in series if not one.is_measured])
    return [_of_measured(one) if one.is_measured else _of_derived(one, found[key(one)]) for one in series]


async def measured(session: AsyncSession, keys: Iterable[Key]) -> dict[Key, Siblings]:
    """The measured series of these accounts and metrics, in one statement."""
    wanted = set(keys)
    if not wanted:
        return {}
    rows = await session.execute(
        select(Series.account_id, Series.metric, Series.number, Series.kind, Series.labels)
        .where(
            Series.account_id.in_({account_id for account_id, _ in wanted}),
            Series.metric.in_({metric for _, metric in wanted}),
            Series.is_measured,
        )
        .order_by(Series.account_id, Series.number)
    )
    found: dict[Key, list[tuple[int, Kind, Mapping[str, str]]]] = {one: [] for one in wanted}
    for account_id, metric, number, kind, labels in rows:
        if number is not None and (account_id, metric) in found:
            found[account_id, metric].append((number, kind, labels))
    return {one: _siblings(one[0], many) for one, many in found.items()}


def _siblings(account_id: UUID, rows: Sequence[tuple[int, Kind, Mapping[str, str]]]) -> Siblings:
    numbers = np.array([number for number, _, _ in rows], np.int64)
    return Siblings(account_id, numbers, [kind for _, kind, _ in rows], [labels for _, _, labels in rows])


def whole(series: Series, siblings: Siblings) -> Line:
    """All that is part of a series: of a measured one those of its kind whose labels contain its own."""
    if not series.is_measured:
        return _of_derived(series, siblings)
    places = [place for place in siblings.containing(series) if siblings.kinds[place] is series.kind]
    return Line(series.account_id, series.kind, siblings.numbers[places])


def _of_measured(series: Series) -> Line:
    return Line(series.account_id, series.kind, np.array([series.number], np.int64))


def _of_derived(series: Series, source: Siblings) -> Line:
    metric = DERIVED[series.metric]
    return Line(
        series.account_id,
        series.kind,
        source.numbers[source.containing(series, metric.total)],
        good=source.numbers[source.containing(series, metric.good)] if metric.good else None,
        witnesses=source.numbers,
    )
