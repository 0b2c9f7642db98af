"""A real day of payments is judged to the same incidents in whatever pieces it comes."""

import csv
import os
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import select

from domain.anomalies.models import Anomaly, Phase, Watch
from domain.anomalies.service import judge
from domain.catalog.models import Account
from domain.core.db import Database
from domain.incidents.detected import follow
from domain.incidents.models import Incident, IncidentAccount, Origin, Resolution
from domain.telemetry.fold import fold
from domain.telemetry.models import Series
from domain.telemetry.points import Point
from tests import make, sending

DAY = datetime(2026, 11, 20, tzinfo=UTC)
NOW = datetime(2026, 11, 23, 9, tzinfo=UTC)
OUTCOMES = {"denied": "declined", "backend_reversed": "reversed"}


@pytest.fixture
def day_of_payments() -> list[tuple[int, str, float]]:
    """(minute of the day, outcome, count) of a day on which completion fell from 14:30 to 18:30."""
    folder = os.environ.get("VITALS_TEST_DATA")
    if folder is None:
        pytest.skip("VITALS_TEST_DATA is not set")
    counts: dict[tuple[int, str], float] = {}
    with (Path(folder) / "payments/cloudwalk/transactions_1.csv").open() as file:
        for row in csv.DictReader(file):
            minute = int(row["time"][:2]) * 60 + int(row["time"][4:6])
            outcome = OUTCOMES.get(row["status"], row["status"])
            counts[minute, outcome] = counts.get((minute, outcome), 0) + float(row["f0_"])
    return [(minute, outcome, count) for (minute, outcome), count in sorted(counts.items())]


async def feed(
    db: Database, worker_db: Database, account: Account, rows: Sequence[tuple[int, str, float]], *, every: int
) -> None:
    """Send the day in pieces of `every` minutes, folding, judging and following after each."""
    for start in range(0, 1440, every):
        points = [
            Point(
                account=account.external_id,
                metric="payments.count",
                at=int(DAY.timestamp()) + minute * 60,
                value=count,
                labels=(("outcome", outcome),),
            )
            for minute, outcome, count in rows
            if start <= minute < start + every
        ]
        if points:
            subject = f"key:{account.external_id}"
            await sending.send(db, *points, subject=subject, at=NOW)
        await advance(worker_db, account.id, at=NOW)
    await advance(worker_db, account.id, at=NOW + timedelta(minutes=2))


async def advance(worker_db: Database, account_id: UUID, *, at: datetime) -> None:
    await fold(worker_db, at)
    await judge(worker_db, at)
    async with worker_db.transaction() as session:
        await follow(session, account_id, at=at)


async def incidents(worker_db: Database) -> list[Incident]:
    async with worker_db.read() as session:
        return list(await session.scalars(select(Incident).order_by(Incident.started_at)))


async def episodes(worker_db: Database) -> list[tuple[Any, ...]]:
    async with worker_db.read() as session:
        rows = await session.execute(
            select(
                Series.metric, Anomaly.started_at, Anomaly.detected_at, Anomaly.ended_at, Anomaly.score,
                Anomaly.observed, Anomaly.expected, Anomaly.sample_size,
            )
            .join(Series, Series.id == Anomaly.series_id)
            .order_by(Anomaly.started_at, Series.metric)
        )  # fmt: skip
        return [tuple(row) for row in rows]


async def test_one_incident_tells_the_afternoon_and_nothing_else_opens(
    db: Database, worker_db: Database, day_of_payments: list[tuple[int, str, float]]
) -> None:
    account = await make.account(db, time_zone="UTC")
    await feed(db, worker_db, account, day_of_payments, every=1440)
    first, *later = await incidents(worker_db)
    assert DAY + timedelta(hours=14, minutes=25) <= first.started_at <= DAY + timedelta(hours=14, minutes=45)
    assert first.resolved_at is not None
    assert first.resolved_at <= DAY + timedelta(hours=19, minutes=10)
    assert (first.origin, first.resolution) == (Origin.DETECTED, Resolution.OBSERVED)
    assert len(later) <= 1
    assert all(one.started_at >= DAY + timedelta(hours=19, minutes=10) for one in later)
    async with worker_db.read() as session:
        reached = (await session.scalars(select(IncidentAccount))).all()
        phases = await session.execute(
            select(Series.metric, Watch.phase).join(Series, Series.id == Watch.series_id)
        )
    assert [one.account_id for one in reached if one.incident_id == first.id] == [account.id]
    assert dict(phases.all())["payments.attempted"] is Phase.LEARNING


async def test_the_same_incidents_come_of_any_pieces(
    db: Database, worker_db: Database, day_of_payments: list[tuple[int, str, float]]
) -> None:
    found = []
    for every in (1440, 10, 61):
        account = await make.account(db, time_zone="UTC")
        await feed(db, worker_db, account, day_of_payments, every=every)
    async with worker_db.read() as session:
        accounts = (await session.scalars(select(Anomaly.account_id).distinct())).all()
    everything = await episodes(worker_db)
    assert len(accounts) == 3
    assert len(everything) % 3 == 0
    for index in range(0, len(everything), 3):
        assert everything[index] == everything[index + 1] == everything[index + 2]
    told = [
        (one.started_at, one.detected_at, one.resolved_at, one.impact) for one in await incidents(worker_db)
    ]
    for index in range(0, len(told), 3):
        found.append(set(told[index : index + 3]))
    assert all(len(one) == 1 for one in found)
