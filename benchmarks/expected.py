"""What the detectors expect of each local day, learnt from the whole hours before its local midnight alone.

It is what `domain.anomalies.expecting` computes where no forecast was fitted: the season of 56 days.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from benchmarks.watched import METRICS, Count, Node
from domain.anomalies import calendar
from domain.anomalies.calendar import LocalDays
from domain.anomalies.expectation import expected_rate, expected_volume
from domain.anomalies.expecting import HISTORY_DAYS, midnight
from domain.telemetry.derived import ATTEMPTED, Derived
from ops.simulation.specification import Merchant

FloatArray = NDArray[np.float64]

_HOUR, _DAY, _MINUTE = timedelta(hours=1), timedelta(days=1), timedelta(minutes=1)


@dataclass(frozen=True)
class Expected:
    """Of each minute of a day: by metric (1440, nodes); `spread` is what holidays add to volume's deviation.

    `spread` is (1440, nodes) of a UTC day, (nodes,) of an account's local day.
    """

    of: dict[str, FloatArray]
    spread: FloatArray


class Season:
    """Learns hours, and expects the days after them. Days are UTC, and taught in their order."""

    def __init__(self, nodes: Sequence[Node]) -> None:
        self._nodes = nodes
        self._columns: dict[Merchant, list[int]] = {}
        for column, node in enumerate(nodes):
            self._columns.setdefault(node.account, []).append(column)
        self._hours: list[datetime] = []
        self._counts: dict[str, list[Count]] = {metric.name: [] for metric in METRICS}
        self._days: dict[tuple[Merchant, date], Expected] = {}

    def learn(self, start: datetime, counts: Mapping[str, Count]) -> None:
        """Take in the minutes of the UTC day that begins at `start`."""
        self._hours += [start + index * _HOUR for index in range(24)]
        for name, history in self._counts.items():
            history.append(counts[name].hourly())

    def expect(self, start: datetime) -> Expected:
        """What to expect of that UTC day, in which some accounts begin a local day of their own.

        It must have been learnt already: of its hours only those that lie before that are used.
        """
        shape = (1440, len(self._nodes))
        expected = Expected({metric.name: np.empty(shape) for metric in METRICS}, np.empty(shape))
        known, self._days = self._days, {}
        for account, columns in self._columns.items():
            for day, rows, of_day in _local_days(start, ZoneInfo(account.time_zone)):
                found = known.get((account, day)) or self._local_day(account, day)
                self._days[account, day] = found
                for name, values in expected.of.items():
                    values[rows, columns] = found.of[name][of_day]
                expected.spread[rows, columns] = found.spread
        return expected

    def _local_day(self, account: Merchant, day: date) -> Expected:
        zone, columns = ZoneInfo(account.time_zone), self._columns[account]
        past = sum(hour + _HOUR <= midnight(day, zone) for hour in self._hours)
        of, spread = {}, np.zeros(len(columns))
        for metric in METRICS:
            total, good = (
                calendar.fold(self._hours[:past], values, zone=zone, before=day, days=HISTORY_DAYS)
                for values in self._history(metric.name, columns, past)
            )
            of[metric.name] = _minutes(metric, total, good, account, day)
            if metric is ATTEMPTED:
                spread = _spread([self._nodes[column] for column in columns], day, total)
        return Expected(of, spread)

    def _history(self, name: str, columns: Sequence[int], past: int) -> Iterator[FloatArray]:
        """Total, then good: (the first `past` hours, columns)."""
        for values in zip(*self._counts[name], strict=True):
            yield np.concatenate([of_day[:, columns] for of_day in values])[:past]


def _minutes(metric: Derived, total: LocalDays, good: LocalDays, account: Merchant, day: date) -> FloatArray:
    if metric.good:
        return expected_rate(total.values, good.values, shift=total.shift).minutes
    return expected_volume(
        total.values,
        days=total.days,
        day=day,
        holidays={one for one in total.days if calendar.is_holiday(account.country, one)},
        shift=total.shift,
    ).minutes


def _spread(nodes: Sequence[Node], day: date, attempts: LocalDays) -> FloatArray:
    """(nodes,): by the countries that the account's attempts came from."""
    sums = np.nansum(attempts.values, axis=(0, 1)).tolist()
    total = sum(count for node, count in zip(nodes, sums, strict=True) if not node.labels)
    by_country = {n.labels["country"]: c for n, c in zip(nodes, sums, strict=True) if "country" in n.labels}
    shares = {country: count / total for country, count in by_country.items() if total > 0}
    home = nodes[0].account.country
    return np.array([calendar.node_spread(node.labels, day, home=home, shares=shares) for node in nodes])


def _local_days(start: datetime, zone: ZoneInfo) -> Iterator[tuple[date, slice, NDArray[np.int64]]]:
    """The local days in a UTC day: which, its minutes of the UTC day, and of the local day each."""
    epoch = int(start.timestamp()) // 60
    row, day = 0, start.astimezone(zone).date()
    while row < 1440:
        end = min(1440, int((midnight(day + _DAY, zone) - start) / _MINUTE))
        yield day, slice(row, end), calendar.minutes_of_day(np.arange(epoch + row, epoch + end), zone)
        row, day = end, day + _DAY
