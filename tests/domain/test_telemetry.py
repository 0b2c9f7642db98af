"""Points are taken once, folded once, and read back as series, rates and hours."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select, text

from domain.core.db import Database
from domain.telemetry import blocks, merging, queries, rollups, sketches
from domain.telemetry.fold import fold
from domain.telemetry.merging import Rows
from domain.telemetry.models import Series, ShardDay
from domain.telemetry.points import Mode, Point
from domain.telemetry.windows import Resolution, Window
from tests import make, sending

NINE = datetime(2026, 11, 23, 9, tzinfo=UTC)
NOW = NINE + timedelta(hours=3)
SCOPE = "operator"


def point(account: str, minute: int, value: float, *, mode: Mode = Mode.REPLACE, **labels: str) -> Point:
    at = int(NINE.timestamp()) + 60 * minute
    return Point(
        account=account,
        metric="payments.count",
        at=at,
        value=value,
        labels=tuple(sorted(labels.items())),
        mode=mode,
    )


async def send(db: Database, points: Sequence[Point], *, source: str = "key:a") -> None:
    await sending.send(db, *points, subject=source, at=NOW)


async def series(db: Database, account_id: UUID, metric: str, labels: Mapping[str, str]) -> Series:
    async with db.read(SCOPE) as session:
        rows = await session.scalars(
            select(Series).where(Series.account_id == account_id, Series.metric == metric)
        )
        [found] = [row for row in rows if row.labels == labels]
        return found


def window(minutes: int, resolution: Resolution = Resolution.MINUTE) -> Window:
    return Window(NINE, NINE + timedelta(minutes=minutes), resolution)


async def read(db: Database, one: Series, over: Window) -> list[float]:
    async with db.read(SCOPE) as session:
        [data] = await queries.read(session, [one], over)
    return [None if np.isnan(v) else v for v in data.values.tolist()]  # type: ignore[misc]


async def test_a_point_sent_again_by_its_source_replaces_and_another_source_adds(
    db: Database, worker_db: Database
) -> None:
    account = await make.account(db)
    await send(db, [point(account.external_id, 0, 5, outcome="approved")])
    await send(db, [point(account.external_id, 0, 7, outcome="approved")])
    await send(db, [point(account.external_id, 0, 2, outcome="approved")], source="key:b")
    assert await fold(worker_db, NOW) == 3
    one = await series(db, account.id, "payments.count", {"outcome": "approved"})
    assert await read(db, one, window(2)) == [9, None]


async def test_increments_of_one_source_add_up_over_requests(db: Database, worker_db: Database) -> None:
    account = await make.account(db)
    for value in (3, 4):
        await send(db, [point(account.external_id, 0, value, mode=Mode.ADD, outcome="approved")])
        await fold(worker_db, NOW)
    one = await series(db, account.id, "payments.count", {"outcome": "approved"})
    assert await read(db, one, window(1)) == [7]


async def test_racing_folds_fold_each_batch_once(db: Database, worker_db: Database) -> None:
    account = await make.account(db)
    for minute in range(20):
        await send(db, [point(account.external_id, minute, 1, mode=Mode.ADD, outcome="approved")])
    folded = await asyncio.gather(*(fold(worker_db, NOW) for _ in range(5)))
    assert sum(folded) == 20
    one = await series(db, account.id, "payments.count", {"outcome": "approved"})
    assert await read(db, one, window(20)) == [1] * 20


async def test_rates_are_made_of_counts_for_the_total_and_each_label(
    db: Database, worker_db: Database
) -> None:
    account = await make.account(db)
    name = account.external_id
    await send(
        db,
        [
            point(name, 0, 90, outcome="approved", partner="acme"),
            point(name, 0, 10, outcome="declined", partner="acme"),
            point(name, 0, 20, outcome="approved", partner="other"),
            point(name, 0, 60, outcome="reversed", partner="other"),
            point(name, 0, 5, outcome="refunded", partner="other"),
        ],
    )
    await fold(worker_db, NOW)
    total = await series(db, account.id, "completion_rate", {})
    other = await series(db, account.id, "completion_rate", {"partner": "other"})
    authorized = await series(db, account.id, "authorization_rate", {"partner": "other"})
    attempted = await series(db, account.id, "payments.attempted", {})
    assert await read(db, total, window(1)) == [110 / 180]
    assert await read(db, other, window(1)) == [20 / 80]
    assert await read(db, authorized, window(1)) == [1.0]
    assert await read(db, attempted, window(1)) == [180]


async def test_hours_are_the_same_before_and_after_the_roll_up_and_after_late_points(
    db: Database, worker_db: Database
) -> None:
    account = await make.account(db)
    name = account.external_id
    await send(db, [point(name, minute, 2, outcome="approved") for minute in range(90)])
    await fold(worker_db, NOW)
    one = await series(db, account.id, "payments.count", {"outcome": "approved"})
    hours = window(120, Resolution.HOUR)
    assert await read(db, one, hours) == [120, 60]
    await roll_up(worker_db)
    assert await read(db, one, hours) == [120, 60]
    await send(db, [point(name, 3, 12, outcome="approved")])
    await fold(worker_db, NOW)
    assert await read(db, one, hours) == [130, 60]
    await roll_up(worker_db)
    assert await read(db, one, hours) == [130, 60]


async def test_the_app_can_neither_read_nor_empty_the_log_nor_touch_a_partition(
    db: Database, worker_db: Database
) -> None:
    account = await make.account(db)
    await send(db, [point(account.external_id, 0, 1, outcome="approved")])
    await fold(worker_db, NOW)
    for statement in ("SELECT FROM ingest_log", "DELETE FROM ingest_log", "SELECT FROM minutes_20261123"):
        with pytest.raises(Exception, match="permission denied"):
            async with db.transaction(SCOPE) as session:
                await session.execute(text(statement))


async def test_closed_minutes_that_nobody_judged_are_found(db: Database, worker_db: Database) -> None:
    account = await make.account(db)
    await send(db, [point(account.external_id, minute, 1, outcome="approved") for minute in range(10)])
    await fold(worker_db, NOW)
    async with worker_db.read() as session:
        assert await queries.judgeable(session, NOW) == {account.id: NINE + timedelta(minutes=8)}
        late = NOW + timedelta(seconds=80)
        assert await queries.judgeable(session, late) == {account.id: NINE + timedelta(minutes=10)}


async def roll_up(worker_db: Database) -> None:
    while await rollups.roll_up(worker_db, NOW):
        pass


sent = st.lists(
    st.tuples(
        st.integers(0, 2), st.integers(0, 3), st.integers(0, 9), st.sampled_from([Mode.REPLACE, Mode.ADD])
    ),
    min_size=1,
)


@given(st.lists(sent, min_size=1, max_size=5))
def test_merging_batches_is_applying_their_points_one_by_one(
    batches: list[list[tuple[int, int, int, Mode]]],
) -> None:
    expected: dict[tuple[int, int], float] = {}
    cells = blocks.none()
    for batch in batches:
        for number, block, value, mode in batch:
            before = expected.get((block, number), 0)
            expected[block, number] = value if mode is Mode.REPLACE else before + value
        cells = merging.merge(merging.concat(merging.replacing(cells), _rows(batch)))
        blobs = blocks.encode(cells)
        used = np.unique(cells.block)
        read = blocks.decode(blobs, [0] * len(blobs))
        cells = read.placed(used[read.block])
    found = zip(cells.block.tolist(), cells.number.tolist(), cells.value.tolist(), strict=True)
    assert {(block, number): value for block, number, value in found} == expected


def _rows(batch: list[tuple[int, int, int, Mode]]) -> Rows:
    number, block, value, mode = (np.array(column) for column in zip(*batch, strict=True))
    nothing = np.zeros(len(batch), np.int64)
    return Rows(
        block.astype(np.int64),
        number.astype(np.int32),
        value.astype(float),
        nothing,
        mode == Mode.REPLACE,
        sketches.none(len(batch)),
    )


async def test_days_of_many_accounts_are_told_apart(db: Database, worker_db: Database) -> None:
    accounts = [await make.account(db) for _ in range(80)]
    await send(db, [point(account.external_id, 0, 1, outcome="approved") for account in accounts])
    assert await fold(worker_db, NOW) == 80
    async with worker_db.read() as session:
        days = await session.execute(select(ShardDay.account_id, ShardDay.shard, ShardDay.day))
        assert {tuple(row) for row in days} == {(account.id, 0, NINE.date()) for account in accounts}
