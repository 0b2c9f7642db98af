"""Moves the log into minutes, rolls them up and packs them; makes partitions and drops what is old."""

import time
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta

from domain.core.db import Database
from domain.core.settings import Settings
from domain.telemetry import fold as folding
from domain.telemetry import packs, rollups
from domain.telemetry import service as telemetry
from workers.runtime import task

_BUDGET_S = 30.0


@task("telemetry.fold")
async def fold(db: Database, at: datetime) -> int:
    """Points folded; each turn is a transaction of its own."""
    return await _in_turns(lambda: folding.fold(db, at))


@task("telemetry.roll_up")
async def roll_up(db: Database, at: datetime) -> int:
    """Windows recomputed; each turn is a transaction of its own."""
    return await _in_turns(lambda: rollups.roll_up(db, at))


@task("telemetry.pack")
async def pack(db: Database, at: datetime) -> int:
    """Days of shards packed into chunks."""
    return await _in_turns(lambda: packs.pack(db, at))


async def _in_turns(work: Callable[[], Awaitable[int]]) -> int:
    """What is left when the time is over waits for the next task."""
    began, done = time.monotonic(), 0
    while time.monotonic() - began < _BUDGET_S:
        now = await work()
        done += now
        if not now:
            break
    return done


@task("telemetry.make_partitions")
async def make_partitions(db: Database, at: datetime) -> None:
    async with db.transaction() as session:
        await telemetry.make_partitions(session, at)


@task("telemetry.drop_old")
async def drop_old(db: Database, at: datetime) -> int:
    """Days dropped."""
    settings = Settings.load()
    keep = telemetry.Keep(
        *(
            timedelta(days=days)
            for days in (
                settings.keep_minutes,
                settings.keep_five_minutes,
                settings.keep_hours,
                settings.keep_days,
            )
        )
    )
    return await telemetry.drop_old(db, at, keep)
