"""What lines come to in intervals: the one way in which series are aggregated, whoever asks for them."""

from collections.abc import AsyncIterator, Sequence
from itertools import repeat
from uuid import UUID

import numpy as np
from numpy.typing import NDArray
from sqlalchemy.ext.asyncio import AsyncSession

from domain.telemetry import reading, sketches
from domain.telemetry.aggregations import (
    OF_MINUTES,
    QUANTILES,
    Aggregation,
    Floats,
    chosen,
    of_minutes,
    quantile,
    ratio,
)
from domain.telemetry.fetching import Member
from domain.telemetry.lines import Line, Numbers
from domain.telemetry.points import MAX_WHOLE, Kind
from domain.telemetry.reading import Grid
from domain.telemetry.windows import Intervals


async def values(
    session: AsyncSession, lines: Sequence[Line], intervals: Intervals, aggregation: Aggregation | None
) -> tuple[Floats, NDArray[np.int64]]:
    """Values (S × T; NaN is no data) and the sizes of the samples behind them.

    Without an aggregation each line has that of its kind. Raises InvalidInput where one cannot have it.
    """
    wanted = [chosen(line.kind, aggregation) for line in lines]
    if intervals.is_empty:
        found, sizes = np.full((2, len(lines), len(intervals)), np.nan)
    elif aggregation in OF_MINUTES:
        found, sizes = await _of_minutes(session, lines, intervals, aggregation)
    else:
        found, sizes = await _aggregated(session, lines, intervals, wanted)
    return found, np.clip(np.nan_to_num(sizes), 0, MAX_WHOLE).astype(np.int64)


async def sums(
    session: AsyncSession, lines: Sequence[Line], intervals: Intervals
) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    """Sums of the parts and of the good ones (S × T), and in which intervals any line has data (T)."""
    members = Members(lines)
    total, good = np.zeros((2, len(lines), len(intervals)))
    has_data = np.zeros(len(intervals), bool)
    async for where, grid in grids(session, members, intervals):
        has_data[where] = np.any(grid.count > 0, axis=0)
        for row, line in enumerate(lines):
            total[row, where] = _sum(grid.value, members.rows(line, line.parts))
            of_good = line.parts if line.good is None else line.good
            good[row, where] = _sum(grid.value, members.rows(line, of_good))
    return total, good, has_data


class Members:
    """The measured series of all lines, each of them once: as a grid has them."""

    def __init__(self, lines: Sequence[Line]) -> None:
        numbers: dict[UUID, list[Numbers]] = {}
        for line in lines:
            numbers.setdefault(line.account_id, []).append(line.numbers)
        self._numbers = {account: np.unique(np.concatenate(many)) for account, many in numbers.items()}
        starts = np.cumsum([0, *map(len, self._numbers.values())]).tolist()
        self._start = dict(zip(self._numbers, starts, strict=False))

    @property
    def keys(self) -> list[Member]:
        return [pair for one, many in self._numbers.items() for pair in zip(repeat(one), many.tolist())]

    def rows(self, line: Line, numbers: Numbers) -> NDArray[np.int64]:
        """The rows of the grid that hold these series of the line's account."""
        place = np.searchsorted(self._numbers[line.account_id], numbers)
        found: NDArray[np.int64] = place + self._start[line.account_id]
        return found


async def grids(
    session: AsyncSession, members: Members, intervals: Intervals, *, with_sketches: bool = False
) -> AsyncIterator[tuple[slice, Grid]]:
    """The grid of all members, some intervals at a time: what is held at once is bounded."""
    keys = members.keys
    if not keys:
        return
    most = reading.SKETCHES if with_sketches else reading.CELLS
    for where, part in intervals.split(most // len(keys)):
        yield (
            where,
            await reading.read(
                session,
                keys,
                part.edges,
                step=part.step,
                midnights=part.midnights,
                with_sketches=with_sketches,
            ),
        )


async def _aggregated(
    session: AsyncSession, lines: Sequence[Line], intervals: Intervals, wanted: Sequence[Aggregation]
) -> tuple[Floats, Floats]:
    members = Members(lines)
    found = np.full((len(lines), len(intervals)), np.nan)
    sizes = np.zeros(found.shape)
    with_sketches = any(one in QUANTILES for one in wanted)
    async for where, grid in grids(session, members, intervals, with_sketches=with_sketches):
        part = _Part(members, grid)
        for row, line in enumerate(lines):
            found[row, where], sizes[row, where] = part.of_line(line, wanted[row])
    return found, sizes


class _Part:
    """Some of the intervals, with the sums of all members in them."""

    def __init__(self, members: Members, grid: Grid) -> None:
        self._members, self._grid = members, grid
        self._known: dict[int, NDArray[np.bool_]] = {}

    def of_line(self, line: Line, aggregation: Aggregation) -> tuple[Floats, Floats]:
        """Values, NaN without data, and the sizes of their samples."""
        rows = self._members.rows(line, line.parts)
        if aggregation in QUANTILES:
            return self._quantile(rows, aggregation)
        value, count = _sum(self._grid.value, rows), _sum(self._grid.count, rows)
        if aggregation is Aggregation.RATE:
            good = line.parts if line.good is None else line.good
            return ratio(_sum(self._grid.value, self._members.rows(line, good)), value), value
        if aggregation is Aggregation.MEAN:
            return ratio(value, count), count
        has_data = count > 0 if line.witnesses is None else self._has_any(line, line.witnesses)
        return np.where(has_data, value, np.nan), value if line.kind is Kind.COUNT else count

    def _has_any(self, line: Line, numbers: Numbers) -> NDArray[np.bool_]:
        """Looked up once for all lines that share their witnesses."""
        if id(numbers) not in self._known:
            rows = self._members.rows(line, numbers)
            self._known[id(numbers)] = np.any(self._grid.count[rows] > 0, axis=0)
        return self._known[id(numbers)]

    def _quantile(self, rows: NDArray[np.int64], aggregation: Aggregation) -> tuple[Floats, Floats]:
        assert self._grid.sketches is not None, "asked for with the grid"
        columns = np.arange(self._grid.value.shape[1])
        cells = (rows[:, None] * len(columns) + columns).reshape(-1)
        of_rows = sketches.take(self._grid.sketches, cells)
        merged = sketches.merge(of_rows, np.tile(columns, len(rows)), len(columns))
        return quantile(merged, aggregation)


def _sum(sums: Floats, rows: NDArray[np.int64]) -> Floats:
    found: Floats = sums[rows].sum(axis=0)
    return found


async def _of_minutes(
    session: AsyncSession, lines: Sequence[Line], intervals: Intervals, aggregation: Aggregation
) -> tuple[Floats, Floats]:
    minutes = intervals.in_minutes()
    means, seen = await _aggregated(session, lines, minutes, [Aggregation.MEAN] * len(lines))
    starts = (intervals.edges[:-1] - intervals.edges[0]) // 60
    found = np.array([of_minutes(one, starts, aggregation) for one in means])
    return found, np.add.reduceat(seen, starts, axis=1)
