"""Reads any CSV through a mapping of its columns, and gives the points of each minute in time order.

The whole file is read before anything is sent, so that a bad line is found while nothing has changed.
"""

import csv
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from domain.telemetry import points
from domain.telemetry.points import Kind, Point
from ops.replaying import files, parcels
from ops.replaying.files import Unusable
from ops.replaying.outcomes import Outcomes
from ops.replaying.parcels import Written
from ops.replaying.times import Times

Series = tuple[str, tuple[tuple[str, str], ...]]
_SUMMED = (Kind.COUNT, Kind.AMOUNT)


@dataclass(frozen=True, kw_only=True)
class Mapped:
    """Which column is what. `labels` are columns by label, `constant` labels have one value throughout.

    The account is one for all lines, or in a column.
    """

    time: str
    value: str
    metric: str
    labels: Mapping[str, str] = field(default_factory=dict)
    constant: Mapping[str, str] = field(default_factory=dict)
    outcomes: Mapping[str, str] = field(default_factory=dict)
    account: str = ""
    account_column: str = ""

    @property
    def columns(self) -> list[str]:
        named = [self.time, self.value, *self.labels.values()]
        return [*named, self.account_column] if self.account_column else named


class Table:
    """The rows of a file: seconds, index of the series, value and line, one each a row."""

    def __init__(self, mapped: Mapped) -> None:
        self.mapped, self.kind = mapped, points.metric(mapped.metric).kind
        self.series: dict[Series, int] = {}
        self.seconds, self.of, self.values, self.lines = array("q"), array("q"), array("d"), array("q")
        self.blank = 0
        self._outcomes = Outcomes(mapped.outcomes, allowed=points.metric(mapped.metric).outcomes)
        self._known: dict[tuple[str, ...], int] = {}

    @classmethod
    def read(cls, path: Path, mapped: Mapped, times: Times) -> "Table":
        """Raises Unusable, naming the line and its value."""
        table = cls(mapped)
        with files.opened(path) as file:
            reader = csv.reader(file)
            names = [name.strip() for name in next(reader, [])]
            if missing := [name for name in mapped.columns if name not in names]:
                raise Unusable(f"has no column {missing[0]!r}; it has {', '.join(names)}", line=1)
            places = [names.index(name) for name in mapped.columns]
            try:
                for row in reader:
                    if row:
                        table._add(row, places, times, line=reader.line_num)
            except (csv.Error, UnicodeDecodeError) as error:
                raise Unusable(f"is not CSV in UTF-8: {error}", line=reader.line_num + 1) from error
        if not table.values:
            raise Unusable("has no line with a value")
        return table

    def _add(self, row: list[str], places: list[int], times: Times, *, line: int) -> None:
        if len(row) <= max(places):
            raise Unusable(f"has {len(row)} values, fewer than the header names", line=line)
        time, value, *names = (row[place].strip() for place in places)
        if not value:
            self.blank += 1
            return
        column = self.mapped.time
        try:
            second = times.second(time)
            column = self.mapped.value
            number = self._number(value)
        except ValueError as error:
            raise Unusable(f"{column}: {error}", line=line) from None
        self.seconds.append(second - second % 60)
        self.of.append(self._series(tuple(names), number, line=line))
        self.values.append(number)
        self.lines.append(line)

    def _number(self, text: str) -> float:
        try:
            number = float(text)
        except ValueError:
            raise ValueError(f"{text[:40]!r} is not a number") from None
        if self.kind in _SUMMED and not number.is_integer():
            raise ValueError(f"{text[:40]} is not whole, as {self.mapped.metric} must be")
        return number

    def _series(self, names: tuple[str, ...], number: float, *, line: int) -> int:
        """The index of the series that a line with these names belongs to."""
        if names not in self._known:
            found = self._named(names, line=line)
            self._check(found, number, line=line)
            self._known[names] = self.series.setdefault(found, len(self.series))
        return self._known[names]

    def _named(self, names: tuple[str, ...], *, line: int) -> Series:
        by_label = dict(zip(self.mapped.labels, names, strict=False))
        labels = {**self.mapped.constant, **{name: text for name, text in by_label.items() if text}}
        if "outcome" in labels:
            try:
                labels = {**self._outcomes.labels(labels["outcome"]), **_without_outcome(labels)}
            except ValueError as error:
                column = self.mapped.labels.get("outcome", "outcome")
                raise Unusable(f"{column}: {error}", line=line) from None
        account = names[-1] if self.mapped.account_column else self.mapped.account
        return account, points.labels(labels)

    def _check(self, series: Series, number: float, *, line: int) -> None:
        """Ask before anything is sent what the ingest would say of the series' first point."""
        account, labels = series
        point = Point(account=account, metric=self.mapped.metric, at=0, value=number, labels=labels)
        for named, message in points.flaws(point, oldest=0, newest=0):
            raise Unusable(f"{named} {message}", line=line)

    def last(self, *, before: datetime | None) -> datetime:
        """The last minute, of those before `before`; raises Unusable where there is none."""
        seconds = np.asarray(self.seconds)
        if before is not None:
            seconds = seconds[seconds < before.timestamp()]
        if not len(seconds):
            raise Unusable("has no line in this range")
        return _moment(int(seconds.max()))

    def points(
        self, *, source: str, shift: timedelta, from_: datetime | None, until: datetime | None
    ) -> Iterator[Written]:
        """One point a minute and series that begins in [from_, until) of the file's time, then shifted.

        Of several lines counts and amounts are summed, distributions averaged, of levels the last counts.
        """
        at, of, values, lines = self._chosen(from_, until)
        names = list(self.series)
        begins = np.flatnonzero(np.r_[True, (at[1:] != at[:-1]) | (of[1:] != of[:-1])]).tolist()
        for begin, end in zip(begins, [*begins[1:], len(at)], strict=True):
            account, labels = names[of[begin]]
            value, count = self._merged(values[begin:end])
            moment = _moment(int(at[begin])) + shift
            text = parcels.point(
                account=account,
                metric=self.mapped.metric,
                at=moment,
                value=value,
                labels=dict(labels),
                source=source,
                count=count,
            )
            yield Written(moment, text, int(lines[begin]))

    def _chosen(self, from_: datetime | None, until: datetime | None) -> tuple[np.ndarray, ...]:
        """Minutes, series, values and lines of the range, in the order of minute, series and line."""
        arrays = tuple(np.asarray(one) for one in (self.seconds, self.of, self.values, self.lines))
        at = arrays[0]
        kept = np.ones(len(at), bool)
        if from_ is not None:
            kept &= at >= from_.timestamp()
        if until is not None:
            kept &= at < until.timestamp()
        if not kept.any():
            raise Unusable("has no line in this range")
        order = np.lexsort((arrays[3], arrays[1], at))
        order = order[kept[order]]
        return tuple(one[order] for one in arrays)

    def _merged(self, values: np.ndarray) -> tuple[float, int | None]:
        if self.kind in _SUMMED:
            return float(values.sum()), None
        if self.kind is Kind.DISTRIBUTION:
            return float(values.mean()), len(values)
        return float(values[-1]), None


def _without_outcome(labels: Mapping[str, str]) -> dict[str, str]:
    return {name: text for name, text in labels.items() if name != "outcome"}


def _moment(second: int) -> datetime:
    return datetime.fromtimestamp(second, UTC)
