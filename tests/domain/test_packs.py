"""Days that are over are packed, and unpacked when something comes late; no minute is lost or doubled."""

import asyncio
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import func, select, text

from domain.core.db import Database
from domain.telemetry import chunks, packs, sketches
from domain.telemetry.chunks import Points
from domain.telemetry.fold import fold
from domain.telemetry.models import Chunk, Minute, Series
from domain.telemetry.packing import CorruptBytes
from domain.telemetry.points import Point
from domain.telemetry.queries import read
from domain.telemetry.rollups import roll_up
from domain.telemetry.windows import Resolution, Window
from tests import make, sending
from tests.waiting import lock_is_waited_for

DAY = datetime(2026, 11, 23, tzinfo=UTC)
NEXT = DAY + timedelta(days=1, hours=6)


def point(
    account: str, minute: int, value: float, *, source: str = "a", metric: str = "payments.count"
) -> Point:
    return Point(
        account=account,
        metric=metric,
        at=int(DAY.timestamp()) + 60 * minute,
        value=value,
        count=1 if metric == "payments.latency" else None,
        labels=(("outcome", "approved"),),
        source=source,
    )


async def settle(worker_db: Database) -> None:
    """Fold and roll up all there is, as it would be by NEXT."""
    while await fold(worker_db, NEXT):
        pass
    while await roll_up(worker_db, NEXT):
        pass


async def count(worker_db: Database, model: type[Chunk] | type[Minute]) -> int:
    async with worker_db.read() as session:
        return await session.scalar(select(func.count()).select_from(model)) or 0


async def values(worker_db: Database) -> dict[int, float]:
    """What the only series came to in each minute of the day that has data."""
    async with worker_db.read() as session:
        series = (await session.scalars(select(Series).where(Series.is_measured))).one()
        window = Window(DAY, DAY + timedelta(days=1), Resolution.MINUTE)
        [data] = await read(session, [series], window)
    return {minute: value for minute, value in enumerate(data.values.tolist()) if not np.isnan(value)}


async def test_a_packed_day_reads_as_before_and_its_partition_is_empty(
    db: Database, worker_db: Database
) -> None:
    account = await make.account(db, time_zone="UTC")
    sent = [
        point(account.external_id, minute, minute % 7, source=source)
        for minute in range(0, 1440, 3)
        for source in "ab"
    ]
    await sending.send(db, *sent, at=NEXT)
    await settle(worker_db)
    before = await values(worker_db)

    assert await packs.pack(worker_db, NEXT) == 1

    assert before == {minute: 2 * (minute % 7) for minute in range(0, 1440, 3)}
    assert await values(worker_db) == before
    assert (await count(worker_db, Chunk), await count(worker_db, Minute)) == (1, 0)
    async with worker_db.read() as session:
        assert await session.scalar(text("SELECT pg_relation_size('minutes_20261123')")) == 0
    assert await packs.pack(worker_db, NEXT) == 0


async def test_a_late_point_unpacks_its_day_which_is_packed_again(db: Database, worker_db: Database) -> None:
    account = await make.account(db, time_zone="UTC")
    name = account.external_id
    await sending.send(db, *(point(name, minute, 1) for minute in range(10)), at=NEXT)
    await settle(worker_db)
    await packs.pack(worker_db, NEXT)

    late = point(name, 3, 5), point(name, 4, 7, source="b"), point(name, 20, 2)
    await sending.send(db, *late, at=NEXT)
    await settle(worker_db)
    expected = dict.fromkeys(range(10), 1.0) | {3: 5.0, 4: 8.0, 20: 2.0}
    assert await values(worker_db) == expected
    assert await count(worker_db, Chunk) == 0

    assert await packs.pack(worker_db, NEXT) == 1
    assert await values(worker_db) == expected


