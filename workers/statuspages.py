"""Applies what was seen on partners' status pages."""

from datetime import datetime

from domain.core.db import Database
from domain.statuspages import service as statuspages
from workers.runtime import task


@task("statuspages.apply")
async def apply(db: Database, at: datetime) -> int:
    """Snapshots dealt with."""
    return await statuspages.apply_waiting(db, at)
