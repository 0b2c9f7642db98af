"""What the release before kept a row a point is in blocks after the upgrade; what waited comes after it."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

import asyncpg
import numpy as np
from sqlalchemy import select

from domain.core.db import Database
from domain.core.ids import uuid7
from domain.core.settings import WORKER
from domain.telemetry.fold import fold
from domain.telemetry.models import Series
from domain.telemetry.points import Mode
from domain.telemetry.queries import read
from domain.telemetry.windows import Resolution, Window
from ops import migrate
from tests.conftest import Cluster
from tests.domain.test_columns import old_batch

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)


async def test_minutes_of_the_release_before_are_kept_and_what_waited_in_its_log_comes_after_them(
    cluster: Cluster, new_database: Callable[[], Awaitable[str]]
) -> None:
    name = await new_database()
    settings = cluster.settings(name)
    await asyncio.to_thread(migrate.upgrade, settings)
    await asyncio.to_thread(migrate.downgrade, settings, "0001")
    account, series, source = uuid7(), uuid7(), uuid7()
    connection = await asyncpg.connect(cluster.url(database=name))
    await connection.execute(
        "INSERT INTO accounts (id, external_id, name, country, currency, time_zone, created_at)"
        " VALUES ($1, 'shop', 'Shop', 'BR', 'BRL', 'UTC', now())", account,
    )  # fmt: skip
    await connection.execute(
        "INSERT INTO series (id, account_id, metric, labels, is_measured, fingerprint, created_at)"
        " VALUES ($1, $2, 'payments.count', '{}', true, 'x', now())", series, account,
    )  # fmt: skip
    await connection.execute("INSERT INTO sources VALUES ($1, 'operator', 'a', now())", source)
    await connection.execute("SELECT make_minutes_partitions($1)", [NOON.date()])
    await connection.executemany(
        "INSERT INTO minutes VALUES ($1, $2, $3, $4, $5, 0)",
        [(account, series, NOON + timedelta(minutes=minute), source, 5.0) for minute in range(3)],
    )
    second = int(NOON.timestamp())
    waiting = old_batch(
        [(account, series, source)], [(0, second, 7.0, 0, Mode.REPLACE), (0, second + 60, 2.0, 0, Mode.ADD)]
    )
    await connection.execute(
        "INSERT INTO ingest_log (received_at, backfill, points, columns) VALUES (now(), false, 2, $1)",
        waiting,
    )
    await connection.close()

    await asyncio.to_thread(migrate.upgrade, settings)

    worker = Database(settings.worker_database_url, WORKER)
    assert await fold(worker, NOON + timedelta(hours=1)) == 5
    async with worker.read() as session:
        one = (await session.scalars(select(Series).where(Series.is_measured))).one()
        [data] = await read(session, [one], Window(NOON, NOON + timedelta(minutes=4), Resolution.MINUTE))
    await worker.dispose()
    assert data.values.tolist()[:3] == [7, 7, 5]
    assert np.isnan(data.values[3])