async def test_a_day_that_changes_while_it_is_packed_is_left_as_it_is(
    db: Database, worker_db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    account = await make.account(db, time_zone="UTC")
    await sending.send(db, point(account.external_id, 0, 1), at=NEXT)
    await settle(worker_db)
    async with worker_db.transaction() as session:
        await session.execute(text("UPDATE shard_days SET changes = changes + 1"))
        packing = asyncio.create_task(packs.pack(worker_db, NEXT))
        await lock_is_waited_for(worker_db)
    assert await packing == 0
    assert (await count(worker_db, Chunk), await count(worker_db, Minute)) == (0, 1)


async def test_days_that_go_on_or_wait_to_be_rolled_up_are_not_packed(
    db: Database, worker_db: Database
) -> None:
    account = await make.account(db, time_zone="UTC")
    await sending.send(db, point(account.external_id, 0, 1), at=NEXT)
    await fold(worker_db, NEXT)
    assert await packs.pack(worker_db, NEXT) == 0
    await settle(worker_db)
    assert await packs.pack(worker_db, DAY + timedelta(hours=23)) == 0
    assert await packs.pack(worker_db, NEXT) == 1


doubles = st.floats(allow_nan=False, allow_infinity=False)
whole = st.integers(-(2**53) + 1, 2**53 - 1).map(float)
points = st.lists(
    st.tuples(
        st.integers(1, 4),  # chunk
        st.integers(1, 3),  # source
        st.integers(0, 1439),
        st.one_of(
            st.integers(-(2**53) + 1, 2**53 - 1).map(float), st.floats(allow_nan=False, allow_infinity=False)
        ),
        st.integers(0, 2**40),
        st.one_of(st.none(), st.floats(0, 1e9)),
    ),
    max_size=60,
    unique_by=lambda row: row[:3],
)


@settings(deadline=None)
@given(points)
def test_what_is_packed_is_unpacked_to_the_bit(
    rows: list[tuple[int, int, int, float, int, float | None]],
) -> None:
    rows = sorted(rows, key=lambda row: row[:3])
    observed = [(place, row[5]) for place, row in enumerate(rows) if row[5] is not None]
    chunk, source, minute, value, size = (np.array([row[i] for row in rows]) for i in range(5))
    found = Points(
        np.unique(chunk, return_inverse=True)[1].astype(np.int64) if rows else np.zeros(0, np.int64),
        source.astype(np.int32),
        minute.astype(np.int64),
        value.astype(np.float64),
        size.astype(np.int64),
        sketches.of_values(
            np.array([one for _, one in observed], float),
            rows=np.array([place for place, _ in observed], np.int64),
            n=len(rows),
        ),
    )
    again = chunks.decode(chunks.encode(found))
    for name in ("chunk", "source", "minute", "value", "count"):
        assert getattr(again, name).tobytes() == getattr(found, name).tobytes()
    assert sketches.encode(again.sketches) == sketches.encode(found.sketches)


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_what_is_no_chunk_is_refused(blob: bytes) -> None:
    try:
        chunks.decode([blob])
    except CorruptBytes:
        return


async def test_late_points_of_many_days_unpack_one_a_turn_and_hold_nobody_back(
    db: Database, worker_db: Database
) -> None:
    account = await make.account(db, time_zone="UTC")
    name = account.external_id
    days = [point(name, 1440 * day, 1) for day in range(3)]
    later = NEXT + timedelta(days=3)
    await sending.send(db, *days, at=later)
    for work in (fold, roll_up, packs.pack):
        while await work(worker_db, later):
            pass
    assert await count(worker_db, Chunk) == 3

    corrections = [point(name, 1440 * day, 5 + day) for day in range(3)]
    await sending.send(db, *corrections, point(name, 1440 * 3, 9), at=later)
    assert [await fold(worker_db, later) for _ in range(4)] == [2, 1, 1, 0]
    assert await count(worker_db, Chunk) == 0
    assert (await values(worker_db))[0] == 5


async def test_points_of_more_blocks_than_are_written_at_once_are_folded_in_turns(
    db: Database, worker_db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("domain.telemetry.fold._BLOCKS", 4)
    account = await make.account(db, time_zone="UTC")
    for start in (0, 5):
        sent = (point(account.external_id, at, at + 1) for at in range(start, start + 5))
        await sending.send(db, *sent, at=NEXT)
    assert [await fold(worker_db, NEXT) for _ in range(4)] == [4, 4, 2, 0]
    assert await values(worker_db) == {at: at + 1 for at in range(10)}
