"""Judges what has come in."""

from datetime import datetime

from domain.anomalies import service as anomalies
from domain.core.db import Database
from workers.runtime import task


@task("anomalies.judge")
async def judge(db: Database, at: datetime) -> int:
    """Account-minutes judged."""
    return await anomalies.judge(db, at)
