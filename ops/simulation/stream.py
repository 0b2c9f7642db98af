"""The simulated world as a stream of points, in the words of the metrics that are understood."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ops.simulation.model import Day, simulated_day
from ops.simulation.schedule import Incident
from ops.simulation.specification import Cell, Specification

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Point:
    """One point of a step. Of `payments.latency` `value` is the mean (ms) of `count`, else that is None."""

    account: str
    metric: str
    labels: Mapping[str, str]
    value: float
    count: int | None


class _Column(NamedTuple):
    """A series: (steps,) values, and counts of what has a mean. Zeros are left out unless `always`."""

    cell: Cell
    metric: str
    labels: dict[str, str]
    values: FloatArray
    counts: FloatArray | None = None
    always: bool = False


def simulate(
    spec: Specification,
    seed: int,
    *,
    start: datetime,
    days: float | None = None,
    step: int = 1,
    extra: Sequence[Incident] = (),
) -> Iterator[tuple[datetime, list[Point]]]:
    """The points of every `step` minutes from `start` (aware, on a step); without `days`, for ever.

    `step` divides 1440, else ValueError. What a step holds does not depend on where `start` is. `extra`
    incidents happen besides those of the schedule. Zeros are not sent, but for one point of each account
    in each step, so that its silence is known.
    """
    if 1440 % step or start.timestamp() % (step * 60):
        raise ValueError(f"a step of {step} minutes must divide the day, and {start} lie on one")
    at, end = start.astimezone(UTC), None if days is None else start + timedelta(days=days)
    while end is None or at < end:
        midnight = datetime(at.year, at.month, at.day, tzinfo=UTC)
        first = int((at - midnight) / timedelta(minutes=step))
        for moment, points in _day(spec, seed, midnight, step, first, extra):
            if end is not None and moment >= end:
                return
            yield moment, points
        at = midnight + timedelta(days=1)


def _day(
    spec: Specification, seed: int, midnight: datetime, step: int, first: int, extra: Sequence[Incident]
) -> Iterator[tuple[datetime, list[Point]]]:
    """The day's steps from the `first` on."""
    columns = _columns(spec, simulated_day(spec, seed, midnight.date(), extra=extra), step)
    sent = np.stack([(column.values != 0) | column.always for column in columns], axis=1)
    for index in range(first, len(sent)):
        points = [_point(columns[i], index) for i in np.flatnonzero(sent[index])]
        yield midnight + timedelta(minutes=index * step), points


def _point(column: _Column, index: int) -> Point:
    count = None if column.counts is None else int(column.counts[index])
    value = float(column.values[index])
    return Point(column.cell.account.id, column.metric, column.labels, value, count)


def _columns(spec: Specification, day: Day, step: int) -> list[_Column]:
    """Every series of every cell, account by account."""
    columns: list[_Column] = []
    attempts, latency, amount = (_sums(a, step) for a in (day.attempts, day.latency_ms, day.amount))
    mean_ms = np.divide(latency, attempts, out=np.zeros_like(latency), where=attempts > 0)
    ends = {end: _sums(counts, step) for end, counts in day.ends.items()}
    accounts: set[str] = set()
    for i, cell in enumerate(spec.cells):
        labels = cell.labels
        for (outcome, code), counts in ends.items():
            named = {"outcome": outcome, **labels, **({"code": code} if code else {})}
            first = cell.account.id not in accounts
            columns.append(_Column(cell, "payments.count", named, counts[:, i], None, first))
            accounts.add(cell.account.id)
        money = {"outcome": "approved", "currency": cell.account.currency, **labels}
        columns.append(_Column(cell, "payments.amount", money, amount[:, i]))
        columns.append(_Column(cell, "payments.latency", labels, mean_ms[:, i], attempts[:, i]))
    return columns


def _sums(values: FloatArray, step: int) -> FloatArray:
    result: FloatArray = values.reshape(1440 // step, step, -1).sum(axis=1)
    return result
