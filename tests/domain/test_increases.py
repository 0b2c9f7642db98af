"""Readings of running totals become increases, whichever batches they come in, and survive a restart."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, select

from domain.core.db import Database
from domain.telemetry import sketches
from domain.telemetry.columns import Columns
from domain.telemetry.fold import fold
from domain.telemetry.models import LastReadings, Minute, Series
from domain.telemetry.points import Mode
from domain.telemetry.queries import read
from domain.telemetry.windows import Resolution, Window
from tests import make, sending

NINE = datetime(2026, 11, 23, 9, tzinfo=UTC)
NOW = NINE + timedelta(hours=1)
_NS = 10**9


def readings(series: Series, source: int, *taken: tuple[int, float], start: int = 0) -> Columns:
    """Readings (second after NINE, running total) of a total that began at second `start`."""
    second = np.array([one for one, _ in taken])
    at = int(NINE.timestamp()) + second
    n = len(taken)
    same = np.zeros(n, np.int32)
    return Columns(
        accounts=(series.account_id,),
        sources=(source,),
        account=same,
        source=same,
        number=same + (series.number or 0),
        at=at // 60 * 60,
        value=np.array([total for _, total in taken], float),
        count=same.astype(np.int64),
        mode=np.full(n, Mode.CUMULATIVE, np.uint8),
        start=np.full(n, (int(NINE.timestamp()) + start) * _NS),
        time=at * _NS,
        sketches=sketches.none(n),
    )


async def values(worker_db: Database, series: Series, minutes: int) -> list[float | None]:
    async with worker_db.read() as session:
        window = Window(NINE, NINE + timedelta(minutes=minutes), Resolution.MINUTE)
        [data] = await read(session, [series], window)
    return [None if np.isnan(value) else value for value in data.values.tolist()]


@pytest.fixture
async def series(worker_db: Database) -> Series:
    return await make.series(worker_db, await make.account(worker_db), outcome="approved")


async def test_a_total_counts_from_its_last_reading_of_the_minute_before(
    db: Database, worker_db: Database, series: Series
) -> None:
    source = (await make.source(worker_db)).number
    for taken in ((10, 4.0), (50, 6.0)), ((70, 9.0),), ((130, 9.0), (190, 20.0)):
        await sending.log(db, readings(series, source, *taken), at=NOW)
        await fold(worker_db, NOW)
    assert await values(worker_db, series, 5) == [6, 3, 0, 11, None]


async def test_a_sender_that_started_anew_counts_from_zero_and_another_source_adds(
    db: Database, worker_db: Database, series: Series
) -> None:
    one, other = (await make.source(worker_db)).number, (await make.source(worker_db)).number
    await sending.log(db, readings(series, one, (10, 100.0)), at=NOW)
    await sending.log(db, readings(series, one, (90, 7.0), start=65), at=NOW)
    await sending.log(db, readings(series, other, (95, 5.0), start=61), at=NOW)
    await fold(worker_db, NOW)
    assert await values(worker_db, series, 2) == [100, 12]


async def test_a_total_that_ran_long_before_it_was_first_seen_counts_only_what_comes_then(
    db: Database, worker_db: Database, series: Series
) -> None:
    source = (await make.source(worker_db)).number
    taken = readings(series, source, (10, 1e6), (70, 1e6 + 3), start=-86_400)
    await sending.log(db, taken, at=NOW)
    await fold(worker_db, NOW)
    assert await values(worker_db, series, 2) == [None, 3]


rises = st.lists(st.integers(0, 50), min_size=2, max_size=12)


@settings(deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rises, st.randoms(use_true_random=False), st.integers(1, 4))
async def test_the_increases_are_the_same_in_any_order_of_arrival(
    db: Database, worker_db: Database, rises: list[int], random: object, batches: int
) -> None:
    account = await make.account(worker_db)
    series, source = await make.series(worker_db, account, outcome="approved"), await make.source(worker_db)
    totals = np.cumsum(rises).tolist()
    taken = [(15 * index, float(total)) for index, total in enumerate(totals)]
    random.shuffle(taken)  # type: ignore[attr-defined]
    for part in (taken[first::batches] for first in range(batches)):
        if part:
            await sending.log(db, readings(series, source.number, *part), at=NOW)
            await fold(worker_db, NOW)
    expected = [float(sum(rises[first : first + 4])) for first in range(0, len(rises), 4)]
    assert await values(worker_db, series, len(expected)) == expected
    async with worker_db.transaction() as session:
        assert len((await session.scalars(select(LastReadings))).all()) >= 1
        await session.execute(delete(Minute).where(Minute.account_id == account.id))
