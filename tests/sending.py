"""Points put into the log as an acknowledged request leaves them there, without the door in front of it."""

from collections.abc import Sequence
from datetime import datetime

import numpy as np

from domain.core.db import Database, raw
from domain.telemetry import columns, sketches
from domain.telemetry.columns import Columns
from domain.telemetry.decoded import Decoded
from domain.telemetry.placing import Registry
from domain.telemetry.points import Mode, Point
from domain.telemetry.senders import Sender
from domain.telemetry.slots import Slots

_LOG = "INSERT INTO ingest_log (received_at, backfill, points, columns) VALUES ($1, $2, $3, $4)"


async def send(
    db: Database,
    *points: Point,
    at: datetime,
    subject: str = "key:a",
    scope: str = "operator",
    is_backfill: bool = False,
) -> Columns:
    """Register what is new and log the points, received `at`; what was logged."""
    registry = Registry(db)
    placed = await registry.place(decode(points, registry.slots), Sender(scope, subject), at=at)
    assert not placed.refused
    await log(db, placed.columns, at=at, is_backfill=is_backfill)
    return placed.columns


async def log(db: Database, batch: Columns, *, at: datetime, is_backfill: bool = False) -> None:
    async with db.transaction("log") as session:
        blob = columns.encode(batch)
        await (await raw(session)).execute(_LOG, at, is_backfill, len(batch), blob)


def decode(points: Sequence[Point], slots: Slots) -> Decoded:
    """The points as a decoder gives them; a distribution's single observations have their sketch."""
    names = list(dict.fromkeys(point.source for point in points))
    slot = [slots.slot(point.account, point.metric, point.labels) for point in points]
    flags = slots.flags(np.array(slot, np.int32))
    single = [row for row, point in enumerate(points) if point.count == 1 and flags[row] & 4]
    return Decoded(
        slot=np.array(slot, np.int32),
        source=np.array([names.index(point.source) for point in points], np.int32),
        sources=tuple(names),
        at=np.array([point.at for point in points], np.int64),
        value=np.array([point.total for point in points], np.float64),
        count=np.array([point.count or 0 for point in points], np.int64),
        mode=np.array([point.mode for point in points], np.uint8),
        start=np.zeros(len(points), np.int64),
        time=np.array([point.at * 10**9 * (point.mode is Mode.CUMULATIVE) for point in points], np.int64),
        number=np.array([point.number for point in points], np.int32),
        sketches=sketches.of_values(
            np.array([points[row].value for row in single]), rows=np.array(single, np.int64), n=len(points)
        ),
    )
