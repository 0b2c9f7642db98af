"""Moves the log into minutes and minutes into hours; makes and drops partitions."""

import time
from datetime import datetime

from domain.core.db import Database
from domain.telemetry import fold as folding
from domain.telemetry import service as telemetry
from workers.runtime import task

_TURNS = 20
_BUDGET_S = 30.0


@task("telemetry.fold")
async def fold(db: Database, at: datetime) -> int:
    """Points folded; each turn is a transaction of its own, and what is left waits for the next task."""
    points = 0
    for _ in range(_TURNS):
        folded = await folding.fold(db, at)
        points += folded
        if not folded:
            break
    return points


@task("telemetry.roll_up")
async def roll_up(db: Database, at: datetime) -> int:
    """Hours recomputed; each turn is a transaction of its own."""
    began, hours = time.monotonic(), 0
    while time.monotonic() - began < _BUDGET_S:
        now = await telemetry.roll_up(db, at)
        hours += now
        if not now:
            break
    return hours


@task("telemetry.make_partitions")
async def make_partitions(db: Database, at: datetime) -> None:
    async with db.transaction() as session:
        await telemetry.make_partitions(session, at)


@task("telemetry.drop_partitions")
async def drop_partitions(db: Database, at: datetime) -> int:
    """Days dropped."""
    async with db.transaction() as session:
        return await telemetry.drop_partitions(session, at)
