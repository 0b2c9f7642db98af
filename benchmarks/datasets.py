"""What is stored: named sets of whole days that are over, as NDJSON, each line with its end."""

import csv
import gzip
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple

import numpy as np

from domain.catalog.entries import AccountEntry, Catalogue
from ops import simulate
from ops.replaying import parcels
from ops.replaying.parcels import Written
from ops.replaying.simulated import State, World

LEAVES = Path("rca") / "aiops2019_leaves_2018-09-03_04.csv.gz"
SPARSE_ACCOUNTS, SPARSE_SERIES, SPARSE_POINTS = 20, 1_000, 5
_DAYS = 2
_DAY, _MINUTE = timedelta(days=1), timedelta(minutes=1)


class DataSet(NamedTuple):
    """`day` is one of its days (UTC), from its midnight on."""

    name: str
    accounts: Catalogue
    day: datetime
    bodies: Callable[[], Iterable[bytes]]


def simulated() -> DataSet:
    """What `vitals simulate` sends of two days: payments of 20 accounts by the minute."""
    until = _today() - _DAY
    world = World(State(profile="default", seed=1, began_at=until, days=float(_DAYS)))

    def bodies() -> Iterator[bytes]:
        return (parcel.body for parcel in world.history())

    return DataSet("simulated", simulate.catalogue(world.spec), until - _DAY, bodies)


def aiops(data: Path) -> DataSet:
    """Page views of a shop in its 10,908 leaves (five attributes), every five minutes of two days.

    Their days are moved to days that are just over. What a leaf has twice at one time is summed.
    """
    first = _today() - (_DAYS + 1) * _DAY

    def bodies() -> Iterator[bytes]:
        return _packed(_leaves(data / LEAVES, first))

    return DataSet("aiops", _accounts("shop"), first, bodies)


def five_points_a_day() -> DataSet:
    """20,000 series of 20 accounts, each with five small whole numbers at any minutes of a day."""
    day, names = _today() - 2 * _DAY, [f"sparse-{number:02}" for number in range(SPARSE_ACCOUNTS)]
    return DataSet("five_points_a_day", _accounts(*names), day, lambda: _packed(_sparse(names, day)))


def _leaves(file: Path, first: datetime) -> Iterator[Written]:
    with gzip.open(file, "rt") as opened:
        rows = csv.reader(opened)
        names = next(rows)[1:-1]
        sums: Counter[tuple[int, tuple[str, ...]]] = Counter()
        for at, *leaf, value in rows:
            sums[int(at), tuple(leaf)] += int(value)
    begin = min(second for second, _ in sums)
    for (second, values), total in sorted(sums.items(), key=itemgetter(0)):
        moved = first + timedelta(seconds=second - begin)
        yield _point("shop", "page.views", moved, total, dict(zip(names, values, strict=True)))


def _sparse(accounts: Iterable[str], day: datetime) -> Iterator[Written]:
    rng = np.random.default_rng(1)
    found = [
        (minute, account, series, value)
        for account in accounts
        for series in range(SPARSE_SERIES)
        for minute, value in zip(
            rng.choice(24 * 60, SPARSE_POINTS, replace=False).tolist(),
            rng.integers(1, 20, SPARSE_POINTS).tolist(),
            strict=True,
        )
    ]
    for minute, account, series, value in sorted(found):
        yield _point(account, "orders", day + minute * _MINUTE, value, {"article": f"article-{series:04}"})


def _point(account: str, metric: str, at: datetime, value: int, labels: Mapping[str, str]) -> Written:
    text = parcels.point(
        account=account, metric=metric, at=at, value=float(value), labels=labels, source="benchmark"
    )
    return Written(at, text)


def _packed(points: Iterable[Written]) -> Iterator[bytes]:
    return (parcel.body for parcel in parcels.packed(points, span=None))


def _accounts(*names: str) -> Catalogue:
    entries = (
        AccountEntry(external_id=name, name=name, country="DE", currency="EUR", time_zone="UTC")
        for name in names
    )
    return Catalogue(accounts=list(entries))


def _today() -> datetime:
    return datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
