"""Applies what was seen on partners' status pages."""

from datetime import datetime

from domain.core.db import Database
from domain.statuspages import service as statuspages
from workers.runtime import task


@task("statuspages.apply")
async def apply(db: Database, at: datetime) -> int:
    """Snapshots applied: all that wait, a hundred a transaction."""
    applied = 0
    while True:
        async with db.transaction() as session:
            now = await statuspages.apply_waiting(session, at)
        applied += now
        if not now:
            return applied
