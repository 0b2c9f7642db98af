"""Points as a sender knows them, and what they come to by plain arithmetic, one at a time."""

import math
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

import numpy as np
from sqlalchemy import text

from domain.catalog.models import Account
from domain.core.db import Database
from domain.telemetry import columns, sketches
from domain.telemetry.aggregations import QUANTILES, Aggregation
from domain.telemetry.columns import Columns
from domain.telemetry.points import Kind
from domain.telemetry.sketches import Sketches

_SEND = text(
    "INSERT INTO ingest_log (received_at, backfill, points, columns) VALUES (:at, true, :points, :columns)"
)
Key = tuple[int, int, int]
"""The number of a series, its source, and the epoch second at which the minute begins."""
Figure = tuple[float, int]
"""A value, NaN without data, and the size of its sample."""


class Said(NamedTuple):
    """What one source said of a series in one minute; `seen` are the observations, where they are known."""

    total: float
    count: int
    seen: tuple[float, ...] = ()


Minutes = dict[int, dict[int, list[Said]]]
"""By series and minute, what its sources said."""


@dataclass(frozen=True)
class Plain:
    """What is read as one, by the numbers of measured series."""

    kind: Kind
    parts: Sequence[int]
    good: Sequence[int] = ()
    witnesses: Sequence[int] = ()


@dataclass
class Raw:
    """All points of an account's series."""

    account: Account
    said: dict[Key, Said] = field(default_factory=dict)

    async def send(self, db: Database, points: Mapping[Key, Said], *, at: datetime) -> None:
        """Into the log, from where a fold takes them."""
        self.said |= points
        batch = columns.encode(_columns(self.account.id, points))
        async with db.transaction("log") as session:
            await session.execute(_SEND, {"at": at, "points": len(points), "columns": batch})

    def expected(self, line: Plain, aggregation: Aggregation, edges: Sequence[int]) -> list[Figure]:
        """Of each interval between the edges."""
        found: list[Minutes] = [{} for _ in edges[1:]]
        for (number, _, at), said in self.said.items():
            if edges[0] <= at < edges[-1]:
                minutes = found[bisect_right(edges, at) - 1].setdefault(number, {})
                minutes.setdefault(at, []).append(said)
        return [_figure(line, one, aggregation) for one in found]


def _figure(line: Plain, found: Minutes, aggregation: Aggregation) -> Figure:
    minutes = sorted((at, said) for number in line.parts for at, said in found.get(number, {}).items())
    total = _total(line.parts, found)
    count = sum(_seen(said) for _, said in minutes)
    if aggregation in QUANTILES:
        return _quantile([v for _, said in minutes for one in said for v in one.seen], aggregation)
    if aggregation is Aggregation.RATE:
        return (_total(line.good, found) / total if total else math.nan), int(total)
    if aggregation is Aggregation.MEAN:
        return (total / count if count else math.nan), count
    if aggregation is Aggregation.SUM:
        is_known = bool(minutes) or any(number in found for number in line.witnesses)
        return (total if is_known else math.nan), int(total) if line.kind is Kind.COUNT else count
    levels = [sum(one.total for one in said) / _seen(said) for _, said in minutes]
    of_level: dict[Aggregation, Callable[[list[float]], float]] = {
        Aggregation.MIN: min,
        Aggregation.MAX: max,
        Aggregation.LAST: lambda found: found[-1],
    }
    return (of_level[aggregation](levels) if levels else math.nan), count


def _total(numbers: Iterable[int], found: Minutes) -> float:
    return sum(one.total for number in numbers for said in found.get(number, {}).values() for one in said)


def _seen(said: Sequence[Said]) -> int:
    """Observations of a minute; what is not observed one by one was seen once."""
    return sum(one.count for one in said) or 1


def _quantile(seen: Sequence[float], aggregation: Aggregation) -> Figure:
    union = sketches.of_values(np.array(seen, float), rows=np.zeros(len(seen), np.int64), n=1)
    return float(sketches.quantiles(union, [QUANTILES[aggregation]])[0, 0]), len(seen)


def _columns(account_id: UUID, points: Mapping[Key, Said]) -> Columns:
    keys, said = list(points), list(points.values())
    sources = sorted({source for _, source, _ in keys})
    nothing = np.zeros(len(keys), np.int64)
    return Columns(
        accounts=(account_id,),
        sources=tuple(sources),
        account=nothing.astype(np.int32),
        source=np.array([sources.index(source) for _, source, _ in keys], np.int32),
        number=np.array([number for number, _, _ in keys], np.int32),
        at=np.array([at for _, _, at in keys], np.int64),
        value=np.array([one.total for one in said], float),
        count=np.array([one.count for one in said], np.int64),
        mode=nothing.astype(np.uint8),
        start=nothing,
        time=nothing,
        sketches=_sketches(said),
    )


def _sketches(said: Sequence[Said]) -> Sketches:
    rows = np.repeat(np.arange(len(said)), [len(one.seen) for one in said])
    values = np.array([value for one in said for value in one.seen], float)
    return sketches.of_values(values, rows=rows, n=len(said))
