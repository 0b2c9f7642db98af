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
from domain.core.errors import IdempotencyKeyReused
from domain.core.ids import uuid7
from domain.telemetry import columns, ingest, queries, service
from domain.telemetry.columns import Columns, Key
from domain.telemetry.fold import fold, merge
from domain.telemetry.ingest import Request
from domain.telemetry.models import Series
from domain.telemetry.points import Mode, Point
from domain.telemetry.queries import Resolution, Window
from domain.telemetry.series import Registry
from tests import make

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


def request(body: bytes, *, key: str | None = None, subject: str = "key:a") -> Request:
    return Request(
        scope=SCOPE, subject=subject, body=body, idempotency_key=key, is_backfill=False, received_at=NOW
    )


async def send(db: Database, points: Sequence[Point], *, source: str = "key:a", body: bytes = b"") -> None:
    keys = await Registry(db).keys(points, scope=SCOPE, subject=source, at=NOW)
    found = [key for key in keys if key is not None]
    assert len(found) == len(points)
    body = body or repr(points).encode() + source.encode()
    await ingest.append(db, request(body), points, found, reply={"accepted": len(points)})


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


async def test_the_same_request_fifty_times_in_parallel_has_one_effect_and_one_reply(
    db: Database, worker_db: Database
) -> None:
    account = await make.account(db)
    points = [point(account.external_id, 0, 5, mode=Mode.ADD, outcome="approved")]
    keys = [key for key in await Registry(db).keys(points, scope=SCOPE, subject="k", at=NOW) if key]

    async def once(number: int) -> object:
        return await ingest.append(db, request(b"same"), points, keys, reply={"number": number})

    replies = await asyncio.gather(*(once(number) for number in range(50)))
    assert len({str(reply) for reply in replies}) == 1
    assert await fold(worker_db, NOW) == 1


async def test_two_keys_that_send_the_same_body_are_two_senders(db: Database, worker_db: Database) -> None:
    account = await make.account(db)
    points = [point(account.external_id, 0, 5, mode=Mode.ADD, outcome="approved")]
    for subject in ("key:a", "key:b"):
        keys = [key for key in await Registry(db).keys(points, scope=SCOPE, subject=subject, at=NOW) if key]
        await ingest.append(db, request(b"same", subject=subject), points, keys, reply={})
    assert await fold(worker_db, NOW) == 2


async def test_an_idempotency_key_with_another_body_is_refused_and_writes_nothing(
    db: Database, worker_db: Database
) -> None:
    account = await make.account(db)
    points = [point(account.external_id, 0, 5, outcome="approved")]
    keys = [key for key in await Registry(db).keys(points, scope=SCOPE, subject="k", at=NOW) if key]
    await ingest.append(db, request(b"one", key="k"), points, keys, reply={})
    with pytest.raises(IdempotencyKeyReused):
        await ingest.append(db, request(b"two", key="k"), points, keys, reply={})
    assert await fold(worker_db, NOW) == 1


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
    assert await service.roll_up(worker_db, NOW) == 2
    assert await read(db, one, hours) == [120, 60]
    await send(db, [point(name, 3, 12, outcome="approved")])
    await fold(worker_db, NOW)
    assert await read(db, one, hours) == [130, 60]
    await service.roll_up(worker_db, NOW)
    assert await read(db, one, hours) == [130, 60]


async def test_an_account_that_the_sender_does_not_know_has_no_key(db: Database) -> None:
    account, stranger = await make.account(db), await make.account(db)
    points = [point(account.external_id, 0, 1), point(stranger.external_id, 0, 1), point("nobody", 0, 1)]
    scope = f"account:{account.id}"
    registry = Registry(db)
    await registry.keys(points, scope=SCOPE, subject="k", at=NOW)  # what an operator's key made known
    keys = await registry.keys(points, scope=scope, subject="k", at=NOW)
    assert [key is not None for key in keys] == [True, False, False]


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


steps = st.lists(
    st.tuples(st.integers(0, 2), st.integers(0, 3), st.integers(0, 9), st.sampled_from(Mode)), min_size=1
)


@given(st.lists(steps, min_size=1, max_size=5))
def test_merging_batches_is_applying_their_points_one_by_one(
    batches: list[list[tuple[int, int, int, Mode]]],
) -> None:
    keys = tuple(Key(uuid7(), uuid7(), uuid7()) for _ in range(3))
    expected: dict[tuple[Key, int], float] = {}
    start = {(key, minute * 60): 100.0 for key in keys for minute in range(4)}
    for batch in batches:
        for key, minute, value, mode in batch:
            place = keys[key], minute * 60
            before = expected.get(place, start[place])
            expected[place] = value if mode is Mode.REPLACE else before + value
    merged = merge([_columns(keys, batch) for batch in batches])
    found = {}
    for key, at, value, replaces in zip(merged.key, merged.at, merged.value, merged.replaces, strict=True):
        place = merged.keys[key], int(at)
        found[place] = value if replaces else start[place] + value
    assert found == expected


def _columns(keys: tuple[Key, ...], batch: list[tuple[int, int, int, Mode]]) -> Columns:
    key, minute, value, mode = (np.array(column) for column in zip(*batch, strict=True))
    made = Columns(
        keys=keys,
        key=key.astype(np.int32),
        at=(minute * 60).astype(np.int64),
        value=value.astype(np.float64),
        count=np.zeros(len(batch), np.int64),
        mode=mode.astype(np.uint8),
    )
    return columns.decode(columns.encode(made))
